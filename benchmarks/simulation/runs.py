"""One run: a mode, a block size, a workload and a store; and what came of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from . import peers, shared
from .blocks import Ground
from .clock import Clock
from .medium import KUBERNETES, Medium, ModelStore
from .owned import OwnedNode
from .pods import Cluster, Node, Workload
from .shared import Manner, SharedNode, World
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED, OWNED, ONE_OBJECT, PER_ADDRESS = "shared", "owned", "one object", "object per address"
MODES = (SHARED, OWNED, ONE_OBJECT, PER_ADDRESS)


@frozen(kw_only=True)
class Case:
    """What is to be run.

    Attributes:
        mode: one of ``MODES``.
        block: addresses of a block; no matter to the peers.
        pool: addresses of the pool.
        workload: what the cluster has to bear.
        medium: the store.
        manner: how nodes behave.
        seed: of all chance.
        note: what is special about it, for people.
    """

    mode: str
    block: int = 512
    pool: int
    workload: Workload
    medium: Medium = KUBERNETES
    manner: Manner = field(factory=Manner)
    seed: int = 1
    note: str = ""

    @property
    def leases(self) -> int:
        """How many are to be granted, roughly."""
        return round(self.workload.held * (1 + self.workload.churn))


@frozen(kw_only=True)
class Outcome:
    """What came of a case: counts for each lease granted, over its whole life.

    Attributes:
        mode: see ``Case``.
        block: see ``Case``; 0 where there are none.
        nodes: how many.
        leases: granted.
        writes: requests to change something, those that lost included.
        conflicts: those that lost.
        reads: requests to read.
        p50: milliseconds to get an address.
        p99: the same, that 1 of 100 takes longer than.
        stranded: addresses that are free, and in a block that some node holds, on average.
        stranded_share: the same as a part of the pool.
        kilobytes: written.
        objects: at the end.
        refused: allocations that gave up and were tried again.
        note: see ``Case``.
        more: other counts.
    """

    mode: str
    block: int
    nodes: int
    leases: int
    writes: float
    conflicts: float
    reads: float
    p50: float
    p99: float
    stranded: int
    stranded_share: float
    kilobytes: float
    objects: int
    refused: int
    note: str = ""
    more: dict[str, int] = field(factory=dict)


class Run:
    """A case being run.

    Attributes:
        world: what all nodes share.
        nodes: they change when one dies.
        cluster: what happens.
    """

    def __init__(self, case: Case, make: Callable[[World, int], Node] | None = None) -> None:
        """Prepare it.

        Args:
            case: what.
            make: returns a node of a number; the model's if not given.
        """
        self.case = case
        # Two streams, so that the same pods come and go whatever the mode.
        chance, fate = random.Random(case.seed), random.Random(-case.seed)
        clock, tally, medium = Clock(), Tally(), case.medium
        if case.mode == ONE_OBJECT:
            medium = evolve(medium, each=peers.POOL_ENTRY)
        store = ModelStore(clock, medium, chance, tally)
        ground = Ground(-(-case.pool // case.block), case.block)
        self.world = World(clock, store, ground, chance, tally, case.manner)
        self._pool, self._addresses = peers.OnePool(), peers.Addresses(case.pool)
        self._make = make or self._model
        count = case.workload.nodes
        self.nodes: list[Node] = [self._make(self.world, number) for number in range(count)]
        self.cluster = Cluster(clock, case.workload, fate, tally, self.nodes, self._bury)
        self.world.cluster = self.cluster

    def _model(self, world: World, number: int) -> Node:
        mode = self.case.mode
        if mode == SHARED:
            return SharedNode(world, number)
        if mode == OWNED:
            return OwnedNode(world, number)
        if mode == ONE_OBJECT:
            return peers.LockingNode(world, self._pool)
        return peers.AddressNode(world, self._addresses)

    def _bury(self, dead: Node, number: int) -> Node:
        if isinstance(dead, SharedNode):
            self.world.clock.start(shared.bury(self.world, dead))
        else:
            self.world.clock.start(peers.bury(self.world, dead))
        return self._make(self.world, number)

    def play(self, on_progress: Callable[[int], None] | None = None) -> Outcome:
        """Run it to its end.

        Args:
            on_progress: called now and then with the number of leases granted.
        """
        clock, tally, cluster = self.world.clock, self.world.tally, self.cluster

        def look() -> bool:
            if on_progress is not None:
                on_progress(tally.leases)
            return clock.now < self.case.workload.ends and not cluster.is_over

        cluster.begin()
        clock.run(look)
        for node in self.nodes:
            for since in getattr(node, "held", {}).values():
                self.world.looked(clock.now - since)
        return self._outcome()

    @property
    def objects(self) -> int:
        """How many there are in the store."""
        if self.case.mode == ONE_OBJECT:
            return 1 + self._pool.leases
        if self.case.mode == PER_ADDRESS:
            return len(self._addresses.held)
        return self.world.ground.objects

    def _outcome(self) -> Outcome:
        case, tally, seconds = self.case, self.world.tally, self.world.clock.now
        waits = sorted(tally.waits)
        leases = len(waits) or 1

        def percentile(part: float) -> float:
            return 1000 * waits[min(len(waits) - 1, int(part * len(waits)))] if waits else 0.0

        stranded = tally.stranded(seconds)
        return Outcome(
            mode=case.mode,
            block=case.block if case.mode in (SHARED, OWNED) else 0,
            nodes=case.workload.nodes,
            leases=tally.leases,
            writes=tally.writes / leases,
            conflicts=tally.conflicts / leases,
            reads=(tally.reads + tally.looks) / leases,
            p50=percentile(0.5),
            p99=percentile(0.99),
            stranded=round(stranded),
            stranded_share=stranded / case.pool,
            kilobytes=tally.bytes / leases / 1000,
            objects=self.objects,
            refused=tally.refused,
            note=case.note,
            more=tally.more(seconds),
        )


def run(case: Case, on_progress: Callable[[int], None] | None = None) -> Outcome:
    """Run a case to its end, on the model."""
    return Run(case).play(on_progress)
