"""Where a node hands out of in one pool: its own blocks with room, and which to take next."""

from __future__ import annotations

from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING

from podnet.ipam import owned, space
from podnet.model.block import block_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from podnet.engine.lanes import Lane, Plan
    from podnet.ipam.space import Interval
    from podnet.model.block import Block

# A block is worth taking if this part of what the pool has in it is free.
_WORTH = 8
# Blocks that exist and are looked at for room before others' are asked for.
_LOOKS = 8
# Blocks of nobody's that are tried one after the other for a single address.
_BORROWED = 4
# Seconds for which a list of the blocks that exist, or that none of them is worth taking, is good.
_LISTED_FOR = 60.0
_BARREN_FOR = 1.0


class Rooms:
    """One pool as its node sees it. What it knows may be old; whoever uses it makes sure.

    Attributes:
        plan: the pool.
        lane: what is known of its domain's blocks.
    """

    def __init__(self, plan: Plan, lane: Lane, *, node: str) -> None:
        """Know nothing yet; ``sync`` tells which blocks are held."""
        self.plan = plan
        self.lane = lane
        self._node = node
        self._runs = owned.block_runs(plan.spans)
        self._size = sum(high - low + 1 for low, high in self._runs)
        digest = blake2b(f"{node}\0{lane.domain}".encode("utf-8", "surrogatepass"))
        self._at = self._nth(int.from_bytes(digest.digest()) % self._size) if self._size else 0
        self._lent = self._at
        self._generation = -1
        self._mine: set[int] = set()
        # Insertion ordered: the first is used until it is full.
        self._roomy: dict[int, None] = {}
        # Blocks whose free addresses rest, with the time when the first has rested.
        self._resting: dict[int, float] = {}
        self._unfit: set[int] = set()
        self._listed: float | None = None
        self._barren: float | None = None
        lane.listen(self)

    def _nth(self, number: int) -> int:
        for low, high in self._runs:
            if number <= high - low:
                return low + number
            number -= high - low + 1
        return self._runs[0][0]

    def parts(self, index: int) -> tuple[Interval, ...]:
        """Return what of a block is the pool's to hand out."""
        return owned.inside(self.plan.spans, index)

    def sync(self, generation: int, held: Callable[[], Iterable[str]]) -> None:
        """Take note of which blocks the node holds.

        Args:
            generation: another number than before if they are others.
            held: returns the keys of all of the lane, those to be tried first in front.
        """
        if generation == self._generation:
            return
        self._generation = generation
        mine = [index for key in held() if self._has(index := block_index(key))]
        for index in self._mine.difference(mine):
            self._roomy.pop(index, None)
            self._resting.pop(index, None)
        self._roomy |= dict.fromkeys(index for index in mine if index not in self._mine)
        self._mine = set(mine)

    def _has(self, index: int) -> bool:
        at = bisect_left(self._runs, index, key=lambda run: run[1])
        return at < len(self._runs) and self._runs[at][0] <= index

    def roomy(self, now: float) -> list[int]:
        """Return the node's blocks that may have an address to hand out, to be tried in order."""
        if self._resting:
            for index in [each for each, until in self._resting.items() if until <= now]:
                del self._resting[index]
                self._roomy[index] = None
        return list(self._roomy)

    def take(self, index: int) -> None:
        """Take note that the node has the block now."""
        self._mine.add(index)
        self._roomy[index] = None
        self._at = index + 1

    def spend(self, index: int, until: float | None) -> None:
        """Take note that a block has no address to hand out.

        Args:
            index: the block.
            until: when the first that is free has rested; None if none is free.
        """
        self._roomy.pop(index, None)
        if until is not None and index in self._mine:
            self._resting[index] = until

    def leave(self, index: int) -> None:
        """Take note that the node does not hold the block, or not yet."""
        self._mine.discard(index)
        self._roomy.pop(index, None)
        self._resting.pop(index, None)

    def discard(self, index: int) -> None:
        """Take note that a block is not what it was: an address may be free in it."""
        if index in self._mine and index not in self._roomy:
            self._resting.pop(index, None)
            self._roomy[index] = None
        self._unfit.discard(index)

    def vacant(self, now: float, listed: Callable[[], Iterable[str]]) -> Iterator[int]:
        """Return places of the pool where no block is known to be.

        Args:
            now: seconds since the epoch.
            listed: returns the keys of all blocks of the lane that exist.
        """
        fresh = self._listed is not None and abs(now - self._listed) < _LISTED_FOR
        for _ in range(_LOOKS):
            index = self._next_vacant() if self._listed is not None else None
            if index is not None:
                yield index
                # Still here: somebody else has taken it, and perhaps more.
            if not fresh:
                self.lane.list(self.plan, map(block_index, listed()))
                self._listed, fresh = now, True
                self._unfit.clear()
            elif index is None:
                return

    def _next_vacant(self) -> int | None:
        order = self.lane.order
        known = sum(
            bisect_left(order, high + 1) - bisect_left(order, low) for low, high in self._runs
        )
        if known >= self._size:
            return None
        for low, high in self._around(self._at):
            at, index = bisect_left(order, low), low
            while index <= high and at < len(order) and order[at] == index:
                at, index = at + 1, index + 1
            if index <= high:
                self._at = index
                return index
        return None

    def _around(self, at: int) -> Iterator[Interval]:
        """Return the runs of the pool's blocks from a place on, going round."""
        for low, high in self._runs:
            if high >= at:
                yield max(low, at), high
        for low, high in self._runs:
            if low < at:
                yield low, min(high, at - 1)

    def _known(self, at: int) -> Iterator[int]:
        """Return the pool's blocks that are known to exist, from a place on, going round."""
        order = self.lane.order
        for low, high in self._around(at):
            for place in range(bisect_left(order, low), bisect_left(order, high + 1)):
                if place < len(order):  # some may have been forgotten since
                    yield order[place]

    def lent(self) -> Iterator[int]:
        """Return blocks with room that nobody is known to hold, few, from the node's place on."""
        lane, looks = self.lane, 0
        for index in self._known(self._lent):
            if index in lane.foreign or index in self._mine:
                continue
            if space.size(space.Free(self.parts(index), {index: lane.taken[index]}, (index,))):
                self._lent = index
                yield index
                looks += 1
                if looks == _BORROWED:
                    return

    def best_foreign(self) -> int | None:
        """Return the block of another node with most room as far as is told; None if there is none.

        Of those with as much, each node names another.
        """
        lane = self.lane
        theirs = (index for index in self._known(self._lent) if index in lane.foreign)
        return min(theirs, key=lambda index: lane.foreign[index].bit_count(), default=None)

    def unclaimed(self, now: float) -> Iterator[int]:
        """Return blocks that exist and that nobody is known to hold; few, and not every time."""
        if self._barren is not None and abs(now - self._barren) < _BARREN_FOR:
            return
        lane, looks = self.lane, 0
        for index in self._known(self._at):
            if index in lane.foreign or index in self._mine or index in self._unfit:
                continue
            if looks == _LOOKS:
                return
            looks += 1
            self._unfit.add(index)
            yield index
        self._barren = now

    def fits(self, index: int) -> Callable[[Block], bool]:
        """Return what tells whether a block is worth taking.

        Not one with other nodes' leases: they would have to ask for it whenever they renew one.
        """
        parts = self.parts(index)
        least = max(1, space.size(parts) // _WORTH)

        def is_worth(block: Block) -> bool:
            if any(lease.node != self._node for lease in block.leases.values()):
                return False
            free = space.Free(parts, {index: block.taken}, (index,))
            return space.size(free) >= least

        return is_worth
