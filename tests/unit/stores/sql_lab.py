"""Both databases behind one face: what a person does to them by hand, beside the store."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import evolve

from podnet.model.addresses import Address
from podnet.model.block import Block
from podnet.model.lease import Lease, Owner
from podnet.stores import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

DOMAIN = "lab"
KEY = "lab/4/005000"
FIRST = 0x5000 << 9  # 10.0.0.0 is 0x0a000000


class Database:
    """One database.

    Attributes:
        url: for the store.
        refused: what the driver raises where a row breaks a rule.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.refused = sqlite3.IntegrityError if self.is_sqlite else psycopg.IntegrityError
        self._stack = contextlib.ExitStack()

    def open(self) -> Any:
        store = sql.open(self.url)
        self._stack.callback(store.close)
        return store

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        if self.is_sqlite:
            connection = sqlite3.connect(self.url.removeprefix("sqlite:"), isolation_level=None)
            connection.execute("PRAGMA foreign_keys = ON")
        else:
            connection = psycopg.connect(self.url, autocommit=True)
        try:
            yield connection
        finally:
            connection.close()

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as psql or sqlite3 would; return the rows of the last one."""
        with self.connection() as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._stack.close()


def owner(number: int) -> Owner:
    return Owner(f"container-{number}", "eth1", "default", f"pod-{number}", f"uid-{number}")


def lease(offset: int, number: int = 0, **rest: Any) -> Lease:
    known = {"pool": "storage", "length": 24, "since": 1.7e9 + number / 8, "sequence": number}
    given = {"domain": DOMAIN, "ip": Address(4, FIRST + offset), "owner": owner(number)}
    return Lease(**given, **known | rest)


def block(*leases: Lease, **rest: Any) -> Block:
    held = {each.ip.value - FIRST: each for each in leases}
    return Block(domain=DOMAIN, version=4, index=0x5000, leases=held, **rest)


def put(store: Any, new: Block, key: str = KEY) -> str:
    entry = store.load(key)
    assert store.swap(key, new, None if entry is None else entry[1]) is True
    return store.load(key)[1]


def with_lease(old: Block, added: Lease) -> Block:
    return evolve(old, leases={**old.leases, added.ip.value - FIRST: added})
