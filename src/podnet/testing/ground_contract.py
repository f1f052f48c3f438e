"""What the parts of the store contract stand on: how a store is opened, and blocks to put in it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block, block_key, key_parts
from podnet.model.lease import Lease, Owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.ports import Store

DOMAIN = "contract"


def contract_key(number: int, domain: str = DOMAIN) -> str:
    """Return the key of a block near 192.168.60.0 in a domain of the contract's."""
    return block_key(domain, 4, 0x60541E + number)


def contract_block(key: str, number: int = 0) -> Block:
    """Return a block to be kept under a key; another number makes another block.

    It is the block that the key names. A key that names none gets a domain of its own: in no
    store is one address of one domain kept under two keys.
    """
    domain, version, index = key_parts(key) or (key, 4, 0x60541E)
    offset = number % BLOCK_SIZE
    lease = Lease(
        domain=domain,
        pool="contract",
        ip=Address(version, (index << BLOCK_BITS) + offset),
        length=24,
        owner=Owner(f"container-{number}", "eth1", "default", f"pod-{number}", f"uid-{number}"),
        node="node-1",
        network="net",
        since=1.7e9 + number / 8,
        sequence=number,
    )
    return Block(
        domain=domain,
        version=version,
        index=index,
        leases={offset: lease},
        sequence=number,
        freed={(offset + 1) % BLOCK_SIZE: 1.7e9 + number / 16},
    )


class StoreGround:
    """How the parts of the contract open a store; the attributes say what it claims to be.

    Attributes:
        durable: what was swapped in is there when the store is opened again; needs ``reopen``.
        multi_process: several processes may use the same blocks at once; needs ``reopen``.
        seeks: it has ``seek`` (``podnet.ports.Seeker``).
        odd_keys: it takes any printable text for a key; False for a store that keeps blocks
            under their own keys only.
        threads: threads of the concurrency tests.
    """

    durable = False
    multi_process = False
    seeks = False
    odd_keys = True
    threads = 8

    def open(self) -> Store:
        """Return a new store without blocks; called many times in one test."""
        raise TypeError("open() has to be overridden: it returns a new, empty store")

    def reopen(self, store: Store) -> Store:
        """Return another handle on the blocks of ``store``, as a second process would get it."""
        raise TypeError("reopen(store) has to be overridden where durable or multi_process is True")

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        """Return a new store that is closed afterwards."""
        store = self.open()
        try:
            yield store
        finally:
            store.close()

    def needs(self, capability: str) -> None:
        """Skip a test of what the store does not claim."""
        if not getattr(self, capability):
            pytest.skip(f"the store does not claim: {capability}")


def package_of(store: Store) -> str:
    """Return the package that the store's code is in."""
    return type(store).__module__.partition(".")[0]


def version_of(store: Store, key: str) -> str | None:
    """Return the version at a key; None where nothing is."""
    entry = store.load(key)
    return None if entry is None else entry[1]


def loaded(store: Store, key: str) -> tuple[Block, str]:
    """Return what is at a key, where something has to be."""
    entry = store.load(key)
    assert entry is not None, f"{key!r} is missing"
    return entry


def put(store: Store, block: Block) -> str:
    """Swap a block in over whatever is at its own key; return the version."""
    assert store.swap(block.key, block, version_of(store, block.key)) is True
    return loaded(store, block.key)[1]


def clear(store: Store) -> None:
    """Delete every block: what was before an example of Hypothesis' must not decide its outcome."""
    for key in list(store.keys("")):
        assert store.swap(key, None, version_of(store, key)) is True
