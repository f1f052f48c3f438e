"""podnet's own engine in virtual time: what the model is held to in the tests.

Each call of ``Ipam`` is a thread that stands still while its store call takes its time; one runs
at a time (``podnet.testing.baton``), so that a run is the same every time.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from podnet.engine.leases import Ipam
from podnet.engine.owning import Manner, Owning
from podnet.errors import PodnetError
from podnet.ipam.holders import OwnerIndex
from podnet.model.lease import Lease, Owner
from podnet.model.pool import ALL, Pool
from podnet.testing.baton import Killed, Task, current

from .medium import DISK, ModelStore, Object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from podnet.model.block import Block

    from .pods import Pod
    from .shared import World

_EPOCH = 1.7e9


def _wait(seconds: float) -> None:
    task = current()
    assert task is not None
    task.stop(seconds)


class VirtualStore:
    """The modelled store, with real blocks in it."""

    def __init__(self, model: ModelStore) -> None:
        self._model = model
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
        assert new is not None
        thing = self._objects.setdefault(key, Object())
        before = self._blocks.get(key)
        changes = abs(len(new.leases) - self._leases(key)) or 1

        def apply() -> None:
            self._owners.update(key, before, new)
            self._blocks[key] = new

        writing = self._model.write(thing, int(expected or 0), len(new.leases), changes, apply)
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

    def close(self) -> None:
        """Do nothing."""


class Driver:
    """Runs tasks in virtual time."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self._blocked: list[tuple[Task, Callable[[], None]]] = []

    def start(self, name: str, action: Callable[[], object], done: Callable[[Task], None]) -> Task:
        """Run a call; ``done`` is called when it is over."""
        task = Task(name, action)
        task.begin()
        self._after_step(task, lambda: done(task))
        self._unblock()
        return task

    def _go_on(self, task: Task, done: Callable[[], None]) -> None:
        if task.over:
            return
        task.go_on()
        self._after_step(task, done)
        self._unblock()

    def _after_step(self, task: Task, done: Callable[[], None]) -> None:
        if task.over:
            done()
        elif isinstance(task.point, float):
            self._clock.after(task.point, self._go_on, task, done)
        else:
            self._blocked.append((task, done))

    def _unblock(self) -> None:
        while True:
            ready = next((each for each in self._blocked if each[0].can_go_on), None)
            if ready is None:
                return
            self._blocked.remove(ready)
            task, done = ready
            task.go_on()
            self._after_step(task, done)


class EngineNode:
    """One node of podnet itself."""

    def __init__(self, world: World, driver: Driver, shared: VirtualStore, number: int, *, owned: bool) -> None:
        self.world = world
        self.number = number
        self.pods: dict[Pod, None] = {}
        self.dead = False
        self._driver = driver
        self._numbers = 0
        self._leases: dict[Pod, Lease] = {}
        bits = (world.ground.count * world.ground.size - 1).bit_length()
        self._pool = Pool("pool", f"10.0.0.0/{32 - bits}", edges=ALL, mode="owned" if owned else "shared")
        clock = lambda: _EPOCH + world.clock.now
        store: object = shared
        name = f"node-{number}"
        self.owning = None
        if owned:
            disk = ModelStore(world.clock, DISK, world.chance, type(world.tally)())
            manner = world.manner
            self.owning = store = Owning(
                shared, VirtualStore(disk), node=name, clock=clock,
                manner=Manner(
                    publish_every=manner.publish_every, look_every=manner.look_every,
                    idle_after=manner.idle_after, scarce_for=manner.scarce_for,
                ),
                chance=world.chance.random,
            )
            self._tick()
        self._ipam = Ipam(store, clock=clock, node=name, jitter=world.chance.random, sleep=_wait, patience=manner.patience if owned else 10.0)

    def _tick(self) -> None:
        clock = self.world.clock
        self._driver.start("tick", self.owning.tick, lambda _: clock.after(1.0, self._tick))

    def ask(self, pod: Pod) -> None:
        self._numbers += 1
        owner = Owner(f"{self.number}-{self._numbers}", "eth1", "ns", "pod", f"uid-{self.number}-{self._numbers}")

        def done(task: Task) -> None:
            if task.error is None:
                self._leases[pod] = task.result
                self.pods[pod] = None
                self.world.cluster.started(pod)
            else:
                if not isinstance(task.error, PodnetError): raise task.error
                self.world.cluster.refused(pod)
        self._driver.start("ask", lambda: self._ipam.allocate(self._pool, owner), done)

    def give(self, pod: Pod) -> None:
        lease = self._leases[pod]
        def done(task: Task) -> None:
            if task.error is not None: raise task.error
            self.pods.pop(pod, None)
        self._driver.start("give", lambda: self._ipam.release(lease.owner, pool=self._pool), done)
