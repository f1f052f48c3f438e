"""A Hypothesis state machine: several nodes on one store, one store call after the other.

Each node is address management of its own over a store that may lose answers, deliver late and
twice, and refuse; nodes crash between any two calls of a store and come again; clocks jump. Which
node goes on next, and what becomes of its next call, is Hypothesis' choice: a failure is replayed
exactly, and shrunk.
"""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from podnet.engine.leases import Ipam
from podnet.errors import (
    AddressUnavailableError,
    PodnetError,
    PoolExhaustedError,
)
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing.baton import Killed, Task, cooperating, current
from podnet.testing.ledger import Ledger, Op
from podnet.testing.sites import FATES, FINE, Clock, Gate, Node, Site, Stray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from podnet.model.lease import Lease
    from podnet.ports import Store

# Few addresses on both sides of the border of two blocks, and a pool that has one of them, too; of
# the first every block is read for every request, of the second none but those that matter.
POOLS = (
    Pool("border", "10.0.0.0/22", first="10.0.1.254", last="10.0.2.0", domain="nodes"),
    Pool("beyond", "10.0.0.0/12", first="10.0.2.0", last="10.0.2.1", domain="nodes"),
)
MAY = {"border": ("10.0.1.254", "10.0.1.255", "10.0.2.0"), "beyond": ("10.0.2.0", "10.0.2.1")}
# So many calls of stores are enough for anything that ends at all.
_ENOUGH = 20_000
# The first node most of all: what goes on in one node at once is as likely to be wrong.
_NODES = st.sampled_from([0, 0, 0, 1, 1, 2])
_PODS = st.integers(0, 2)
_FATES = st.sampled_from([FINE, FINE, FINE, *FATES])
_POOLS = st.integers(0, 1)
_CALLS = st.one_of(
    st.tuples(
        st.just("allocate"), st.fixed_dictionaries({"node": _NODES, "pod": _PODS, "pool": _POOLS})
    ),
    st.tuples(
        st.just("release"),
        st.fixed_dictionaries(
            {"node": _NODES, "pod": _PODS, "pool": st.none(), "old": st.just(False)}
        ),
    ),
    st.tuples(
        st.just("allocate_requested"),
        st.fixed_dictionaries(
            {"node": _NODES, "pod": _PODS, "pool": _POOLS, "choice": st.integers(0, 3)}
        ),
    ),
)


def plain_node(site: Site) -> Node:
    """Return ``podnet.Ipam`` over the shared store."""
    return Ipam(
        site.shared,
        clock=site.clock,
        node=site.name,
        attempts=30,
        jitter=lambda: 1.0,
        sleep=site.sleep,
    )


def leases_of(shared: Store, local: Mapping[str, Store]) -> Iterator[Lease]:
    """Return the leases there are: of a block that a node holds, what that node's own store says.

    Args:
        shared: store of all nodes.
        local: name of each node to its own store.
    """
    for key in shared.keys(""):
        entry = shared.load(key)
        if entry is not None:
            block = entry[0]
            mine = local[block.holder].load(key) if block.holder in local else None
            yield from (mine or entry)[0].leases.values()


@define(eq=False)
class _Machine:
    """One node of the simulation; ``node`` is None while it is down."""

    name: str
    shared: Gate
    local: Gate
    clock: Clock
    node: Node | None = None
    running: dict[Task, Op] = field(factory=dict)
    containers: dict[int, int] = field(factory=lambda: defaultdict(int))


