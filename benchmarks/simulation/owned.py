"""Nodes in owned mode: what ``podnet.engine.owning`` does, in virtual time.

A node takes a block with one swap, hands out of it with writes to its own disk only, and tells the
shared store later. When no block is left it borrows out of blocks that nobody holds, and when
these are full it asks for others' blocks back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .medium import DISK
from .shared import ASK, Draft, Request, SharedNode, World

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from .blocks import Block
    from .clock import Process
    from .pods import Pod

# As engine.owning_rooms and engine.turns.
_LOOKS = 8
_LISTED_FOR = 60.0
_BARREN_FOR = 1.0
_WORTH = 8
_RECALLS = 4
_PATIENT = 50
_ROUND = 0.05
_NEVER = -1e9


class OwnedNode(SharedNode):
    """One node's ``Ipam`` over ``Owning``."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.held: dict[Block, float] = {}
        self._roomy: dict[Block, None] = {}
        self._foreign: set[int] = set()
        self._unfit: set[int] = set()
        self._exist: set[int] = set()
        self._at = world.chance.randrange(world.ground.count)
        self._start = self._at if world.manner.borrow == "node" else 0
        self._listed_at = _NEVER
        self._barren_at = _NEVER
        self._scarce_at = _NEVER
        self._asked_at = _NEVER
        self._asked: dict[Pod, tuple[int, list[Block]]] = {}

    def holds(self) -> Collection[Block]:
        """Return the blocks that are the node's own."""
        return self.held

    def lose(self, draft: Draft) -> None:
        """Have the node be without a block, now that it is dead."""
        block = draft.block
        if block in self.held:
            # Its disk is gone, and with it what it had not told.
            self.world.tally.untold += max(0, len(draft.gives) - block.told)
            self._leave(block)
        super().lose(draft)

    def _disk(self, block: Block) -> Generator[float, None, None]:
        """Write a block to the own disk."""
        size = DISK.head + DISK.each * block.used
        spread = self.world.chance.lognormvariate(0.0, DISK.spread)
        yield DISK.read + DISK.write * spread + size / DISK.bytes_per_second

    # --- a turn: out of the own blocks, in one write of the own disk for each

    def _turn(
        self, requests: list[Request], without: list[Request]
    ) -> Generator[float, None, list[Request]]:
        mine: dict[Block, Draft] = {}
        others: list[Request] = []
        for request in requests:
            pod, kind = request
            block = (yield from self._at_home(mine)) if kind == ASK else pod.block
            if block is None or block.holder is not self:
                others.append(request)
                continue
            draft = mine.get(block)
            if draft is None:
                draft = mine[block] = Draft(block, 0)
            draft.put(request)
        again: list[Request] = []
        for block, draft in mine.items():
            yield from self._disk(block)
            if block.holder is self:
                self._apply_own(draft)
            else:  # it was given back meanwhile
                again += draft.requests
        if others:
            again += yield from super()._turn(others, without)
        return again

    def _apply_own(self, draft: Draft) -> None:
        world, block = self.world, draft.block
        told = block.told
        self._apply(draft)
        block.told = told
        world.tally.strand(world.clock.now, len(draft.gives) - len(draft.asks))
        if block.free:
            self._roomy.setdefault(block)
        else:
            self._roomy.pop(block, None)
        if block.since is None:
            self._stir(block)
        if not block.used:
            world.clock.after(world.manner.idle_after, self._if_idle, block)

    def _stir(self, block: Block) -> None:
        """Have the shared store be told in a while; a tick comes every second."""
        world = self.world
        block.since = world.clock.now
        wait = world.manner.publish_every + world.chance.random()
        world.clock.after(wait, self._if_untold, block, block.since)

    # --- as Rooms and OwnedTurn

    def _at_home(self, mine: dict[Block, Draft]) -> Generator[float, None, Block | None]:
        """Return an own block with room; take one where nobody holds it."""
        for block in self._roomy:
            draft = mine.get(block)
            if draft is None or block.free > len(draft.asks):
                return block
        taken = yield from self._vacant()
        world = self.world
        if taken is None and world.clock.now - self._scarce_at > world.manner.scarce_for:
            taken = yield from self._unclaimed()
        return taken

    def _vacant(self) -> Generator[float, None, Block | None]:
        """Take a place where no block is known to be, from where the node is on."""
        world = self.world
        blocks = world.ground.blocks
        fresh = world.clock.now - self._listed_at < _LISTED_FOR
        for _ in range(_LOOKS):
            index = self._next_vacant() if self._listed_at > _NEVER else None
            if index is not None and (yield from self._claim(blocks[index])):
                return blocks[index]
            if not fresh:
                fresh, self._listed_at = True, world.clock.now
                yield from world.store.read()
                self._exist.update(block.index for block in blocks if block.version)
                self._unseen |= self._exist - self._known.keys()
                self._listed = True
                self._unfit.clear()
            elif index is None:
                return None
        return None

    def _next_vacant(self) -> int | None:
        count, exist = self.world.ground.count, self._exist
        if len(exist) >= count:
            return None
        while self._at in exist:
            self._at = (self._at + 1) % count
        return self._at

    def _unclaimed(self) -> Generator[float, None, Block | None]:
        """Take a block that exists and that nobody is known to hold; look at few."""
        world, looks = self.world, 0
        if world.clock.now - self._barren_at < _BARREN_FOR:
            return None
        count, blocks = world.ground.count, world.ground.blocks
        for number in range(count):
            block = blocks[(self._at + number) % count]
            index = block.index
            if index not in self._exist or index in self._foreign or index in self._unfit:
                continue
            if block.holder is self:
                continue
            if looks == _LOOKS:
                return None
            looks += 1
            self._unfit.add(index)
            if (yield from self._claim(block)):
                return block
        self._barren_at = world.clock.now
        return None

    def _claim(self, block: Block) -> Generator[float, None, bool]:
        store = self.world.store
        self._exist.add(block.index)
        while True:
            yield from store.read(block.told)
            version = block.version
            if version:
                self._note(block)
            if block.holder is not None:
                self._foreign.add(block.index)
                return False
            self._foreign.discard(block.index)
            worth = max(1, block.size // _WORTH)
            if block.users.keys() - {self} or block.free < worth:
                return False
            yield from self._disk(block)
            if (yield from store.write(block, version, block.used, 0, lambda: self._take(block))):
                yield from self._disk(block)
                return block.holder is self

    def _take(self, block: Block) -> None:
        world = self.world
        world.tally.claims += 1
        block.holder, block.recalled, block.since = self, False, None
        self.held[block] = world.clock.now
        self._roomy[block] = None
        self._at = (block.index + 1) % world.ground.count
        world.tally.strand(world.clock.now, block.free)

    # --- as Records.settle, in the background

    def _if_untold(self, block: Block, since: float) -> None:
        if not self.dead and block.holder is self and block.since == since:
            self.world.clock.start(self._publish(block))

    def _publish(self, block: Block) -> Process:
        world = self.world
        while block.holder is self and not self.dead:
            yield from world.store.read(block.told)
            if block.recalled:
                yield from self._give_back(block)
                return
            version, told = block.version, block.used
            changes = abs(told - block.told) or 1
            block.since = None
            won = yield from world.store.write(
                block, version, told, changes, partial(self._was_told, block, told)
            )
            if won:
                world.tally.publishes += 1
                return

    def _was_told(self, block: Block, leases: int) -> None:
        block.told = leases

    def _give_back(self, block: Block) -> Generator[float, None, None]:
        world = self.world
        self._roomy.pop(block, None)
        yield from self._disk(block)
        while block.holder is self and not self.dead:
            yield from world.store.read(block.told)
            changes = abs(block.used - block.told) or 1
            yield from world.store.write(
                block, block.version, block.used, changes, lambda: self._leave(block)
            )
        yield from self._disk(block)

    def _leave(self, block: Block) -> None:
        world = self.world
        block.holder, block.recalled, block.since = None, False, None
        block.told = block.used
        self._roomy.pop(block, None)
        world.looked(world.clock.now - self.held.pop(block))
        world.tally.strand(world.clock.now, -block.free)

    def _if_idle(self, block: Block) -> None:
        idle = block.freed[-1][0] if block.freed else 0.0
        over = self.world.clock.now - idle >= self.world.manner.idle_after
        if not self.dead and block.holder is self and not block.used and over:
            self.world.clock.start(self._give_back(block))

    def see(self, block: Block) -> None:
        """Find out whether a block is asked for."""
        if not self.dead and block.holder is self and block.recalled:
            self._scarce_at = self.world.clock.now
            self.world.clock.start(self._give_back(block))

    # --- asking for others' blocks, as Turn._none_left and Ipam._allocate_one

    def _is_open(self, block: Block) -> bool:
        return block.holder is None

    def _choose(self, drafts: dict[int, Draft], pod: Pod) -> Generator[float, None, Block | None]:
        block = yield from self._explored(drafts)
        if block is not None:
            return block
        self.world.tally.short += 1
        rounds, asked = self._asked.get(pod, (0, []))
        if rounds % _PATIENT:
            for each in asked:
                if each.index not in self._fresh:
                    yield from self._load(each)
                if each.holder is not None and each.holder is not self:
                    return None
        return (yield from self._looked_everywhere(drafts))

    def _swap(self, draft: Draft) -> Generator[float, None, bool]:
        won = yield from super()._swap(draft)
        if not won and draft.asks and self.world.manner.ask_when_lost:
            self._ask_for_one()
        return won

    def _ask_for_one(self) -> None:
        """Have one more block be there to borrow from, where many borrow from few."""
        world, now = self.world, self.world.clock.now
        if now - self._asked_at < 1.0:
            return
        self._asked_at = now
        others = [b for b in world.ground.blocks if b.holder is not None and not b.recalled]
        if others:
            world.clock.start(self._ask_for([min(others, key=lambda b: (b.told, b.index))]))

    def _none_left(self, pod: Pod) -> None:
        world = self.world
        rounds, asked = self._asked.get(pod, (0, []))
        others = [b for b in world.ground.blocks if b.holder is not None and b.holder is not self]
        if not others or rounds * _ROUND > world.manner.patience:
            self._asked.pop(pod, None)
            super()._none_left(pod)
            return
        still = [block for block in asked if block in others]
        more = []
        if not still or not rounds % _PATIENT:
            more = sorted(set(others) - set(still), key=lambda b: (b.told, b.index))[:_RECALLS]
        self._scarce_at = world.clock.now
        self._asked[pod] = rounds + 1, [*still, *more]
        world.clock.start(self._ask_for(more))
        world.clock.after(_ROUND, self._try_again, pod)

    def _try_again(self, pod: Pod) -> None:
        if not self.dead:
            self.ask(pod)

    def _ask_for(self, blocks: list[Block]) -> Process:
        world = self.world
        for block in blocks:
            if not block.recalled and block.holder is not None:
                yield from world.store.write(
                    block, block.version, block.told, 0, partial(_recall, world, block)
                )


def _recall(world: World, block: Block) -> None:
    """Ask for a block; its holder sees it at its next look."""
    holder = block.holder
    block.recalled = True
    world.tally.recalls += 1
    if isinstance(holder, OwnedNode):
        wait = (world.manner.look_every + 1.0) * world.chance.random()
        world.clock.after(wait, holder.see, block)
