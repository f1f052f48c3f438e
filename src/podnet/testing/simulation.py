"""Several nodes on one store, of which one goes on at a time: deterministic, without Hypothesis.

Each node is address management of its own behind gates: every call of a store stops until it is
told to go on, and what becomes of it. The ledger holds what the callers are told, and what there
is in the stores after every single effect, to what they may rely on. ``NodesMachine`` lets
Hypothesis decide what happens; a test of one course of events decides it itself.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from attrs import define, field, frozen

from podnet.engine.leases import Ipam
from podnet.errors import AddressUnavailableError, PodnetError, PoolExhaustedError
from podnet.model.lease import Owner
from podnet.stores.memory import MemoryStore
from podnet.testing.baton import Killed, Task, cooperating, current
from podnet.testing.ledger import Ledger, Op, pod_of
from podnet.testing.sites import FINE, Clock, Gate, Node, Site, Stray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from podnet.model.lease import Lease
    from podnet.model.pool import Pool
    from podnet.ports import Store

# So many calls of stores are enough for anything that ends at all.
_ENOUGH = 20_000
# So often does each node's background get its turn before all has to be given back.
_TICKS = 4


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
class Machine:
    """One node; ``node`` is None while it is down."""

    name: str
    shared: Gate
    local: Gate
    clock: Clock
    node: Node | None = None
    running: dict[Task, Op] = field(factory=dict)

    @property
    def asked(self) -> list[Op]:
        """What it was asked for, and has not answered."""
        return [op for op in self.running.values() if op.what != "tick"]


@define(eq=False)
class Pod:
    """Who asks for addresses; its containers come and go.

    Attributes:
        number: among the pods of its node.
        container: how many containers it has had before.
    """

    machine: Machine
    number: int
    container: int = 0

    def owner(self, container: int | None = None) -> Owner:
        """Return its container as an owner, or an earlier one."""
        name = f"{self.machine.name}-{self.number}"
        at = self.container if container is None else container
        return Owner(f"{name}-{at}", f"eth{self.number % 2}", "ns", name, f"uid-{name}")


@frozen(kw_only=True)
class World:
    """What a simulation is made of.

    Attributes:
        pools: where addresses come from; what they may hand out is ``may``.
        may: name of a pool to its addresses, worked out by hand.
        opened: returns the shared store, new and empty.
        make: starts the software of a node, for the first time and after each crash.
        leases: reads from the shared store and those of the nodes which leases there are.
        nodes: their names.
        pods: how many each node has.
        threads: how many calls of one node may be under way at once.
        strict: a refusal needs a moment at which nothing was free; else it is enough that no one
            address was free all the time.
        packages: whose locks have to be the baton's.
    """

    pools: Sequence[Pool]
    may: Mapping[str, Sequence[str]]
    opened: Callable[[], Store] = MemoryStore
    make: Callable[[Site], Node] = plain_node
    leases: Callable[[Store, Mapping[str, Store]], Iterable[Lease]] = leases_of
    nodes: Sequence[str] = ("node-0", "node-1", "node-2")
    pods: int = 3
    threads: int = 3
    strict: bool = True
    packages: Sequence[str] = ("podnet.engine",)


class Simulation:
    """The nodes of a world, and all that happens to them.

    Attributes:
        now: seconds since the epoch, but for what each node's clock is off.
        strays: swaps that were given up and may arrive yet, with the calls they were for.
    """

    def __init__(self, world: World) -> None:
        """Begin with nodes that are down and an empty store."""
        self.world = world
        self.now = 1.7e9
        self.store = world.opened()
        self.ledger = Ledger(world.may, strict=world.strict)
        self.strays: list[tuple[Stray, tuple[Op, ...]]] = []
        self.machines = [self._machine(name) for name in world.nodes]
        self.pods = [Pod(each, n) for each in self.machines for n in range(world.pods)]
        self._local = {each.name: each.local.inner for each in self.machines}
        self._exit = contextlib.ExitStack()
        self._exit.enter_context(cooperating(*world.packages))

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all nodes."""
        for machine in self.machines:
            self.crash(machine)
        self.store.close()
        self._exit.close()

    def _machine(self, name: str) -> Machine:
        def send(stray: Stray) -> None:
            self.strays.append((stray, tuple(machine.running.values())))

        shared = Gate("the store", self.store, send)
        local = Gate(f"{name}'s disk", MemoryStore(), None)
        machine = Machine(name, shared, local, Clock(lambda: self.now))
        return machine

    # What nodes are asked for; each returns the task, or None where it may not be asked now

    def allocate(self, pod: Pod, pool: Pool, requested: str | None = None) -> Task | None:
        """A pod asks for an address."""
        owner = pod.owner()
        op = Op(what="allocate", node=pod.machine.name, pool=pool, owner=owner, requested=requested)

        def call(node: Node) -> object:
            return node.allocate(pool, owner, network="net", requested=requested)

        return self._start(pod.machine, op, call)

    def release(self, pod: Pod, pool: Pool | None = None, *, old: bool = False) -> Task | None:
        """A pod gives back what it has of a pool, or all; or its last container but one does."""
        owner = pod.owner(pod.container - 1 if old and pod.container else None)
        op = Op(what="release", node=pod.machine.name, pool=pool, owner=owner)
        return self._start(pod.machine, op, lambda node: node.release(owner, pool=pool))

    def end(self, lease: Lease) -> Task | None:
        """One grant is to end."""
        machine = next(each for each in self.machines if each.name == lease.node)
        op = Op(what="end", node=machine.name, lease=lease)
        return self._start(machine, op, lambda node: node.release(lease))

    def sweep(self, machine: Machine) -> Task | None:
        """GC of one node: what its runtime does not know any more is taken back."""
        if machine.asked:
            return None  # GC and ADD exclude each other (CNI 1.1.0, "GC")
        alive = frozenset(key for each in self.ledger.holdings.values() for key in each.keys)
        op = Op(what="sweep", node=machine.name, spared=alive)
        return self._start(machine, op, lambda node: node.sweep("net", alive))

    def tick(self, machine: Machine) -> Task | None:
        """A node does something in the background, if it ever does."""
        self.node(machine)
        ticking = len(machine.asked) < len(machine.running)
        if ticking or not hasattr(machine.node, "tick"):
            return None
        op = Op(what="tick", node=machine.name)
        return self._start(machine, op, lambda node: node.tick())  # type: ignore[attr-defined]

    def lose(self, pod: Pod, *, gone: bool) -> None:
        """A pod's container dies and no node is told; the next is the same pod's, or a new one's.

        Args:
            pod: which.
            gone: the pod is gone with it.
        """
        if not self.is_busy(pod):
            if gone:
                self.ledger.forget(pod_of(pod.owner()))
            pod.container += 1

    def is_busy(self, pod: Pod) -> bool:
        """Tell whether a call about the pod is under way."""
        return self._is_busy(pod.owner())

    def _is_busy(self, owner: Owner) -> bool:
        return any(
            op.about is not None and pod_of(op.about) == pod_of(owner)
            for op in self.ledger.under_way
        )

    def node(self, machine: Machine) -> Node:
        """Return the node's software, started if it is down."""
        if machine.node is None:
            machine.node = self.world.make(
                Site(
                    name=machine.name,
                    shared=machine.shared,
                    local=machine.local,
                    clock=machine.clock,
                    sleep=self._sleep,
                )
            )
        return machine.node

    def _start(self, machine: Machine, op: Op, call: Callable[[Node], object]) -> Task | None:
        if op.about is not None and self._is_busy(op.about):
            return None  # runtimes do not call twice at once for one attachment
        full = len(machine.asked) >= self.world.threads
        if op.what != "tick" and (full or any(each.what == "sweep" for each in machine.asked)):
            return None
        node = self.node(machine)
        self.ledger.begin(op)
        task = Task(str(op), lambda: call(node))
        machine.running[task] = op
        task.begin()
        self._after(machine, task)
        return task

    # What becomes of it

    @property
    def runnable(self) -> list[Task]:
        """The tasks that can go on, those of the first node first."""
        return [task for each in self.machines for task in each.running if task.can_go_on]

    def go(self, task: Task, fate: str = FINE) -> None:
        """A task goes on, over one call of a store, which ends as fate has it."""
        machine = next(each for each in self.machines if task in each.running)
        task.go_on(fate)
        self._after(machine, task)

    def _after(self, machine: Machine, task: Task) -> None:
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
        self.ledger.observe(self.leases(), strays_of)

    def leases(self) -> Iterable[Lease]:
        """Return the leases there are, as the world reads them."""
        return self.world.leases(self.store, self._local)

    def arrive(self, number: int) -> None:
        """A swap that was given up arrives after all."""
        stray, causes = self.strays.pop(number)
        stray.arrive()
        self._observe(causes)

    def crash(self, machine: Machine) -> None:
        """A node's process dies, with all it is doing."""
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

    def settle(self) -> None:
        """Let all tasks go on in turns until each is over."""
        for turn in range(_ENOUGH):
            tasks = self.runnable
            if not tasks:
                break
            self.go(tasks[turn % len(tasks)])
        waiting = [str(op) for machine in self.machines for op in machine.running.values()]
        assert not waiting, f"they never come to an end: {waiting}"

    def finish(self) -> None:
        """Let everything come to its end without faults, give all back, and see that it is so."""
        while self.strays:
            self.arrive(0)
        self.settle()
        for pod in self.pods:
            for container in range(pod.container + 1):
                pod.container = container
                self.release(pod)
                self.settle()
        for _ in range(_TICKS):
            for machine in self.machines:
                self.tick(machine)
                self.settle()
        left = list(self.leases())
        assert not left, f"all was given back, and there still is {left}"
        self._use_up(self.world.pools[0])

    def _use_up(self, pool: Pool) -> None:
        """Every address can be had again, from one node."""
        machine = self.machines[0]
        may = set(self.world.may[pool.name])
        for number in range(len(may)):
            self.allocate(Pod(machine, 1000 + number), pool)
            self.settle()
        held = {str(each.lease.ip) for each in self.ledger.holdings.values()}
        assert held == may, f"only {sorted(held)} could be had again"
