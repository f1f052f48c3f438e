"""Nodes in shared mode: any node swaps any block. What ``podnet.engine`` does, in virtual time.

Requests that come while a node serves others wait, and are served together afterwards
(``engine.combining``). A turn reads blocks, decides all requests, and swaps each block that
changes; who lost goes into the next turn (``engine.turns``, ``engine.leases``).
"""

from __future__ import annotations

from bisect import insort
from itertools import islice
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Generator
    from random import Random

    from .blocks import Block, Ground
    from .clock import Clock, Process
    from .medium import ModelStore
    from .pods import Cluster, Pod
    from .tally import Tally

# As engine.lanes.FEW_BLOCKS, engine.turns._LOOKS and engine.leases._PAUSE_MOST.
FEW_BLOCKS = 8
LOOKS = 3
PAUSE_MOST = 0.05
ATTEMPTS = 200

GIVE, ASK = 0, 1
Request = tuple["Pod", int]


@frozen(kw_only=True)
class Manner:
    """How nodes behave.

    Attributes:
        together: requests that wait are served in one turn; else one after the other.
        linger: seconds to wait for others before a turn.
        start: where a node looks for a free address first: ``lowest`` block, or ``node``: a block
            that its name decides.
        back_off: seconds by which the longest pause after a lost swap grows, each time.
        pause_most: seconds of the longest.
        publish_every, look_every, idle_after, scarce_for: as ``engine.owning.Manner``.
        trickle: blocks below this part of their size are told less often.
    """

    together: bool = True
    linger: float = 0.0
    start: str = "lowest"
    back_off: float = 0.001
    pause_most: float = PAUSE_MOST
    publish_every: float = 30.0
    look_every: float = 2.0
    idle_after: float = 300.0
    scarce_for: float = 30.0
    patience: float = 10.0


@define(eq=False)
class World:
    """What all nodes share."""

    clock: Clock
    store: ModelStore
    ground: Ground
    chance: Random
    tally: Tally
    manner: Manner
    cluster: Cluster = field(init=False)


class Draft:
    """A block as it is to be swapped in.

    Attributes:
        block: which.
        version: that it is to be swapped for.
        asks: pods that get an address of it.
        gives: pods that give theirs back.
    """

    __slots__ = ("asks", "block", "gives", "version")

    def __init__(self, block: Block, version: int) -> None:
        self.block = block
        self.version = version
        self.asks: list[Pod] = []
        self.gives: list[Pod] = []

    def left(self) -> int:
        """Return how many addresses are free yet."""
        return self.block.free - len(self.asks)


