"""An administrator's reservations: leases that no container has, and that nothing sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, thawed
from podnet.model.lease import Lease, Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from podnet.ipam.want import IpamWant
    from podnet.model.addresses import Span
    from podnet.model.block import Block
    from podnet.model.pool import Pool

PREFIX = "reserved:"
"""What the claims of such leases begin with."""


def reservation(reason: str) -> str:
    """Return the claim of a reservation."""
    return f"{PREFIX}{reason}"


def reserve(
    block: Block, span: Span, reason: str, *, length: int, now: float
) -> tuple[Block, tuple[Lease, ...], tuple[Lease, ...]]:
    """Keep the free addresses of a span for other uses.

    Args:
        block: where.
        span: which addresses; those that are not in the block are left out.
        reason: told to whoever asks.
        length: prefix length for the leases.
        now: seconds since the epoch.

    Returns:
        The block, itself if nothing changes; the leases made; and the leases of others in the way.
    """
    claim = reservation(reason)
    leases = thawed(block.leases)
    made, held, sequence = [], [], block.sequence
    for offset in _offsets(block, span):
        there = leases.get(offset)
        if there is not None:
            if there.claim != claim:
                held.append(there)
            continue
        sequence += 1
        leases[offset] = Lease(
            domain=block.domain,
            pool="",
            ip=Address(block.version, block.first + offset),
            length=length,
            owner=Owner(claim, "-"),
            since=now,
            sequence=sequence,
            claim=claim,
        )
        made.append(leases[offset])
    if not made:
        return block, (), tuple(held)
    freed = {offset: when for offset, when in block.freed.items() if offset not in leases}
    new = evolve(block, leases=leases, freed=freed, sequence=sequence)
    return new, tuple(made), tuple(held)


def free(
    block: Block, span: Span, reason: str | None, *, now: float
) -> tuple[Block, tuple[Lease, ...]]:
    """Give reserved addresses of a span back.

    Args:
        block: where.
        span: which addresses.
        reason: only those reserved for it; None for any.
        now: seconds since the epoch.
    """
    gone = {
        offset: lease
        for offset in _offsets(block, span)
        if (lease := block.leases.get(offset)) is not None
        and lease.claim.startswith(PREFIX)
        and reason in (None, lease.claim.removeprefix(PREFIX))
    }
    if not gone:
        return block, ()
    kept = {offset: lease for offset, lease in block.leases.items() if offset not in gone}
    freed = {**block.freed, **dict.fromkeys(gone, now)}
    return evolve(block, leases=kept, freed=freed), tuple(gone.values())


def _offsets(block: Block, span: Span) -> range:
    low = max(span.first - block.first, 0)
    high = min(span.last - block.first, BLOCK_SIZE - 1)
    return range(low, high + 1) if span.version == block.version else range(0)


def without(want: IpamWant, spans: Sequence[Span]) -> IpamWant:
    """Return what is wanted, of pools that hand out none of these addresses either."""
    if not spans:
        return want
    return evolve(
        want, sets=[[with_reserved(each, spans) for each in pools] for pools in want.sets]
    )


def with_reserved(pool: Pool, spans: Iterable[Span]) -> Pool:
    """Return the pool that hands out none of these addresses either; itself if none is in it."""
    network = pool.network
    inside = tuple(
        span
        for span in spans
        if span.version == network.version
        and span.first <= network.last
        and network.first <= span.last
    )
    return evolve(pool, reserved=(*pool.reserved, *inside)) if inside else pool
