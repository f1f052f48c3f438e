"""Why an address cannot be had, in words that tell who has it."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from podnet.errors import PodnetError, PoolExhaustedError, StoreError
from podnet.ipam import space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podnet.ipam.space import Interval
    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.model.pool import Pool

_NAMED_HOLDERS = 5


def not_free(value: int) -> PodnetError:
    """Return the error of a picker that took what it was not offered; it may be a stranger's."""
    return PodnetError(f"the picker chose {value:#x}, which is not free")


def exhausted(
    pool: Pool, spans: tuple[Interval, ...], blocks: Iterable[Block]
) -> PoolExhaustedError:
    """Return the error that a full pool is told by: how many are held, and by whom.

    Args:
        pool: the pool.
        spans: every address it may hand out; all are held.
        blocks: the pool's blocks; read until enough holders are known.
    """
    size = space.size(spans)
    holders = (
        f"{lease.ip} by {lease.owner}"
        for block in blocks
        for _, lease in sorted(block.leases.items())
        if space.covers(spans, lease.ip.value)
    )
    named = list(islice(holders, _NAMED_HOLDERS))
    more = [f"and {size - len(named)} more"] if size > len(named) else []
    return PoolExhaustedError(
        f"pool {pool.name!r} has no free address: it has {size} and all are held"
        if size
        else f"pool {pool.name!r} has no address: its excludes leave none",
        " ".join([", ".join(named), *more]) if size else "",
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
