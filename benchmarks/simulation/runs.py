"""One run: a mode, a block size, a workload and a store; and what came of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from attrs import asdict, evolve, field, frozen

from . import peers, shared
from .blocks import Ground
from .clock import Clock
from .medium import KUBERNETES, Medium, ModelStore
from .owned import OwnedNode
from .pods import Cluster, Workload
from .shared import Manner, SharedNode, World
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

SHARED, OWNED, ONE_OBJECT, PER_ADDRESS = "shared", "owned", "one object", "object per address"


@frozen(kw_only=True)
class Case:
    """What is to be run.

    Attributes:
        mode: one of the four above.
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
    more: dict[str, Any] = field(factory=dict)


def run(case: Case, on_progress: Callable[[int, int], None] | None = None) -> Outcome:
    """Run a case to its end."""
    workload = case.workload
    # Two streams, so that the same pods come and go whatever the mode.
    chance, fate = random.Random(case.seed), random.Random(-case.seed)  # noqa: S311 - repeatable
    clock, tally = Clock(), Tally()
    medium = case.medium
    if case.mode == ONE_OBJECT:
        medium = evolve(medium, each=peers.POOL_ENTRY)
    store = ModelStore(clock, medium, chance, tally)
    ground = Ground(-(-case.pool // case.block), case.block)
    world = World(clock, store, ground, chance, tally, case.manner)
    pool, addresses = peers.OnePool(), peers.Addresses(case.pool)

    def node(number: int) -> Any:
        if case.mode == SHARED:
            return SharedNode(world, number)
        if case.mode == OWNED:
            return OwnedNode(world, number)
        if case.mode == ONE_OBJECT:
            return peers.LockingNode(world, pool)
        return peers.AddressNode(world, addresses)

    def bury(dead: Any) -> Any:
        by = shared.bury if isinstance(dead, SharedNode) else peers.bury
        clock.start(by(world, dead))
        return node(getattr(dead, "number", 0))

    nodes = [node(number) for number in range(workload.nodes)]
    cluster = world.cluster = Cluster(clock, workload, fate, tally, nodes, bury)

    def look() -> bool:
        if on_progress is not None:
            on_progress(tally.leases, cluster.total)
        return clock.now < workload.ends and not cluster.is_over

    cluster.begin()
    clock.run(look)
    for each in nodes:
        for since in getattr(each, "held", {}).values():
            world.looked(clock.now - since)
    objects = {ONE_OBJECT: 1 + pool.leases, PER_ADDRESS: len(addresses.held)}
    return _outcome(case, tally, clock.now, objects.get(case.mode, ground.objects))


def _outcome(case: Case, tally: Tally, seconds: float, objects: int) -> Outcome:
    waits = sorted(tally.waits)
    leases = len(waits) or 1

    def percentile(part: float) -> float:
        return 1000 * waits[min(len(waits) - 1, int(part * len(waits)))] if waits else 0.0

    stranded = tally.stranded(seconds)
    names = "claims publishes recalls short full untold lost throttled too_large".split()
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
        objects=objects,
        refused=tally.refused,
        note=case.note,
        more={
            **{name: getattr(tally, name) for name in names},
            "looks": tally.looks,
            "most_stranded": tally.most_stranded,
            "seconds": round(seconds),
            "medium": asdict(case.medium)["name"],
        },
    )
