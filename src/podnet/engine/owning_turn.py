"""Turns of a node that holds blocks: out of its own first, then out of what nobody holds."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import evolve

from podnet.engine.requests import Allocation
from podnet.engine.shortage import not_free
from podnet.engine.turns import Turn
from podnet.errors import PodnetError
from podnet.ipam import grant, space
from podnet.model.block import BLOCK_BITS, Block, block_index

if TYPE_CHECKING:
    from podnet.engine.lanes import Lane
    from podnet.engine.owning import Owning
    from podnet.engine.owning_rooms import Rooms
    from podnet.engine.requests import Draft, Request
    from podnet.model.lease import Lease


class OwnedTurn(Turn):
    """One attempt at a batch over a store of two tiers.

    An address is taken, where there is one, from: the node's own blocks, if it has rested; a block
    that nobody holds, which the node takes; any block that nobody holds, by one swap for the
    address alone, or an own one that rests; another node's block, which is asked for and comes
    back. Only then there is none.
    """

    def __init__(self, store: Owning, lane: Lane, *, node: str, now: float) -> None:
        """Begin with nothing read."""
        super().__init__(store, lane, node=node, now=now)
        self._owning = store
        # What stands where a closed store was has none, and refuses whatever comes next.
        stirred = getattr(store, "stirred", lambda _prefix: ())
        for key in stirred(lane.prefix):
            lane.stir(block_index(key))

    def _usable(self, block: Block) -> bool:
        return not block.holder or self._owning.owns(block)

    def _choose(self, request: Allocation) -> int | None:
        if request.wanted is None:
            rooms = self._owning.rooms(request.plan, self._lane)
            if rooms is not None:
                value = self._at_home(request, rooms)
                if value is not None:
                    return value
        return super()._choose(request)

    def _at_home(self, request: Allocation, rooms: Rooms) -> int | None:
        """Return an address of the node's own blocks, or of one that it takes."""
        owning, lane = self._owning, self._lane
        rooms.sync(owning.generation, lambda: owning.held(lane.prefix))
        for index in rooms.roomy(self._now):
            value = self._within(request, rooms, index)
            if value is not None:
                return value
        if owning.resident:
            for index in rooms.vacant(self._now, lambda: owning.listed(lane.prefix)):
                if self._claim(rooms, index):
                    return self._within(request, rooms, index)
        if owning.resident and not owning.is_scarce(lane.prefix):
            for index in rooms.unclaimed(self._now):
                if self._claim(rooms, index):
                    return self._within(request, rooms, index)
        return self._borrowed(request, rooms)

    def _borrowed(self, request: Allocation, rooms: Rooms) -> int | None:
        """Return an address of a block that nobody holds, each node's first look another one."""
        for index in rooms.lent():
            block = self._block(index)
            if block is not None and not block.holder:
                value = self._picked(request, rooms, block)
                if value is not None:
                    return value
        return None

    def _within(self, request: Allocation, rooms: Rooms, index: int) -> int | None:
        """Return an address of a block that the node is to hold."""
        block = self._block(index)
        if block is None or not self._owning.owns(block):
            rooms.leave(index)
            return None
        return self._picked(request, rooms, block)

    def _picked(self, request: Allocation, rooms: Rooms, block: Block) -> int | None:
        index = block.index
        rest = request.plan.pool.cool_down
        resting = grant.resting(block, self._now - rest) if rest else 0
        parts = rooms.parts(index)
        free = space.Free(parts, {index: block.taken | resting}, (index,))
        value = request.plan.picker.pick(free, self._ask(request, 1))
        if value is None:
            times = [when for offset, when in block.freed.items() if resting >> offset & 1]
            rooms.spend(index, min(times) + rest if times else None)
            return None
        bit = 1 << (value - block.first) if value >> BLOCK_BITS == index else 0
        if not bit or (block.taken | resting) & bit or not space.covers(parts, value):
            raise not_free(value)
        return value

    def _claim(self, rooms: Rooms, index: int) -> bool:
        lane = self._lane
        if index in self._drafts:
            return False
        empty = Block(domain=lane.domain, version=lane.version, index=index)
        won = self._owning.claim(lane.key(index), empty, rooms.fits(index))
        self._load(index)
        if won:
            rooms.take(index)
        return won

    def _is_overtaken(self, block: Block, lease: Lease) -> bool:
        """Tell whether others can have ended a lease of a block that this node holds.

        They end what the shared copy shows. A lease with a new number is not that one any more.
        """
        return self._owning.owns(block) and lease not in self._granted

    def _is_certain(self, block: Block | None) -> bool:
        if block is None or block.index in self._drafts or not self._owning.owns(block):
            return True
        return self._owning.look(self._lane.key(block.index)) == self._fresh.get(block.index)

    def _swap(self, index: int, draft: Draft) -> list[Request]:
        """Tell the shared store at once of leases that a claim keeps.

        Their owners may come back on another node, which has to find them.
        """
        again = super()._swap(index, draft)
        if again and not draft.block.holder:
            self._ask_for_one(again)
        kept = [each for each in draft.riders if isinstance(each, Allocation) and each.claim]
        if kept and not again and draft.block.holder:
            try:
                self._owning.tell(self._lane.key(index))
            except PodnetError as failure:
                for each in kept:
                    each.refuse(failure, unknown=True)
        return again

    def _ask_for_one(self, lost: list[Request]) -> None:
        """Ask for one more block to borrow from: where many do from few, most swaps are lost."""
        lane, owning = self._lane, self._owning
        plans = (each.plan for each in lost if isinstance(each, Allocation))
        rooms = next((r for plan in plans if (r := owning.rooms(plan, lane))), None)
        index = None if rooms is None or not owning.may_ask(lane.prefix) else rooms.best_foreign()
        if index is None:
            return
        with suppress(PodnetError):  # nobody has asked for this
            entry = self._store.load(lane.key(index))
            if entry is not None and not self._usable(entry[0]) and not entry[0].recalled:
                self._store.swap(lane.key(index), evolve(entry[0], recalled=True), entry[1])

    def _none_left(self, request: Allocation) -> bool:
        """Refuse nothing before others' releases in the own blocks are known."""
        wanted, stale = request.wanted, False
        inside = list(self._lane.inside(request.plan))
        here = inside if wanted is None else [wanted.value >> BLOCK_BITS]
        for index in here:
            if index in self._drafts or (block := self._block(index)) is None:
                continue
            if self._owning.owns(block):
                look = self._owning.look(self._lane.key(index))
                # What others ended meanwhile is another version by now.
                stale = stale or look != self._fresh.get(index)
        return False if stale else super()._none_left(request)

    def _recall(self, request: Allocation, held: list[int]) -> bool:
        self._owning.note_scarce(self._lane.key(held[0]))
        return super()._recall(request, held)
