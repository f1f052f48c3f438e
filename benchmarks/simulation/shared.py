"""Nodes in shared mode: any node swaps any block. What ``podnet.engine`` does, in virtual time.

Requests that come while a node serves others wait, and are served together afterwards
(``engine.combining``). A turn reads blocks, decides all requests, and swaps each block that
changes; who lost goes into the next turn (``engine.turns``, ``engine.leases``).
"""

from __future__ import annotations

from bisect import insort
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from podnet.engine import owning
from podnet.engine.lanes import FEW_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from random import Random

    from .blocks import Block, Ground
    from .clock import Clock, Process
    from .medium import ModelStore
    from .pods import Cluster, Pod
    from .tally import Tally

# As in engine.turns and engine.serving.
LOOKS = 3
CONTENDED = 64
PAUSE_MOST = 0.05
ATTEMPTS = 200

_OWNED = owning.Manner()

GIVE, ASK = 0, 1
Request = tuple["Pod", int]


@frozen(kw_only=True)
class Manner:
    """How nodes behave.

    Attributes:
        together: requests that wait are served in one turn; else one after the other.
        few_blocks: all blocks of a pool of so many are read at each turn.
        linger: seconds to wait for others before a turn.
        start: where a node looks for a free address first: ``lowest`` block, or ``node``: a block
            that its name decides.
        borrow: the same for a node that holds blocks, among those that nobody holds.
        back_off: seconds by which the longest pause after a lost swap grows, each time.
        pause_most: seconds of the longest.
        publish_every, look_every, idle_after, scarce_for: as ``engine.owning.Manner``.
        patience: seconds to wait for blocks that were asked for, as ``engine.leases``.
        ask_when_lost: who loses a swap for an address of a block that nobody holds asks for
            another block, at most once a second.
    """

    together: bool = True
    few_blocks: int = FEW_BLOCKS
    linger: float = 0.0
    start: str = "lowest"
    borrow: str = "node"
    back_off: float = 0.001
    pause_most: float = PAUSE_MOST
    publish_every: float = _OWNED.publish_every
    look_every: float = _OWNED.look_every
    idle_after: float = _OWNED.idle_after
    scarce_for: float = _OWNED.scarce_for
    patience: float = 10.0
    ask_when_lost: bool = True


@define(eq=False)
class World:
    """What all nodes share.

    Attributes:
        clock: the time.
        store: of all nodes.
        ground: the pool.
        chance: decides what is left to chance.
        tally: counts.
        manner: how nodes behave.
        cluster: is told who got a lease and who did not.
    """

    clock: Clock
    store: ModelStore
    ground: Ground
    chance: Random
    tally: Tally
    manner: Manner
    cluster: Cluster = field(init=False)

    def looked(self, seconds: float) -> None:
        """Take note that a block was held so long, and looked at all the time."""
        self.tally.looks += round(seconds / self.manner.look_every)


def bury(world: World, node: SharedNode) -> Process:
    """Take back the leases of a dead node: one look and one write for each block."""
    by_block: dict[Block, list[Pod]] = {}
    for pod in node.pods:
        if pod.block is not None:
            by_block.setdefault(pod.block, []).append(pod)
    for block in {*by_block, *node.holds()}:
        draft = Draft(block, 0)
        draft.gives = by_block.get(block, [])
        won = False
        while not won:
            yield from world.store.read(block.told)
            won = yield from world.store.write(
                block,
                block.version,
                block.used - len(draft.gives),
                len(draft.gives),
                partial(node.lose, draft),
            )


class Draft:
    """A block as it is to be swapped in.

    Attributes:
        block: which.
        version: that it is to be swapped for.
        requests: that ride on it.
        asks: pods that get an address of it.
        gives: pods that give theirs back.
    """

    __slots__ = ("asks", "block", "gives", "requests", "version")

    def __init__(self, block: Block, version: int) -> None:
        self.block = block
        self.version = version
        self.requests: list[Request] = []
        self.asks: list[Pod] = []
        self.gives: list[Pod] = []

    def put(self, request: Request) -> None:
        """Have a request ride on it."""
        self.requests.append(request)
        (self.asks if request[1] == ASK else self.gives).append(request[0])


