"""Two other designs, for comparison: one object under one lock, and one object for each address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .medium import Object
from .shared import World

if TYPE_CHECKING:
    from collections.abc import Generator

    from .clock import Process
    from .pods import Node, Pod

POOL_ENTRY = 200
"""Bytes of an allocation in an IPPool with its share of managedFields (facts/ipam.md 6.2)."""
_REQUEST_TIMEOUT = 10.0
_LEADER_TIMEOUT = 120.0
_POLL = (0.5, 1.1)


class OnePool(Object):
    """whereabouts' IPPool, and the lease that everybody takes before looking at it."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = 0
        self.leader: object = None
        self.lock = Object()


class LockingNode:
    """Every request takes the lock of the cluster, and writes all of the pool (whereabouts).

    facts/ipam.md 1.7: lease GET, PUT, PUT; LIST pools; GET pool; GET reservation; PATCH pool; POST
    reservation; lease GET, PUT. Who does not get the lease asks again in 0.5 to 1.1 s, for two
    minutes; a call that takes longer than 10 s fails, and the runtime comes again.
    """

    def __init__(self, world: World, pool: OnePool) -> None:
        self.world = world
        self.pods: dict[Pod, None] = {}
        self.dead = False
        self._pool = pool

    def ask(self, pod: Pod) -> None:
        """Get it a lease."""
        self.world.clock.start(self._call(pod, 1))

    def give(self, pod: Pod) -> None:
        """Take its lease back."""
        self.world.clock.start(self.release(pod))

    def release(self, pod: Pod) -> Process:
        """Take a pod's lease back."""
        yield from self._call(pod, -1)

    def _call(self, pod: Pod, change: int) -> Process:
        world, pool = self.world, self._pool
        begun, dead = world.clock.now, self.dead  # whose leases are taken back is dead already
        while not (yield from self._lead(pod)):
            if world.clock.now - begun > _LEADER_TIMEOUT or self.dead is not dead:
                self._failed(pod, change)
                return
            yield _POLL[0] + (_POLL[1] - _POLL[0]) * world.chance.random()
        done = False
        ends = world.clock.now + _REQUEST_TIMEOUT
        while not done and world.clock.now < ends:
            done = yield from self._update(change)
        yield from world.store.read()
        yield from world.store.write(pool.lock, pool.lock.version, 0, 0, self._resign)
        if done and change > 0:
            self.pods[pod] = None
            world.cluster.started(pod)
        elif done:
            self.pods.pop(pod, None)
        else:
            self._failed(pod, change)

    def _lead(self, pod: Pod) -> Generator[float, None, bool]:
        store, pool = self.world.store, self._pool
        yield from store.read()
        if pool.leader is not None:
            return False
        version = pool.lock.version

        def win() -> None:
            pool.leader = pod

        if not (yield from store.write(pool.lock, version, 0, 0, win)):
            return False
        yield from store.write(pool.lock, pool.lock.version, 0, 0, lambda: None)
        return True

    def _resign(self) -> None:
        self._pool.leader = None

    def _update(self, change: int) -> Generator[float, None, bool]:
        store, pool = self.world.store, self._pool
        yield from store.read(pool.leases)  # all pools are listed, to see whether the API is there
        yield from store.read(pool.leases)
        version = pool.version
        yield from store.read()  # the reservation

        def apply() -> None:
            pool.leases += change

        if not (yield from store.write(pool, version, pool.leases + change, 1, apply)):
            return False
        yield from store.write(Object(), 0, 0, 1, lambda: None)
        return True

    def _failed(self, pod: Pod, change: int) -> None:
        world = self.world
        if change > 0:
            world.cluster.refused(pod)
        elif not self.dead:
            world.clock.after(5.0, self.give, pod)


class Addresses:
    """Which addresses have an object, and since when caches show it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held: dict[int, float] = {}


class AddressNode:
    """An object for each address: creating it is the lock; a watch tells which are free.

    An address is looked for at a place that chance decides; the watch is behind by as much as
    an event takes to come.
    """

    WATCH = 0.02

    def __init__(self, world: World, addresses: Addresses) -> None:
        self.world = world
        self.pods: dict[Pod, None] = {}
        self.dead = False
        self._addresses = addresses

    def ask(self, pod: Pod) -> None:
        """Get it a lease."""
        self.world.clock.start(self._create(pod))

    def give(self, pod: Pod) -> None:
        """Take its lease back."""
        self.world.clock.start(self.release(pod))

    def _create(self, pod: Pod) -> Process:
        world, addresses = self.world, self._addresses
        held, size = addresses.held, addresses.size
        while not self.dead:
            if len(held) >= size:
                world.tally.full += 1
                world.cluster.refused(pod)
                return
            at = int(world.chance.random() * size)
            while held.get(at, world.clock.now) < world.clock.now - self.WATCH:
                at = (at + 1) % size
            lost = [at in held]
            thing = Object()

            def create(at: int = at, lost: list[bool] = lost) -> None:
                lost[0] = at in held
                held.setdefault(at, world.clock.now)

            yield from world.store.write(thing, 0, 1, 1, create)
            if not lost[0]:
                pod.offset = at
                self.pods[pod] = None
                world.cluster.started(pod)
                return
            world.tally.conflicts += 1

    def release(self, pod: Pod) -> Process:
        """Take a pod's lease back."""
        thing = Object()

        def delete() -> None:
            self._addresses.held.pop(pod.offset, None)
            self.pods.pop(pod, None)

        yield from self.world.store.write(thing, 0, 0, 0, delete)


def bury(world: World, node: Node) -> Process:
    """Take back the leases of a dead node, one after the other."""
    for pod in list(node.pods):
        yield from world.store.read()
        if isinstance(node, AddressNode | LockingNode):
            yield from node.release(pod)
