"""Pools with many leases in them, made without allocating each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.lease import Lease

from .callers import owner, pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.ports import Store

FIRST_NUMBER = 1 << 41
"""Owners of these leases have numbers from here on."""

_SINCE = 1_700_000_000.125


def full_blocks(leases: int, nodes: int = 100) -> Iterator[Block]:
    """Return the first blocks of the pool, full, until they have so many leases together."""
    where = pool()
    first = where.network.first >> BLOCK_BITS
    for number in range(-(-leases // BLOCK_SIZE)):
        index = first + number
        held = {
            offset: Lease(
                domain=where.domain,
                pool=where.name,
                ip=Address(4, (index << BLOCK_BITS) + offset),
                length=where.network.length,
                owner=owner(FIRST_NUMBER + number * BLOCK_SIZE + offset),
                node=f"node-{number % nodes}",
                network="bench",
                since=_SINCE + offset,
                sequence=offset + 1,
            )
            for offset in range(BLOCK_SIZE)
        }
        yield Block(domain=where.domain, version=4, index=index, leases=held, sequence=BLOCK_SIZE)


def fill(store: Store, leases: int) -> None:
    """Put so many leases into a store."""
    for block in full_blocks(leases):
        assert store.swap(block.key, block, None)