class SharedNode:
    """One node's ``Ipam``."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.pods: dict[Pod, None] = {}
        self.dead = False
        self._waiting: list[Request] = []
        self._busy = False
        self._contended = 0
        self._few = world.manner.few_blocks
        self._seen: dict[int, int] = {}
        self._fresh: dict[int, int] = {}
        # Of large pools: which blocks are known to exist, what was free in those seen.
        self._listed = False
        self._unseen: set[int] = set()
        self._known: dict[int, tuple[int, float]] = {}
        self._order: list[int] = []
        # All blocks before it, counted from the start, are known to have been used up.
        self._cursor = 0
        self._start = 0
        if world.manner.start == "node":
            self._start = world.chance.randrange(world.ground.count)

    def holds(self) -> Collection[Block]:
        """Return the blocks that are the node's own."""
        return ()

    def lose(self, draft: Draft) -> None:
        """Have the node be without the leases of a block, now that it is dead."""
        self._apply(draft)

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
        without: list[Request] = []
        for attempt in range(ATTEMPTS):
            if self._contended and world.store.medium.queues:
                self._contended -= 1
                ticket = yield from world.store.line.wait()
                rest = yield from self._turn(rest, without)
                world.store.line.leave(ticket)
            else:
                if attempt > 1:
                    longest = min(manner.pause_most, manner.back_off * attempt)
                    yield world.chance.random() * longest
                rest = yield from self._turn(rest, without)
            if not rest:
                break
            self._contended = CONTENDED
            if self.dead:
                return
        lost = {id(request) for request in rest}
        none = {id(request) for request in without}
        for request in batch:
            if id(request) in lost:
                self._gave_up(request)
            elif id(request) in none:
                self._none_left(request[0])
            elif request[1] == ASK:
                world.cluster.started(request[0])

    def _gave_up(self, request: Request) -> None:
        """Others won every attempt: the runtime will try again."""
        pod, kind = request
        if kind == ASK:
            self.world.cluster.refused(pod)
        else:
            self.world.clock.after(2.0, self._again, pod)

    def _again(self, pod: Pod) -> None:
        if not self.dead:
            self.give(pod)

    def _none_left(self, pod: Pod) -> None:
        """Nothing is free."""
        self.world.tally.full += 1
        self.world.cluster.refused(pod)

    # --- as Turn

    def _turn(
        self, requests: list[Request], without: list[Request]
    ) -> Generator[float, None, list[Request]]:
        """Decide and swap.

        Returns:
            Those that have to be tried again; those that found nothing are put in ``without``.
        """
        drafts: dict[int, Draft] = {}
        self._fresh = {}
        looked = False
        for request in requests:
            pod, kind = request
            block = pod.block
            if kind == ASK:
                if not looked:
                    looked = True
                    yield from self._look()
                block = yield from self._choose(drafts, pod)
                if block is None:
                    without.append(request)
                    continue
            assert block is not None
            if block.index not in self._fresh:
                yield from self._load(block)
            draft = drafts.get(block.index)
            if draft is None:
                draft = drafts[block.index] = Draft(block, self._fresh[block.index])
            draft.put(request)
        again: list[Request] = []
        for draft in drafts.values():
            if not (yield from self._swap(draft)):
                again += draft.requests
        return again

    def _swap(self, draft: Draft) -> Generator[float, None, bool]:
        block, changes = draft.block, len(draft.requests)
        leases = block.used + len(draft.asks) - len(draft.gives)
        won = yield from self.world.store.write(
            block, draft.version, leases, changes, lambda: self._apply(draft)
        )
        if won:
            self._note(block)
        else:
            self._forget(block.index)
        return won

    def _apply(self, draft: Draft) -> None:
        now, block = self.world.clock.now, draft.block
        for pod in draft.gives:
            block.put(pod.offset, now)
            self.pods.pop(pod, None)
        for pod in draft.asks:
            pod.block, pod.offset = block, block.take()
            self.pods[pod] = None
        block.count(self, len(draft.asks) - len(draft.gives))
        block.told = block.used

    # --- as Lane

    def _look(self) -> Generator[float, None, None]:
        """Read all blocks of a small pool; list those of a large one, once."""
        ground = self.world.ground
        if ground.count <= self._few:
            for block in ground.blocks:
                if block.index not in self._fresh:
                    yield from self._load(block)
        elif not self._listed:
            self._listed = True
            yield from self.world.store.read()
            self._unseen = {b.index for b in ground.blocks if b.version} - self._known.keys()

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
            self._unseen.discard(index)
        since = block.freed[0][0] if block.freed else -1.0
        self._known[index] = (block.size - block.fresh, since)
        if block.fresh < block.size:
            self._rewind(index)

    def _rewind(self, index: int) -> None:
        self._cursor = min(self._cursor, (index - self._start) % self.world.ground.count)

    def _forget(self, index: int) -> None:
        if index in self._known:
            del self._known[index]
            self._order.remove(index)
        self._rewind(index)

    # --- as LongestFree

    def _choose(self, drafts: dict[int, Draft], pod: Pod) -> Generator[float, None, Block | None]:
        """Return a block with a free address, reading what is needed to be sure."""
        blocks = self.world.ground.blocks
        if len(blocks) <= self._few:
            return self._longest_free(drafts, blocks)
        block = yield from self._explored(drafts)
        return block or (yield from self._looked_everywhere(drafts))

    def _explored(self, drafts: dict[int, Draft]) -> Generator[float, None, Block | None]:
        """Look into a few blocks that exist before one is begun."""
        for _ in range(self.world.store.medium.seeks):
            yield from self.world.store.read()
        looks = 0
        while (block := self._believed_free(drafts)) is not None:
            if block.index in self._known:
                if block.index in self._fresh:
                    return block
            elif looks < LOOKS and (other := self._next_unseen()) is not None:
                looks += 1
                block = other
            elif block.index in self._fresh:
                return block
            yield from self._load(block)
        return None

    def _looked_everywhere(self, drafts: dict[int, Draft]) -> Generator[float, None, Block | None]:
        """Read all blocks: only that shows that nothing is free."""
        yield from self.world.store.read()
        for block in self.world.ground.blocks:
            if block.version and block.index not in self._fresh:
                yield from self._load(block)
        return self._longest_free(drafts, self.world.ground.blocks)

    def _next_unseen(self) -> Block | None:
        if not self._unseen:
            return None
        last = max(self._unseen)
        if self._order and self._order[-1] > last:
            last = self.world.chance.choice(sorted(self._unseen))
        self._unseen.discard(last)
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

    def _is_open(self, block: Block) -> bool:
        return True

    def _believed_free(self, drafts: dict[int, Draft]) -> Block | None:
        """Return the first block of which an address is believed never to have been held."""
        ground, known = self.world.ground, self._known
        blocks, count, start = ground.blocks, ground.count, self._start
        at_front = True
        for number in range(self._cursor, count):
            block = blocks[(start + number) % count]
            index = block.index
            draft = drafts.get(index)
            asks = len(draft.asks) if draft else 0
            if index in known:
                if known[index][0] > asks and self._is_open(block):
                    return block
                if at_front and not known[index][0]:
                    self._cursor = number + 1
                    continue
            elif index not in self._unseen and asks < block.size:
                return block
            at_front = False
        return self._freed_longest(drafts)

    def _freed_longest(self, drafts: dict[int, Draft]) -> Block | None:
        """Return the block with the address that is believed to be free longest."""
        best, since = None, float("inf")
        for index, (_, when) in self._known.items():
            if 0.0 <= when < since and self._is_open(block := self.world.ground.blocks[index]):
                draft = drafts.get(index)
                if draft is None or block.free > len(draft.asks):
                    best, since = block, when
        return best
