"""Connections to PostgreSQL: how they are made, kept, and given up."""

from __future__ import annotations

import select as polling
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import event, exc

from podnet.errors import InvalidConfigError

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Engine
    from sqlalchemy.pool import ConnectionPoolEntry, Pool

T = TypeVar("T")

# Seconds a connection may lie idle before it is tried out: firewalls forget without a word.
_IDLE = 30.0
_DEFAULTS: dict[str, Any] = {
    "application_name": "podnet",
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # A server that vanished is noticed in 10 + 3 * 5 seconds.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25000,
}


def read_url(url: str, shown: str) -> dict[str, Any]:
    """Return the parameters in a URL of libpq's.

    Args:
        url: ``postgresql://user:password@host:port/database?parameter=value``.
        shown: the same without secrets.

    Raises:
        InvalidConfigError: it is no such URL.
    """
    what = "user name or password has characters that have to be percent-encoded"
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        try:
            conninfo_to_dict(shown)
        except psycopg.Error as error:  # what is wrong with the rest can be told
            what = " ".join(str(error).split())
    else:
        # An `@` or `/` of the password moves the rest of it to where it would be shown.
        if not any("@" in str(given.get(name, "")) for name in ("host", "port", "dbname")):
            return given
    raise InvalidConfigError(f"store {shown!r} cannot be opened: {what}")


def connect(params: dict[str, Any], timeout: float) -> BoundedConnection:
    """Return a connection in autocommit mode, on which no statement runs for longer.

    Args:
        params: what ``read_url`` returned.
        timeout: seconds for one statement, waiting for locks included.

    Raises:
        psycopg.Error: there is none to be had.
    """
    connection = BoundedConnection.connect(**_DEFAULTS | params, autocommit=True)
    connection.most = 1.5 * timeout
    milliseconds = int(timeout * 1000)
    # Not as start-up parameters, which connection poolers refuse.
    connection.execute(
        f"SET statement_timeout = {milliseconds}; SET lock_timeout = {milliseconds};"
        "SET default_transaction_isolation = 'read committed';"
        f"SET idle_in_transaction_session_timeout = {milliseconds}"
    )
    return connection


def watch(pool: Pool | Engine) -> None:
    """Replace connections of a pool that the server has ended meanwhile."""
    event.listen(pool, "checkout", _make_sure)
    event.listen(pool, "checkin", _note_time)


class _NoAnswerError(Exception):
    """The server did not answer in time."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection on which nothing waits for ever.

    The server's own timeouts end statements that wait. A server that is stopped, or whose disk
    hangs, does not end them, and TCP sees nothing wrong with it.

    Attributes:
        most: seconds to wait for an answer.
    """

    most = 15.0

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Wait for the server as psycopg does, but not longer than ``most``.

        Raises:
            psycopg.OperationalError: it did not answer; the connection is closed.
        """
        try:
            return super().wait(_within(gen, self.most), *args, **options)
        except _NoAnswerError:
            self.close()
            raise psycopg.OperationalError(
                f"the server did not answer for {self.most:g} s"
            ) from None


def _within(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """Pass on what ``gen`` waits for; psycopg comes back every 0.1 s without news."""
    deadline = time.monotonic() + seconds
    try:
        waits_for = next(gen)
        while True:
            ready = yield waits_for
            if not ready and time.monotonic() > deadline:
                raise _NoAnswerError
            waits_for = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def _make_sure(raw: Any, entry: ConnectionPoolEntry, _proxy: object) -> None:
    """Refuse a pooled connection that the server has ended, which costs no round trip to see."""
    used = entry.info.get("used")
    if used is None:
        return
    news = polling.poll()
    news.register(raw.fileno(), polling.POLLIN)
    try:
        # What comes without having been asked for is seldom anything but its end.
        if news.poll(0) or time.monotonic() - used > _IDLE:
            raw.execute("SELECT 1")
    except psycopg.Error as error:
        raise exc.DisconnectionError(str(error)) from error


def _note_time(_raw: object, entry: ConnectionPoolEntry) -> None:
    entry.info["used"] = time.monotonic()
