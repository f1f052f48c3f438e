"""podnet's own engine in virtual time: what the model is held to in the tests.

Each call of ``Ipam`` is a thread that stands still while its store call takes its time; one runs
at a time (``podnet.testing.baton``), so that a run is the same every time. It costs a hundred times
what the model does. Nodes must not die here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from podnet.engine import owning
from podnet.engine.leases import Ipam
from podnet.errors import PodnetError
from podnet.ipam.holders import OwnerIndex
from podnet.model.block import BLOCK_SIZE
from podnet.model.lease import Lease, Owner
from podnet.model.pool import ALL, Pool
from podnet.testing.baton import Task, cooperating, current

from .medium import DISK, ModelStore, Object
from .runs import OWNED, Case, Outcome, Run
from .tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.model.block import Block
    from podnet.ports import Store

    from .pods import Pod
    from .shared import World

_EPOCH = 1.7e9
_TICK = 1.0


def run_engine(case: Case) -> Outcome:
    """Run a case with podnet's own engine on every node."""
    assert case.block == BLOCK_SIZE
    assert not case.workload.deaths
    shared: list[tuple[Driver, VirtualStore]] = []

    def make(world: World, number: int) -> EngineNode:
        if not shared:
            shared.append((Driver(world), VirtualStore(world.store)))
        driver, store = shared[0]
        return EngineNode(world, driver, store, number, owned=case.mode == OWNED)

    with cooperating("podnet.engine"):
        run = Run(case, make)
        outcome = run.play()
        shared[0][0].close()
        return outcome


def _wait(seconds: float) -> None:
    task = current()
    assert task is not None
    task.stop(seconds)


class VirtualStore:
    """The modelled store, with real blocks in it."""

    def __init__(self, model: ModelStore) -> None:
        self._model = model
        if model.medium.queues:
            self.queue = self._queue
        self._objects: dict[str, Object] = {}
        self._blocks: dict[str, Block] = {}
        self._owners = OwnerIndex()

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, when the time for it has passed."""
        for seconds in self._model.read(self._leases(key)):
            _wait(seconds)
        block = self._blocks.get(key)
        return None if block is None else (block, str(self._objects[key].version))

    def _leases(self, key: str) -> int:
        block = self._blocks.get(key)
        return 0 if block is None else len(block.leases)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block, if it is still at that version when the time has passed."""
        thing = self._objects.setdefault(key, Object())
        leases = 0 if new is None else len(new.leases)
        changes = abs(leases - self._leases(key)) or 1

        def apply() -> None:
            self._owners.update(key, self._blocks.get(key), new)
            if new is None:
                del self._blocks[key]
                thing.version = 0
            else:
                self._blocks[key] = new

        writing = self._model.write(thing, int(expected or 0), leases, changes, apply)
        try:
            while True:
                _wait(next(writing))
        except StopIteration as end:
            return bool(end.value)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys, when the time has passed."""
        for seconds in self._model.read():
            _wait(seconds)
        return sorted(key for key in self._blocks if key.startswith(prefix))

    def seek(self, prefix: str, owner: Owner) -> list[str]:
        """Return the keys of an owner's blocks, in no time, as from a mirror."""
        return [key for key in self._owners.seek(owner) if key.startswith(prefix)]

    @contextmanager
    def _queue(self, _prefix: str) -> Iterator[None]:
        waiting = self._model.line.wait()
        while True:
            try:
                _wait(next(waiting))
            except StopIteration as end:
                ticket = end.value
                break
        try:
            yield
        finally:
            self._model.line.leave(ticket)

    def close(self) -> None:
        """Do nothing."""


class Driver:
    """Runs calls in virtual time."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self._tasks: dict[Task, Callable[[Task], None]] = {}
        self._blocked: list[Task] = []

    def start(self, action: Callable[[], object], done: Callable[[Task], None]) -> None:
        """Begin a call; ``done`` is called when it is over."""
        task = Task("call", action)
        self._tasks[task] = done
        task.begin()
        self._after_step(task)

    def close(self) -> None:
        """End what is left."""
        for task in list(self._tasks):
            task.kill()

    def _go_on(self, task: Task) -> None:
        task.go_on()
        self._after_step(task)

    def _after_step(self, task: Task) -> None:
        if task.over:
            self._tasks.pop(task)(task)
        elif isinstance(task.point, float):
            self._clock.after(task.point, self._go_on, task)
        else:
            self._blocked.append(task)
        for each in self._blocked:
            if each.can_go_on:
                self._blocked.remove(each)
                self._go_on(each)
                return


class EngineNode:
    """One node's ``Ipam``."""

    def __init__(
        self, world: World, driver: Driver, shared: VirtualStore, number: int, *, owned: bool
    ) -> None:
        self.pods: dict[Pod, None] = {}
        self.dead = False
        self._world = world
        self._driver = driver
        self._name = f"node-{number}"
        self._count = 0
        self._leases: dict[Pod, Lease] = {}
        bits = (world.ground.count * BLOCK_SIZE - 1).bit_length()
        mode = "owned" if owned else "shared"
        self._pool = Pool("pool", f"10.0.0.0/{32 - bits}", edges=ALL, mode=mode)
        store: Store = shared
        if owned:
            store = self._owning(shared)
            self._tick(store)
        self._ipam = Ipam(
            store,
            clock=self._now,
            node=self._name,
            jitter=world.chance.random,
            sleep=_wait,
            patience=world.manner.patience,
        )

    def _now(self) -> float:
        return _EPOCH + self._world.clock.now

    def _owning(self, shared: VirtualStore) -> owning.Owning:
        world, manner = self._world, self._world.manner
        disk = ModelStore(world.clock, DISK, world.chance, Tally())
        return owning.Owning(
            shared,
            VirtualStore(disk),
            node=self._name,
            clock=self._now,
            manner=owning.Manner(
                publish_every=manner.publish_every,
                look_every=manner.look_every,
                idle_after=manner.idle_after,
                scarce_for=manner.scarce_for,
            ),
            chance=world.chance.random,
        )

    def _tick(self, store: owning.Owning) -> None:
        clock = self._world.clock
        self._driver.start(store.tick, lambda _: clock.after(_TICK, self._tick, store))

    def ask(self, pod: Pod) -> None:
        """Get it a lease."""
        self._count += 1
        name = f"{self._name}-{self._count}"
        owner = Owner(name, "eth1", "default", name, f"uid-{name}")

        def done(task: Task) -> None:
            if task.error is None:
                self.pods[pod] = None
                self._leases[pod] = task.result
                self._world.cluster.started(pod)
            elif isinstance(task.error, PodnetError):
                self._world.cluster.refused(pod)
            else:
                raise task.error

        self._driver.start(lambda: self._ipam.allocate(self._pool, owner), done)

    def give(self, pod: Pod) -> None:
        """Take its lease back."""
        owner = self._leases[pod].owner

        def done(task: Task) -> None:
            if task.error is not None:
                raise task.error
            self.pods.pop(pod, None)

        self._driver.start(lambda: self._ipam.release(owner, pool=self._pool), done)
