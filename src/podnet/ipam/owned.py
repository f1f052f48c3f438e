"""Blocks that one node holds: how its own copy and the shared one change and come together.

A held block counts as its holder's own record has it; the shared copy is what the holder told
last. Others may change the shared copy in two ways only: ask for the block back (``recalled``), or
take leases away. That is why no third copy is kept to compare with. The shared copy's ``sequence``
says how far the holder has told: a lease of his with a number up to it was in the shared copy once,
so if it is not there any more, others took it away; one with a higher number has not been told yet.

Whether a holder is one still is told by the same number. It grows with every claim, and by far
with every reclaim, so that a shared copy with a higher number than the record's was written by
somebody who held the block later.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.ipam import space
from podnet.model import pool as pools
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block, thawed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podnet.ipam.space import Interval
    from podnet.model.lease import Lease
    from podnet.model.pool import Pool

OWNED_FROM = 16
"""Blocks from which on a pool of mode ``auto`` is owned; docs/explanation/ipam.md tells why."""

_EPOCH_BITS = 32


class State(enum.Enum):
    """What a record in the holder's own store says.

    Attributes:
        CLAIMING: the node is about to take the block, or was when it died; if the shared copy does
            not name it with the record's number, it does not hold it.
        OPEN: the record counts; addresses are granted and taken back in it.
        CLOSING: the node is about to give the block back; nothing is granted in it any more, and
            it counts until the shared copy no longer names the node.
    """

    CLAIMING = "claiming"
    OPEN = "open"
    CLOSING = "closing"


@frozen
class Conflict:
    """A lease that was granted by a node after its block had been taken from it by force.

    Attributes:
        lease: as the node granted it; its owner may use the address still.
        holder: who has the address now; None if nobody has, and it may be granted at any time.
    """

    lease: Lease
    holder: Lease | None

    def __str__(self) -> str:
        now = f"is held by {self.holder.owner} now" if self.holder else "is free for others now"
        return f"{self.lease.ip} of {self.lease.owner} {now}"


def state_of(record: Block) -> State:
    """Return what a record says."""
    if not record.holder:
        return State.CLAIMING
    return State.CLOSING if record.recalled else State.OPEN


def claimed(block: Block, node: str, sequence: int) -> Block:
    """Return the shared copy that makes ``node`` the holder.

    Args:
        block: the unclaimed one.
        node: its holder to be.
        sequence: the number of this claim, above that of the block.
    """
    return evolve(block, holder=node, recalled=False, sequence=sequence)


def intent(claim: Block) -> Block:
    """Return the record to be kept while a claim is under way."""
    return evolve(claim, holder="")


def is_landed(record: Block, shared: Block | None, node: str) -> bool:
    """Tell whether the shared copy is what the claim of a record made it."""
    return shared is not None and (shared.holder, shared.sequence) == (node, record.sequence)


def opened(shared: Block) -> Block:
    """Return the record of a block just claimed."""
    return evolve(shared, recalled=False)


def closing(record: Block) -> Block:
    """Return the record of a block that is to be given back."""
    return evolve(record, recalled=True)


def is_held(record: Block, shared: Block | None, node: str) -> bool:
    """Tell whether a record, open or closing, still counts.

    Args:
        record: read after ``shared``: it has every number that the holder has told.
        shared: the shared copy, or None if there is none.
        node: the holder.
    """
    return shared is not None and shared.holder == node and shared.sequence <= record.sequence


def merge(record: Block, shared: Block, now: float) -> tuple[Block, tuple[Lease, ...]]:
    """Return the record without what others took away from the shared copy, and what that was.

    The record itself is returned where they took nothing.

    Args:
        record: the holder's, and it counts.
        shared: the shared copy.
        now: seconds since the epoch; the time of a release that the shared copy tells goes first.
    """
    told, there = shared.sequence, shared.leases
    gone = [
        offset
        for offset, lease in record.leases.items()
        if lease.sequence <= told and offset not in there
    ]
    if not gone:
        return record, ()
    new = _without(record, gone, {each: shared.freed.get(each, now) for each in gone})
    return new, tuple(record.leases[offset] for offset in gone)


def is_told(record: Block, shared: Block) -> bool:
    """Tell whether the shared copy says all that an open record says; else that itself would."""
    return (
        record.sequence == shared.sequence
        and record.leases == shared.leases
        and record.freed == shared.freed
    )


def given_back(record: Block) -> Block:
    """Return the shared copy that tells all and belongs to nobody."""
    return evolve(record, holder="", recalled=False)


def conflicts(record: Block, shared: Block | None) -> tuple[Conflict, ...]:
    """Return what became of a record's leases that were taken away together with the block.

    There are none if the block was given back in good order: what is missing then in the shared
    copy was released by those who might.
    """
    closed = state_of(record) is State.CLOSING
    if closed and shared is not None and _epoch(shared) == _epoch(record):
        return ()
    there: Mapping[int, Lease] = {} if shared is None else shared.leases
    return tuple(
        Conflict(lease, there.get(offset))
        for offset, lease in sorted(record.leases.items())
        if offset not in there or there[offset].sequence != lease.sequence
    )


def reclaimed(
    block: Block, node: str, now: float, *, holder: str = ""
) -> tuple[Block, tuple[Lease, ...]]:
    """Return the shared copy of a block without a dead node, and the leases that ended with it.

    Leases of other nodes stay, and so do those that a claim keeps. What the node granted and did
    not tell is unknown: every free address of a block it held counts as released just now, and
    rests. The block itself is returned where the node has nothing in it.

    Args:
        block: the shared copy.
        node: the dead one.
        now: seconds since the epoch.
        holder: what its name as a holder reads here, if not ``node``.
    """
    gone = [
        offset for offset, lease in block.leases.items() if lease.node == node and not lease.claim
    ]
    new = _without(block, gone, dict.fromkeys(gone, now))
    if block.holder == (holder or node):
        free = dict.fromkeys((x for x in range(BLOCK_SIZE) if x not in new.leases), now)
        # Above every number that the dead node can have granted without telling.
        sequence = (_epoch(block) + 1) << _EPOCH_BITS
        new = evolve(new, holder="", recalled=False, freed=free, sequence=sequence)
    return new, tuple(block.leases[offset] for offset in sorted(gone))


def _epoch(block: Block) -> int:
    return block.sequence >> _EPOCH_BITS


def _without(block: Block, gone: Sequence[int], freed: Mapping[int, float]) -> Block:
    if not gone:
        return block
    leases, taken = thawed(block.leases), block.taken
    for offset in gone:
        del leases[offset]
        taken &= ~(1 << offset)
    return block.changed(leases, {**block.freed, **freed}, block.sequence, taken)


def is_owned(pool: Pool, spans: Sequence[Interval]) -> bool:
    """Tell whether nodes that can hold blocks are to do so in a pool.

    Args:
        pool: its mode is one of ``pools.MODES``.
        spans: every address it may hand out.
    """
    if pool.mode == pools.AUTO:
        return space.block_count(spans) >= OWNED_FROM
    return pool.mode == pools.OWNED


def block_runs(spans: Sequence[Interval]) -> tuple[Interval, ...]:
    """Return the indexes of the blocks that intervals touch, as runs: ascending, none touching."""
    runs: list[Interval] = []
    for low, high in spans:
        first, last = low >> BLOCK_BITS, high >> BLOCK_BITS
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = runs[-1][0], max(last, runs[-1][1])
        else:
            runs.append((first, last))
    return tuple(runs)


def inside(spans: Sequence[Interval], index: int) -> tuple[Interval, ...]:
    """Return the parts of ascending intervals that lie in one block."""
    low = index << BLOCK_BITS
    return tuple(space.clipped(spans, low, low + BLOCK_SIZE - 1))
