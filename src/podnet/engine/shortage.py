"""Why an address cannot be had, in words that tell who has it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from podnet.errors import PodnetError, PoolExhaustedError, StoreError
from podnet.ipam import space
from podnet.model.block import BLOCK_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.engine.blocks import Found
    from podnet.ipam.space import Interval
    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.model.pool import Pool

_NAMED_HOLDERS = 5


def checked(value: int | None, spans: tuple[Interval, ...], found: Found) -> int | None:
    """Let a picker's choice pass if it is free: a picker may be a stranger's."""
    if value is None:
        return None
    block = found.blocks.get(value >> BLOCK_BITS)
    held = block is not None and value - block[0].first in block[0].leases
    if held or not space.covers(spans, value):
        raise PodnetError(f"the picker chose {value:#x}, which is not free")
    return value


def exhausted(pool: Pool, spans: tuple[Interval, ...], found: Found) -> PoolExhaustedError:
    """Return the error that a full pool is told by: how many are held, and by whom."""
    size = space.size(spans)
    holders = [
        lease
        for _, (block, _) in sorted(found.blocks.items())
        for _, lease in sorted(block.leases.items())
        if space.covers(spans, lease.ip.value)
    ]
    named = ", ".join(f"{lease.ip} by {lease.owner}" for lease in holders[:_NAMED_HOLDERS])
    more = len(holders) - _NAMED_HOLDERS
    return PoolExhaustedError(
        f"pool {pool.name!r} has no free address: it has {size} and all are held"
        if size
        else f"pool {pool.name!r} has no address: its excludes leave none",
        f"{named} and {more} more" if more > 0 else named,
    )


def held_by(lease: Lease) -> str:
    """Return who holds an address, since when, and where."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(lease.since))
    return f"by {lease.owner} since {since}" + (f" on node {lease.node}" if lease.node else "")


class Closed:
    """Stands where the store was: an address from a closed handle would be nobody's to release."""

    def load(self, _key: str) -> tuple[Block, str] | None:
        """Refuse."""
        raise self._refusal()

    def swap(self, _key: str, _new: Block | None, _expected: str | None) -> bool:
        """Refuse."""
        raise self._refusal()

    def keys(self, _prefix: str) -> Iterator[str]:
        """Refuse."""
        raise self._refusal()

    def close(self) -> None:
        """Be closed already."""

    def _refusal(self) -> StoreError:
        return StoreError("it is closed: what is done with a store is done before its close")
