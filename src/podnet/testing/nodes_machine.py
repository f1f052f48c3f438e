"""A Hypothesis state machine: several nodes on one store, one store call after the other.

What is asked of which node, which call goes on next, what becomes of it, who crashes and when
clocks jump is Hypothesis' choice: a failure is replayed exactly, and shrunk.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition

from podnet.model.pool import Pool
from podnet.testing.ledger import pod_of
from podnet.testing.machines import rule
from podnet.testing.simulation import Simulation, World
from podnet.testing.sites import FATES, FINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.testing.simulation import Machine, Pod

# Few addresses on both sides of the border of two blocks, and a pool that has one of them, too; of
# the first every block is read for every request, of the second none but those that matter.
POOLS = (
    Pool("border", "10.0.0.0/22", first="10.0.1.254", last="10.0.2.0", domain="nodes"),
    Pool("beyond", "10.0.0.0/12", first="10.0.2.0", last="10.0.2.1", domain="nodes"),
)
WORLD = World(
    pools=POOLS,
    may={"border": ("10.0.1.254", "10.0.1.255", "10.0.2.0"), "beyond": ("10.0.2.0", "10.0.2.1")},
)

_FATES = st.sampled_from([FINE, FINE, FINE, *FATES])
_NODE = st.integers(0, 2)
_WHO = st.integers(0, 11)
_POOL = st.integers(0, 1)
_CHOICE = st.integers(0, 5)
# How far a task goes before another one does: one call, some, or all the way.
_FAR = st.sampled_from([1, 1, 2, 3, 50])
_CALLS = st.one_of(
    st.tuples(st.just("allocate"), st.fixed_dictionaries({"who": _WHO, "pool": _POOL})),
    st.tuples(
        st.just("allocate_requested"),
        st.fixed_dictionaries({"who": _WHO, "pool": _POOL, "choice": _CHOICE}),
    ),
    st.tuples(
        st.just("release"),
        st.fixed_dictionaries({"who": _WHO, "pool": st.none(), "old": st.just(False)}),
    ),
)


class NodesMachine(RuleBasedStateMachine):
    """Nodes allocate, release and sweep; the simulation's ledger says whether it can be true.

    Attributes:
        world: what it is made of; a subclass may have another.
    """

    world = WORLD

    def __init__(self, **changes: Any) -> None:
        """Set nodes up.

        Args:
            changes: attributes of ``World`` that are to be others.
        """
        super().__init__()
        self.sim = Simulation(evolve(self.world, **changes))

    def teardown(self) -> None:
        """All nodes recover, all pods go, and nothing may be left."""
        with self.sim:
            # Not after a failure: it would be told instead of what it comes from.
            if sys.exc_info()[0] is None:
                self.sim.finish()

    # What nodes are asked for

    @rule(who=_WHO, pool=_POOL)
    def allocate(self, who: int, pool: int) -> None:
        """A pod asks for an address; mostly one that has none."""
        asked = self._pool(pool)
        self.sim.allocate(self._asking(who, asked), asked)

    @rule(who=_WHO, pool=_POOL, choice=_CHOICE)
    def allocate_requested(self, who: int, pool: int, choice: int) -> None:
        """A pod asks for one address of a pool, or for one that is not the pool's to give."""
        asked = self._pool(pool)
        pod = self._asking(who, asked)
        before = [str(x.ip) for x in self.sim.ledger.told if x.owner.key == pod.owner().key]
        may = [*before[-1:], *self.sim.world.may[asked.name], str(asked.network.masked.address)]
        self.sim.allocate(pod, asked, may[choice % len(may)])

    @rule(who=_WHO, pool=st.none() | _POOL, old=st.booleans())
    def release(self, who: int, pool: int | None, *, old: bool) -> None:
        """A pod gives back what it has, or an earlier container of it does."""
        pod = self._one(who, self._holds_any)
        self.sim.release(pod, None if pool is None else self._pool(pool), old=old)

    @rule(choice=st.integers(0, 7))
    def release_grant(self, choice: int) -> None:
        """One grant that somebody was told of once is to end; most are over already."""
        # Mostly of an address that is held anew: freeing it would be the mistake.
        told = self.sim.ledger.overdue() if choice < 6 else []
        if told := told or self.sim.ledger.told:
            self.sim.end(told[-1 - choice % len(told)])

    @rule(node=_NODE)
    def sweep(self, node: int) -> None:
        """GC of one node."""
        self.sim.sweep(self._machine(node))

    @rule(who=_WHO, gone=st.booleans())
    def lose_container(self, who: int, *, gone: bool) -> None:
        """A container dies, and no node is told; the pod has a new one, or is gone with it."""
        self.sim.lose(self._one(who, self._holds_any), gone=gone)

    @precondition(lambda self: any(hasattr(each.node, "tick") for each in self.sim.machines))
    @rule(node=_NODE)
    def tick(self, node: int) -> None:
        """A node does something in the background."""
        self.sim.tick(self._machine(node))

    # What becomes of it

    @precondition(lambda self: self.sim.runnable)
    @rule(moves=st.lists(st.tuples(_CHOICE, _FATES), min_size=1, max_size=6))
    def go(self, moves: list[tuple[int, str]]) -> None:
        """Tasks go on, each over one call of a store; the call ends as fate has it."""
        for choice, fate in moves:
            if tasks := self.sim.runnable:
                self.sim.go(tasks[choice % len(tasks)], fate)

    @rule(
        calls=st.lists(_CALLS, min_size=1, max_size=4),
        moves=st.lists(st.tuples(_CHOICE, _FAR), max_size=8),
    )
    def rush(self, calls: list[tuple[str, dict[str, Any]]], moves: list[tuple[int, int]]) -> None:
        """Several calls begin at once, and go on by fits and starts; nothing goes wrong."""
        for name, about in calls:
            getattr(self, name)(**about)
        for choice, far in moves:
            tasks = self.sim.runnable
            task = tasks[choice % len(tasks)] if tasks else None
            for _ in range(far):
                if task is not None and task.can_go_on:
                    self.sim.go(task)

    @precondition(lambda self: self.sim.runnable)
    @rule()
    def settle(self) -> None:
        """All tasks go on in turns until each is over."""
        self.sim.settle()

    @precondition(lambda self: self.sim.strays)
    @rule(choice=_CHOICE)
    def arrive(self, choice: int) -> None:
        """A swap that was given up arrives after all."""
        self.sim.arrive(choice % len(self.sim.strays))

    @rule(node=_NODE)
    def crash(self, node: int) -> None:
        """A node's process dies, with all it is doing."""
        self.sim.crash(self._machine(node))

    @rule(node=st.none() | _NODE, seconds=st.sampled_from([1.0, 60.0, 1e6, -5.0, -1e6]))
    def jump(self, node: int | None, seconds: float) -> None:
        """A node's clock is set, or time passes for all."""
        if node is None:
            self.sim.now += abs(seconds)
        else:
            self._machine(node).clock.off += seconds

    def _machine(self, node: int) -> Machine:
        return self.sim.machines[node % len(self.sim.machines)]

    def _pool(self, pool: int) -> Pool:
        return self.sim.world.pools[pool % len(self.sim.world.pools)]

    def _asking(self, who: int, pool: Pool) -> Pod:
        return self._one(who, lambda pod: not self._holds(pod, pool))

    def _holds_any(self, pod: Pod) -> bool:
        return any(self._holds(pod, pool) for pool in self.sim.world.pools)

    def _holds(self, pod: Pod, pool: Pool) -> bool:
        """Tell whether the very container was told an address; a successor has to ask anew."""
        owner = pod.owner()
        held = self.sim.ledger.holdings.get((pool.name, pod_of(owner)))
        return held is not None and owner.key in held.keys

    def _one(self, who: int, suits: Callable[[Pod], bool]) -> Pod:
        """Return a pod: with two numbers of three one that suits and is not busy."""
        some = [pod for pod in self.sim.pods if not self.sim.is_busy(pod) and suits(pod)]
        pods = some if some and who % 3 else self.sim.pods
        return pods[who % len(pods)]
