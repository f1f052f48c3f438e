"""A store in a SQL database: SQLite for one host without set-up, PostgreSQL for many nodes.

This module imports nothing heavy: it says what is missing where ``podnet[sql]`` is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError
from podnet.model.urls import masked

if TYPE_CHECKING:
    from podnet.stores.sql_store import SqlStore


def open(url: str) -> SqlStore:  # noqa: A001 - what a store module offers is called open
    """Open ``sqlite:FILE``, or a PostgreSQL database by the URL that ``libpq`` takes.

    As SQLAlchemy has it, ``sqlite:///leases.db`` is in the working folder, and
    ``sqlite:////var/lib/podnet/leases.db``, with four slashes, is not.

    Raises:
        InvalidConfigError: it is no such URL, or ``podnet[sql]`` is not installed.
        StoreError: the database cannot be opened, or its tables are a later podnet's.
        StoreBusyError: it is busy, or about to start.
    """
    scheme, _, rest = url.partition(":")
    try:
        from podnet.stores.sql_store import SqlStore

        if scheme == "sqlite":
            from podnet.stores.sql_sqlite import SqliteDatabase

            return SqlStore(SqliteDatabase(_file(url, rest)))
        if scheme in ("postgresql", "postgres") and rest.startswith("//"):
            from podnet.stores.sql_postgres import PostgresDatabase

            return SqlStore(PostgresDatabase(url, masked(url)))
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("sqlalchemy", "psycopg"):
            raise
        raise InvalidConfigError(
            f"store {masked(url)!r} needs {error.name}, which is not installed: "
            "install podnet with its extra 'sql'"
        ) from error
    raise InvalidConfigError(f"store {masked(url)!r} is not sqlite:FILE or postgresql://…")


def _file(url: str, rest: str) -> str:
    """Return the path in a URL of SQLite."""
    host, slash, path = rest[2:].partition("/") if rest.startswith("//") else ("", "/", rest)
    if host not in ("", "localhost"):
        raise InvalidConfigError(f"store {url!r} names the host {host!r}: files are local")
    if not slash or not path or path == ":memory:" or path.endswith("/"):
        raise InvalidConfigError(
            f"store {url!r} is not sqlite:FILE", (("file", "memory: keeps leases in memory"),)
        )
    if "?" in path:
        raise InvalidConfigError(f"store {url!r} has parameters, and sqlite:FILE takes none")
    return path