class SharedNode:
    """One node's ``Ipam``."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.pods: dict[Pod, None] = {}
        self.dead = False
        self._waiting: list[Request] = []
        self._busy = False
        self._seen: dict[int, int] = {}
        self._fresh: dict[int, int] = {}
        # Of large pools: which blocks are known to exist, what was free in those seen.
        self._listed = False
        self._unseen: list[int] = []
        self._known: dict[int, tuple[int, float]] = {}
        self._order: list[int] = []
        count = world.ground.count
        self._start = 0
        if world.manner.start == "node":
            self._start = world.chance.randrange(count)

    # --- as Combiner

    def ask(self, pod: Pod) -> None:
        """Get it a lease."""
        self._hand_in((pod, ASK))

    def give(self, pod: Pod) -> None:
        """Take its lease back."""
        self._hand_in((pod, GIVE))

    def _hand_in(self, request: Request) -> None:
        self._waiting.append(request)
        if not self._busy:
            self._busy = True
            self.world.clock.start(self._lead())

    def _lead(self) -> Process:
        manner = self.world.manner
        while self._waiting and not self.dead:
            if manner.linger:
                yield manner.linger
            if manner.together:
                batch, self._waiting = self._waiting, []
            else:
                batch = [self._waiting.pop(0)]
            yield from self._serve(batch)
        self._busy = False

    # --- as Ipam._serve

    def _serve(self, batch: list[Request]) -> Generator[float, None, None]:
        world = self.world
        manner, rest = world.manner, batch
        failed: list[Request] = []
        for attempt in range(ATTEMPTS):
            if attempt > 1:
                yield world.chance.random() * min(manner.pause_most, manner.back_off * attempt)
            rest = yield from self._turn(rest, failed)
            if not rest or self.dead:
                break
        lost = {id(request) for request in (*rest, *failed)}
        for request in batch:
            if id(request) in lost:
                self._refuse(request)
            elif request[1] == ASK:
                world.cluster.started(request[0])

    def _refuse(self, request: Request) -> None:
        pod, kind = request
        if kind == ASK:
            self.world.cluster.refused(pod)
        else:  # the runtime calls DEL again
            self.world.clock.after(2.0, self._again, pod)

    def _again(self, pod: Pod) -> None:
        if not self.dead:
            self.give(pod)

    # --- as Turn

    def _turn(
        self, requests: list[Request], failed: list[Request]
    ) -> Generator[float, None, list[Request]]:
        """Decide and swap; return those that have to be tried again."""
        drafts: dict[int, Draft] = {}
        self._fresh = fresh = {}
        looked = False
        for request in requests:
            pod, kind = request
            if kind == GIVE:
                assert pod.block is not None
                block: Block | None = pod.block
            else:
                if not looked:
                    looked = True
                    yield from self._look()
                if self.world.store.medium.seeks and self.world.ground.count > FEW_BLOCKS:
                    yield from self.world.store.read()
                block = yield from self._choose(drafts)
                if block is None:
                    self.world.tally.full += 1
                    failed.append(request)
                    continue
            if block.index not in fresh:
                yield from self._load(block)
            draft = drafts.get(block.index)
            if draft is None:
                draft = drafts[block.index] = Draft(block, fresh[block.index])
            (draft.asks if kind == ASK else draft.gives).append(pod)
        again: list[Request] = []
        for draft in drafts.values():
            won = yield from self._swap(draft)
            if not won:
                again += [(pod, GIVE) for pod in draft.gives]
                again += [(pod, ASK) for pod in draft.asks]
        if again:  # the same objects, so that it is known who is left
            left = {pod for pod, _ in again}
            again = [request for request in requests if request[0] in left]
        return again

    def _swap(self, draft: Draft) -> Generator[float, None, bool]:
        block = draft.block
        asks, gives = draft.asks, draft.gives
        leases = block.used + len(asks) - len(gives)
        won = yield from self.world.store.write(
            block,
            draft.version,
            leases,
            len(asks) + len(gives),
            lambda: self._apply(block, asks, gives),
        )
        if won:
            self._note(block)
        else:
            self._forget(block.index)
        return won

    def _apply(self, block: Block, asks: list[Pod], gives: list[Pod]) -> None:
        now, users = self.world.clock.now, block.users
        for pod in gives:
            block.put(pod.offset, now)
            users[self] = users.get(self, 0) - 1
        for pod in asks:
            pod.block, pod.offset = block, block.take()
            users[self] = users.get(self, 0) + 1

    # --- as Lane

    def _look(self) -> Generator[float, None, None]:
        """Read all blocks of a small pool; list those of a large one, once."""
        ground = self.world.ground
        if ground.count <= FEW_BLOCKS:
            for block in ground.blocks:
                if block.index not in self._fresh:
                    yield from self._load(block)
        elif not self._listed:
            self._listed = True
            yield from self.world.store.read()
            self._unseen = [block.index for block in ground.blocks if block.version]

    def _load(self, block: Block) -> Generator[float, None, None]:
        yield from self.world.store.read(block.used)
        self._fresh[block.index] = block.version
        if block.version:
            self._note(block)
        else:
            self._forget(block.index)

    def _note(self, block: Block) -> None:
        index = block.index
        if index not in self._known:
            insort(self._order, index)
            if index in self._unseen:
                self._unseen.remove(index)
        since = block.freed[0][0] if block.freed else -1.0
        self._known[index] = (block.size - block.fresh, since)

    def _forget(self, index: int) -> None:
        if index in self._known:
            del self._known[index]
            self._order.remove(index)

    # --- as LongestFree

    def _choose(self, drafts: dict[int, Draft]) -> Generator[float, None, Block | None]:
        ground = self.world.ground
        if ground.count <= FEW_BLOCKS:
            return self._longest_free(drafts, ground.blocks)
        looks = 0
        while True:
            block = self._believed_free(drafts)
            if block is None:
                break
            if block.index in self._known:
                if block.index in self._fresh:
                    return block
            elif looks < LOOKS and (other := self._next_unseen()) is not None:
                looks += 1
                block = other
            elif block.index in self._fresh:
                return block
            yield from self._load(block)
        # All of them: only that shows that nothing is free.
        for block in ground.blocks:
            if block.version and block.index not in self._fresh:
                yield from self._load(block)
        return self._longest_free(drafts, ground.blocks)

    def _next_unseen(self) -> Block | None:
        if not self._unseen:
            return None
        last = max(self._unseen)
        if self._order and self._order[-1] > last:
            last = self._unseen[self.world.chance.randrange(len(self._unseen))]
        self._unseen.remove(last)
        return self.world.ground.blocks[last]

    def _longest_free(self, drafts: dict[int, Draft], blocks: list[Block]) -> Block | None:
        best, since = None, float("inf")
        count = len(blocks)
        for number in range(count):
            block = blocks[(self._start + number) % count]
            draft = drafts.get(block.index)
            asks = len(draft.asks) if draft else 0
            if not self._is_open(block):
                continue
            if block.size - block.fresh > asks:
                return block
            asks -= block.size - block.fresh
            if len(block.freed) > asks:
                when = next(islice(block.freed, asks, None))[0]
                if when < since:
                    best, since = block, when
        return best

    def _is_open(self, block: Block) -> bool:  # noqa: ARG002, PLR6301 - others differ
        return True

    def _believed_free(self, drafts: dict[int, Draft]) -> Block | None:
        """Return the first block of which an address is believed never to have been held."""
        ground, known = self.world.ground, self._known
        unseen = set(self._unseen)
        best, since = None, float("inf")
        count = ground.count
        for number in range(count):
            index = (self._start + number) % count
            block = ground.blocks[index]
            draft = drafts.get(index)
            asks = len(draft.asks) if draft else 0
            if index in known:
                if not self._is_open(block):
                    continue
                fresh, when = known[index]
                if fresh > asks:
                    return block
                if draft:
                    if draft.left() > 0 and when >= 0 and when < since:
                        best, since = block, when
                elif 0 <= when < since:
                    best, since = block, when
            elif index not in unseen and asks < block.size:
                return block
        return best