class NodesMachine(RuleBasedStateMachine):
    """Nodes allocate, release and sweep; the ledger knows what each caller may rely on.

    Attributes:
        nodes: their names.
        pods: how many each node has.
        threads: how many calls of one node may be under way at once.
        pools: two, of which one address at least should be in both.
        may: what each pool may hand out, worked out by hand.
        strict: a refusal needs a moment at which nothing was free; else it is enough that no one
            address was free all the time.
    """

    nodes: tuple[str, ...] = ("node-0", "node-1", "node-2")
    pods = 3
    threads = 3
    pools = POOLS
    may: Mapping[str, Iterable[str]] = MAY
    strict = True

    def __init__(
        self,
        opened: Callable[[], Store] = MemoryStore,
        make: Callable[[Site], Node] = plain_node,
        leases: Callable[[Store, Mapping[str, Store]], Iterable[Lease]] = leases_of,
    ) -> None:
        """Set nodes up.

        Args:
            opened: returns the shared store, new and empty.
            make: starts the software of a node, for the first time and after a crash.
            leases: reads from the stores which leases there are.
        """
        super().__init__()
        self._exit = contextlib.ExitStack()
        self._exit.enter_context(cooperating("podnet.engine"))
        self.now = 1.7e9
        self.store = opened()
        self.strays: list[tuple[Stray, tuple[Op, ...]]] = []
        self.ledger = Ledger(self.may, strict=self.strict)
        self._make = make
        self._leases = leases
        self._machines = [self._machine(name) for name in self.nodes]
        self._local = {each.name: each.local.inner for each in self._machines}

    def _machine(self, name: str) -> _Machine:
        def send(stray: Stray) -> None:
            self.strays.append((stray, tuple(machine.running.values())))

        shared = Gate("the store", self.store, send)
        local = Gate(f"{name}'s disk", MemoryStore(), None)
        machine = _Machine(name, shared, local, Clock(lambda: self.now))
        return machine

    # What nodes are asked for

    @rule(node=_NODES, pod=_PODS, pool=_POOLS)
    def allocate(self, node: int, pod: int, pool: int) -> None:
        """A pod asks for an address."""
        self._allocate(node, pod, self.pools[pool % len(self.pools)])

    @rule(node=_NODES, pod=_PODS, pool=_POOLS, choice=st.integers(0, 4))
    def allocate_requested(self, node: int, pod: int, pool: int, choice: int) -> None:
        """A pod asks for one address of a pool, or for one that is not the pool's to give."""
        asked = self.pools[pool % len(self.pools)]
        may = [*self.may[asked.name], str(asked.network.masked.address)]
        self._allocate(node, pod, asked, may[choice % len(may)])

    def _allocate(self, node: int, pod: int, pool: Pool, requested: str | None = None) -> None:
        machine, owner = self._pod(node, pod)
        op = Op(what="allocate", node=machine.name, pool=pool, owner=owner, requested=requested)
        self._start(
            machine,
            op,
            lambda node: node.allocate(pool, owner, network="net", requested=requested),
        )

    @rule(node=_NODES, pod=_PODS, gone=st.booleans())
    def lose_container(self, node: int, pod: int, *, gone: bool) -> None:
        """A container dies, and no node is told; the pod has a new one, or is gone with it."""
        machine, owner = self._pod(node, pod)
        if self._busy(owner):
            return
        if gone:
            self.ledger.forget((owner.pod_uid, owner.ifname))
        machine.containers[pod % self.pods] += 1

    @rule(node=_NODES, pod=_PODS, pool=st.sampled_from([None, 0, 1]), old=st.booleans())
    def release(self, node: int, pod: int, pool: int | None, *, old: bool) -> None:
        """A pod, or an earlier container of it, gives back what it has."""
        machine, owner = self._pod(node, pod)
        if old and (container := machine.containers[pod % self.pods]):
            owner = self._owner(machine, pod % self.pods, container - 1)
        where = None if pool is None else self.pools[pool % len(self.pools)]
        op = Op(what="release", node=machine.name, pool=where, owner=owner)
        self._start(machine, op, lambda node: node.release(owner, pool=where))

    @rule(choice=st.integers(0, 7))
    def release_grant(self, choice: int) -> None:
        """One grant that somebody was told of once is to end; most are over already."""
        if self.ledger.told:
            lease = self.ledger.told[-1 - choice % len(self.ledger.told)]
            machine = self._home(lease)
            op = Op(what="end", node=machine.name, lease=lease)
            self._start(machine, op, lambda node: node.release(lease))

    @rule(node=_NODES)
    def sweep(self, node: int) -> None:
        """GC of one node: what its runtime does not know any more is taken back."""
        machine = self._machines[node % len(self.nodes)]
        if any(op.what != "tick" for op in machine.running.values()):
            return  # GC and ADD exclude each other (CNI 1.1.0, "GC")
        alive = frozenset(key for each in self.ledger.holdings.values() for key in each.keys)
        op = Op(what="sweep", node=machine.name, spared=alive)
        self._start(machine, op, lambda node: node.sweep("net", alive))

    @precondition(lambda self: any(hasattr(each.node, "tick") for each in self._machines))
    @rule(node=_NODES)
    def tick(self, node: int) -> None:
        """A node does something in the background."""
        self._tick(self._machines[node % len(self.nodes)])

    def _tick(self, machine: _Machine) -> None:
        self._up(machine)
        ticking = any(op.what == "tick" for op in machine.running.values())
        if hasattr(machine.node, "tick") and not ticking:
            op = Op(what="tick", node=machine.name)
            self._start(machine, op, lambda node: node.tick())  # type: ignore[attr-defined]

    # What becomes of it

    @precondition(lambda self: self._runnable())
    @rule(moves=st.lists(st.tuples(st.integers(0, 5), _FATES), min_size=1, max_size=6))
    def go(self, moves: list[tuple[int, str]]) -> None:
        """Tasks go on, each over one call of a store; the call ends as fate has it."""
        for choice, fate in moves:
            if tasks := self._runnable():
                self._go(*tasks[choice % len(tasks)], fate)

    @rule(
        calls=st.lists(_CALLS, min_size=2, max_size=4),
        choices=st.lists(st.integers(0, 3), max_size=16),
    )
    def rush(self, calls: list[tuple[str, dict[str, Any]]], choices: list[int]) -> None:
        """Several calls begin at once, and all goes well; what is not over in time goes on."""
        for name, about in calls:
            getattr(self, name)(**about)
        self.go([(choice, FINE) for choice in choices])

    @precondition(lambda self: self._runnable())
    @rule(choice=st.integers(0, 5), most=st.integers(1, 12))
    def run_on(self, choice: int, most: int) -> None:
        """One task goes on over several calls, which all end well."""
        machine, task = (tasks := self._runnable())[choice % len(tasks)]
        for _ in range(most):
            if task.can_go_on:
                self._go(machine, task, FINE)

    @precondition(lambda self: self._runnable())
    @rule()
    def settle(self) -> None:
        """All tasks go on in turns until each is over."""
        self._settle()

    @precondition(lambda self: self.strays)
    @rule(choice=st.integers(0, 5))
    def arrive(self, choice: int) -> None:
        """A swap that was given up arrives after all."""
        stray, causes = self.strays.pop(choice % len(self.strays))
        stray.arrive()
        self._observe(causes)

    @rule(node=_NODES)
    def crash(self, node: int) -> None:
        """A node's process dies, with all it is doing."""
        self._crash(self._machines[node % len(self.nodes)])

    @rule(
        node=st.none() | _NODES,
        seconds=st.sampled_from([1.0, 60.0, 1e6, -5.0, -1e6]),
    )
    def jump(self, node: int | None, seconds: float) -> None:
        """A node's clock is set, or time passes for all."""
        if node is None:
            self.now += abs(seconds)
        else:
            self._machines[node % len(self.nodes)].clock.off += seconds

    def teardown(self) -> None:
        """All nodes recover, all pods go, and nothing may be left."""
        try:
            # Not after a failure: it would be told instead of what it comes from.
            if sys.exc_info()[0] is None:
                self.finish()
        finally:
            for machine in self._machines:
                self._crash(machine)
            self.store.close()
            self._exit.close()

    def finish(self) -> None:
        """Let everything come to its end without faults, give all back, and see that it is so."""
        for stray, causes in self.strays:
            stray.arrive()
            self._observe(causes)
        self.strays.clear()
        self._settle()
        for machine in self._machines:
            for pod in range(self.pods):
                for container in range(machine.containers[pod] + 1):
                    self._release_at_last(machine, self._owner(machine, pod, container))
        for _ in range(4):
            for machine in self._machines:
                self._tick(machine)
                self._settle()
        left = list(self._leases(self.store, self._local))
        assert not left, f"all was given back, and there still is {left}"
        self._use_up()

    def _release_at_last(self, machine: _Machine, owner: Owner) -> None:
        op = Op(what="release", node=machine.name, owner=owner)
        self._start(machine, op, lambda node: node.release(owner))
        self._settle()

    def _use_up(self) -> None:
        """Every address can be had again."""
        pool, machine = self.pools[0], self._machines[0]
        want = len(tuple(self.may[pool.name]))
        for number in range(want + 1):
            owner = Owner(f"last-{number}", "eth0", "", "", f"last-{number}")
            op = Op(what="allocate", node=machine.name, pool=pool, owner=owner)
            self._start(
                machine,
                op,
                lambda node, owner=owner: node.allocate(pool, owner, network="net"),  # type: ignore[misc]
            )
            self._settle()
        held = {str(x.lease.ip) for x in self.ledger.holdings.values()}
        assert held == set(self.may[pool.name]), f"only {sorted(held)} could be had again"

    def _settle(self) -> None:
        for turn in range(_ENOUGH):
            tasks = self._runnable()
            if not tasks:
                break
            self._go(*tasks[turn % len(tasks)], FINE)
        waiting = [str(op) for machine in self._machines for op in machine.running.values()]
        assert not waiting, f"they never come to an end: {waiting}"

    # How it is done

    def _pod(self, node: int, pod: int) -> tuple[_Machine, Owner]:
        machine = self._machines[node % len(self.nodes)]
        return machine, self._owner(machine, pod % self.pods, machine.containers[pod % self.pods])

    def _owner(self, machine: _Machine, pod: int, container: int) -> Owner:
        name = f"{machine.name}-{pod}"
        return Owner(f"{name}-{container}", f"eth{pod % 2}", "ns", name, f"uid-{name}")

    def _home(self, lease: Lease) -> _Machine:
        return next(each for each in self._machines if each.name == lease.node)

    def _busy(self, owner: Owner) -> bool:
        pod = owner.pod_uid
        return any(
            (op.owner is not None and op.owner.pod_uid == pod)
            or (op.lease is not None and op.lease.owner.pod_uid == pod)
            for op in self.ledger.under_way
        )

    def _up(self, machine: _Machine) -> Node:
        if machine.node is None:
            site = Site(
                name=machine.name,
                shared=machine.shared,
                local=machine.local,
                clock=machine.clock,
                sleep=self._sleep,
            )
            machine.node = self._make(site)
        return machine.node

    def _start(self, machine: _Machine, op: Op, call: Callable[[Node], object]) -> None:
        about = op.owner or (op.lease.owner if op.lease else None)
        others = [each for each in machine.running.values() if each.what != "tick"]
        if about is not None and self._busy(about):
            return  # runtimes do not call twice at once for one attachment
        if op.what != "tick" and (
            len(others) >= self.threads or any(each.what == "sweep" for each in others)
        ):
            return
        node = self._up(machine)
        self.ledger.begin(op)
        task = Task(str(op), lambda: call(node))
        machine.running[task] = op
        task.begin()
        self._after(machine, task)

    def _runnable(self) -> list[tuple[_Machine, Task]]:
        return [
            (machine, task)
            for machine in self._machines
            for task in machine.running
            if task.can_go_on
        ]

    def _go(self, machine: _Machine, task: Task, fate: str) -> None:
        task.go_on(fate)
        self._after(machine, task)

    def _after(self, machine: _Machine, task: Task) -> None:
        self._observe()
        if not task.over:
            return
        op = machine.running.pop(task)
        error = task.error
        if error is None:
            self.ledger.answered(op, task.result)
        elif isinstance(error, PoolExhaustedError | AddressUnavailableError):
            self.ledger.refused(op, error)
        elif isinstance(error, PodnetError | Killed):
            self.ledger.lost(op)
        else:
            raise error

    def _observe(self, strays_of: Iterable[Op] | None = None) -> None:
        self.ledger.observe(self._leases(self.store, self._local), strays_of)

    def _crash(self, machine: _Machine) -> None:
        for task in list(machine.running):
            task.kill()
            self.ledger.lost(machine.running.pop(task))
        crash = getattr(machine.node, "crash", None)
        if crash is not None:
            cast("Callable[[], None]", crash)()
        machine.node = None

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if (task := current()) is not None:
            task.stop(f"sleep of {seconds} s")
