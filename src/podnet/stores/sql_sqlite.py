"""The SQLite side of the SQL store: one file, written by one at a time."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from random import random
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import create_engine, insert, literal_column, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import QueuePool

from podnet import disk
from podnet.errors import IOFailureError, StoreBusyError, StoreError
from podnet.stores import sql_schema as schema
from podnet.stores import sql_statements as statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import ClauseElement, Connection

    from podnet.stores.sql_rows import Change

    Params = Mapping[str, object]

T = TypeVar("T")

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_TWICE = ("SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE")
_LONGEST_PAUSE = 0.005
_CONNECTIONS = 8

_DIALECT = sqlite.dialect(paramstyle="named")


def _sql(statement: ClauseElement) -> str:
    return statements.sql(statement, _DIALECT)


_VERSION_AT = _sql(statements.VERSION_AT)
_CREATE_BLOCK = _sql(
    sqlite.insert(schema.blocks)
    .values(block_key=statements.KEY, earlier=literal_column("''"), **statements.head_values())
    .on_conflict_do_nothing(index_elements=[schema.blocks.c.block_key])
)
_REPLACE_BLOCK = {anew: _sql(statements.replace_block(anew=anew)) for anew in (False, True)}
_DELETE_BLOCK = _sql(statements.DELETE)
_DELETE_ROWS = _sql(statements.DELETE_ROWS)
_INSERT_ROWS = _sql(insert(schema.addresses))
_UPSERT = sqlite.insert(schema.addresses)
_UPSERT_ROWS = _sql(
    _UPSERT.on_conflict_do_update(
        index_elements=statements.KEY_COLUMNS,
        set_={name: _UPSERT.excluded[name] for name in statements.UPDATED_COLUMNS},
    )
)


class SqliteDatabase:
    """A database file in WAL mode; commits are on the disk, for good.

    Attributes:
        place: how errors call it.
        engine: SQLAlchemy's, in autocommit mode: transactions are begun and ended here, because
            Python's module begins them too late to keep other writers out.
    """

    schema_there = text("SELECT 1 FROM sqlite_master WHERE name = 'podnet_schema'")
    errors = sqlite3.Error

    def __init__(self, path: str, *, timeout: float = 10.0) -> None:
        """Make the file, mode 0600, where it is missing, and its folder, mode 0700.

        Args:
            path: where.
            timeout: seconds to wait for other writers.

        Raises:
            StoreError: the folder or the file cannot be made.
        """
        self._path = os.path.abspath(path)
        self._timeout = timeout
        self.place = f"sqlite:{self._path}"
        try:
            disk.make_private_dir(os.path.dirname(self._path))
        except IOFailureError as error:
            raise StoreError(error.msg) from error
        try:
            # Not opened here: closing a file drops the locks that SQLite has on it anywhere in
            # this process (https://www.sqlite.org/howtocorrupt.html, 2.2). SQLite gives the
            # mode of the file to those that it puts beside it.
            os.mknod(self._path, 0o600)
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(f"cannot make {self._path}: {error.strerror or error}") from error
        self._writing = threading.Lock()
        self.engine = create_engine(
            "sqlite+pysqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=timeout,
            isolation_level="AUTOCOMMIT",
        )

    def _connect(self) -> sqlite3.Connection:
        # SQLite's own way to wait sleeps for up to 0.1 s at a time; _patiently waits instead.
        connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(f"{self.place}: its disk cannot do WAL, only {mode}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def after_fork(self) -> list[object]:
        """Make anew what belongs to the parent; return what must neither be used nor closed."""
        inherited = self.engine.pool
        self.engine.dispose(close=False)
        self._writing = threading.Lock()
        return [inherited]

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Return a connection in a transaction that excludes all other writers.

        Raises:
            StoreBusyError: others wrote for the whole timeout.
        """
        with self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            with _transaction(raw):
                self._patiently(lambda: raw.execute("BEGIN IMMEDIATE"))
                yield connection

    def read(self, statement: ClauseElement, params: Params) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement."""

        def once() -> Sequence[Sequence[Any]]:
            with self._connection() as connection:
                return connection.execute(_sql(statement), params).fetchall()

        return self._patiently(once)

    def delete(self, key: str, expected: str) -> bool:
        """Delete a block of a version; return whether there was one."""
        params = {"key": key, "expected": expected}
        with self._alone_here(), self._connection() as connection:
            return self._patiently(lambda: connection.execute(_DELETE_BLOCK, params).rowcount) == 1

    def write(self, change: Change) -> bool:
        """Write a change if its block is at the expected version; return whether it was."""
        with self._alone_here(), self._connection() as connection, _transaction(connection):
            return self._begin(connection, change) and _write(connection, change)

    def _begin(self, connection: sqlite3.Connection, change: Change) -> bool:
        """Begin to write; return False if another version is there already."""
        params = {"key": change.key}

        def once() -> bool:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                # Whoever writes now may be replacing this very block: who has lost need not wait.
                found = connection.execute(_VERSION_AT, params).fetchone()
                if _is_busy(error) and (found and found[0]) != change.expected:
                    return False
                raise
            return True

        return self._patiently(once)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def queue(self, _prefix: str) -> disk.Lock:
        """Return a lock; SQLite has one writer, so there is one for all prefixes."""
        return disk.Lock(f"{self._path}-queue", timeout=statements.QUEUE_TIMEOUT)

    @contextmanager
    def _alone_here(self) -> Iterator[None]:
        """Let one thread of this process write at a time: they wait here, not in SQLite."""
        writing = self._writing
        if not writing.acquire(timeout=self._timeout):
            raise self._too_late()
        try:
            yield
        finally:
            writing.release()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        pooled = self._patiently(self.engine.raw_connection)
        try:
            raw = pooled.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            yield raw
        finally:
            pooled.close()

    def _patiently(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns, as soon as others let it; it may be called again."""
        deadline = time.monotonic() + self._timeout
        pause = 0.0005
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                if time.monotonic() >= deadline:
                    raise self._too_late() from error
            time.sleep(pause * random())  # noqa: S311 - spreads writers, hides nothing
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _too_late(self) -> StoreBusyError:
        return StoreBusyError(f"{self.place} is locked by others for {self._timeout:g} s")

    def describe(self, error: BaseException) -> statements.Fault:
        """Return what an error says."""
        state = getattr(error, "sqlite_errorname", None) or ""
        return statements.Fault(str(error), state, _is_busy(error), state in _TWICE)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what was begun inside, if something was; take it back after an exception."""
    try:
        yield
        if connection.in_transaction:
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # SQLite takes back itself what it cannot commit
                connection.execute("ROLLBACK")


def _write(connection: sqlite3.Connection, change: Change) -> bool:
    params = _storable(statements.head_params(change), "new_sequence")
    block = _CREATE_BLOCK if change.expected is None else _REPLACE_BLOCK[change.anew]
    if connection.execute(block, params).rowcount != 1:
        return False
    if change.anew:
        connection.execute(_DELETE_ROWS, params)
    for statement, rows in ((_INSERT_ROWS, change.fresh), (_UPSERT_ROWS, change.known)):
        if rows:
            connection.executemany(
                statement, [_storable(change.stamp | row, "sequence") for row in rows]
            )
    return True


def _storable(values: dict[str, Any], sequence: str) -> dict[str, Any]:
    """Return values with a sequence that SQLite can keep: above 63 bits it is text."""
    return values if values[sequence] < 1 << 63 else {**values, sequence: str(values[sequence])}


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BUSY
