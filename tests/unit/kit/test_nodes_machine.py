"""The simulation of several nodes: sound code passes, and what is broken on purpose does not."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import Phase

from podnet.engine.leases import Ipam
from podnet.engine.requests import Allocation
from podnet.engine.turns import Turn
from podnet.errors import StoreError
from podnet.ipam import grant
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing import NodesMachine, Simulation, run_machine
from podnet.testing.baton import Task, cooperating, current
from podnet.testing.nodes_machine import WORLD
from podnet.testing.sites import FINE, REFUSED, Gate


class Slow(MemoryStore):
    """Others may go on in the middle of a swap."""

    def swap(self, key, new, expected):
        current_version = (self.load(key) or (None, None))[1]
        if current_version != expected:
            return False
        if (task := current()) is not None:
            task.stop("in the middle of a swap")
        return super().swap(key, new, current_version if self.atomic else self.version(key))

    atomic = False

    def version(self, key):
        return (self.load(key) or (None, None))[1]


class SlowButAtomic(Slow):
    atomic = True


class LostUpdate(MemoryStore):
    def swap(self, key, new, expected):
        return super().swap(key, new, (self.load(key) or (None, None))[1])


class Unseeking(MemoryStore):
    """No ``seek``: owners are looked up in all blocks."""

    seek = property()


class VersionsComeBack(MemoryStore):
    """A version tells whether a block is in use, and comes back when it is in use again."""

    def load(self, key):
        entry = super().load(key)
        return entry and (entry[0], "used" if entry[0].leases else "empty")

    def swap(self, key, new, expected):
        if (self.load(key) or (None, None))[1] != expected:
            return False
        return super().swap(key, new, (super().load(key) or (None, None))[1])


def run(machine=NodesMachine, examples=1500, steps=40):
    # The first failure is enough. What runs a seed stands for changes with the modules imported.
    for seed in range(4):
        run_machine(
            machine,
            examples=examples,
            steps=steps,
            seed=seed,
            phases=[Phase.generate],
            database=None,
        )


@pytest.mark.parametrize("store", [MemoryStore, SlowButAtomic])
def test_several_nodes_on_one_store(store):
    run_machine(lambda: NodesMachine(opened=store), examples=60, steps=40)


def _win_is_not_looked_at(monkeypatch):
    class Deaf:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        def swap(self, *args):
            self._store.swap(*args)
            return True

    right = Turn.__init__
    monkeypatch.setattr(
        Turn, "__init__", lambda self, store, *a, **k: right(self, Deaf(store), *a, **k)
    )


def _error_of_a_swap_is_a_win(monkeypatch):
    right = Turn._swap

    def swap(self, index, draft):
        again = right(self, index, draft)
        for rider in draft.riders:
            rider.error = None
        return again

    monkeypatch.setattr(Turn, "_swap", swap)


def _refuses_after_one_look(monkeypatch):
    monkeypatch.setattr(Allocation, "seen_before", lambda self, versions: True)


def _late_release_by_time(monkeypatch):
    def end(block, lease, *, now):
        offsets = [
            n for n, x in block.leases.items() if x.ip == lease.ip and x.since <= lease.since
        ]
        return grant._without(block, offsets, now)

    monkeypatch.setattr(grant, "end", end)


def _late_release_by_owner(monkeypatch):
    def end(block, lease, *, now):
        offsets = [
            n for n, x in block.leases.items() if (x.ip, x.owner.key) == (lease.ip, lease.owner.key)
        ]
        return grant._without(block, offsets, now)

    monkeypatch.setattr(grant, "end", end)


def _sequence_is_the_time(monkeypatch):
    right = grant._with

    def timed(block, offset, lease):
        return right(block, offset, evolve(lease, sequence=int(lease.since)))

    monkeypatch.setattr(grant, "_with", timed)


def _leases_run_out(monkeypatch):
    right = grant.sweep

    def sweep(block, *, now, **rest):
        old = [n for n, x in block.leases.items() if x.since < now - 86400]
        return grant._without(block, old, now) if old else right(block, now=now, **rest)

    monkeypatch.setattr(grant, "sweep", sweep)


def _sweeps_every_node(monkeypatch):
    right = grant.sweep

    def sweep(block, *, node, **rest):
        for each in ("node-0", "node-1", "node-2"):
            new, gone = right(block, node=each, **rest)
            if gone:
                return new, gone
        return block, ()

    monkeypatch.setattr(grant, "sweep", sweep)


def _release_gives_up_when_beaten(monkeypatch):
    right = Turn._swap

    def swap(self, index, draft):
        again = right(self, index, draft)
        for rider in again:
            rider.settled = True
        return []

    monkeypatch.setattr(Turn, "_swap", swap)


def _grants_of_a_batch_meet(monkeypatch):
    """The second request of a batch is decided on the block as it was before the first."""
    right = Turn._draft

    def draft(self, request, new, **rest):
        if request.what.startswith("allocate") and new.index in self._drafts:
            offset = next(iter(set(new.leases) - set(self._drafts[new.index].block.leases)), None)
            if offset is not None:
                new = evolve(new, leases={offset: new.leases[offset]})
        return right(self, request, new, **rest)

    monkeypatch.setattr(Turn, "_draft", draft)


def _renewal_keeps_the_number(monkeypatch):
    right = grant.renew

    def renew(block, lease, owner, **rest):
        new, renewed = right(block, lease, owner, **rest)
        if new is block:
            return block, lease
        renewed = evolve(renewed, sequence=lease.sequence)
        return evolve(new, leases={**new.leases, lease.ip.value % 512: renewed}), renewed

    monkeypatch.setattr(grant, "renew", renew)


def _empty_blocks_are_deleted(monkeypatch):
    right = Turn._swap

    def swap(self, index, draft):
        if not draft.block.leases and draft.version is not None:
            if not self._store.swap(draft.block.key, None, draft.version):
                return draft.riders
            for rider in draft.riders:
                rider.settled = True
            self._lane.forget(index)
            return []
        return right(self, index, draft)

    monkeypatch.setattr(Turn, "_swap", swap)


class Alone(NodesMachine):
    """One node, busy."""

    world = evolve(WORLD, nodes=("node-0",))


BROKEN = [
    _win_is_not_looked_at,
    _error_of_a_swap_is_a_win,
    _late_release_by_time,
    _late_release_by_owner,
    _sequence_is_the_time,
    _leases_run_out,
    _sweeps_every_node,
    _release_gives_up_when_beaten,
    _grants_of_a_batch_meet,
    _renewal_keeps_the_number,
    _empty_blocks_are_deleted,
]


@pytest.mark.parametrize("breaks", BROKEN)
def test_broken_allocator_is_caught(breaks, monkeypatch):
    breaks(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(Alone if breaks is _grants_of_a_batch_meet else NodesMachine)


@pytest.mark.parametrize("store", [LostUpdate, Slow, VersionsComeBack])
def test_broken_store_is_caught(store):
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(lambda: NodesMachine(opened=store))


def until_over(sim, task):
    while not task.over:
        sim.go(task)


def move_while_looking(sim):
    """An address is freed in the block that was read, and taken in the one that was not yet."""
    border = sim.world.pools[0]
    first, second, third, asking = sim.pods[:4]
    for pod, address in ((first, "10.0.1.254"), (second, "10.0.1.255"), (third, "10.0.2.0")):
        until_over(sim, sim.allocate(pod, border, address))
    until_over(sim, sim.release(third))
    task = sim.allocate(asking, border)
    sim.go(task)
    assert str(task.point) == "load 'nodes/4/050001' of the store"
    until_over(sim, sim.release(first))
    until_over(sim, sim.allocate(third, border, "10.0.2.0"))
    until_over(sim, task)
    return task


def test_nothing_is_refused_while_one_or_another_address_is_free():
    with Simulation(WORLD) as sim:
        assert str(move_while_looking(sim).result.ip) == "10.0.1.254"
        sim.finish()


def test_a_refusal_after_one_look_is_caught(monkeypatch):
    _refuses_after_one_look(monkeypatch)
    with Simulation(WORLD) as sim, pytest.raises(AssertionError, match="one or another"):
        move_while_looking(sim)


def batched(sim, first, *others):
    """Let calls of one node ride in one batch: they come while another is being served."""
    border = sim.world.pools[0]
    leading = sim.allocate(first, border)
    tasks = [other() for other in others]
    assert [task.point for task in tasks] == [None] * len(tasks), "they wait"
    until_over(sim, leading)
    return tasks


def test_an_address_is_not_refused_because_of_a_grant_that_came_to_nothing():
    """Found by the machine: a grant of the same batch was taken for held before it was swapped."""
    with Simulation(evolve(WORLD, nodes=("node-0",), pods=3)) as sim:
        border = sim.world.pools[0]
        first, taking, asking = sim.pods
        took, asked = batched(
            sim,
            first,
            lambda: sim.allocate(taking, border, "10.0.2.0"),
            lambda: sim.allocate(asking, border, "10.0.2.0"),
        )
        while "swap" not in str(took.point):
            sim.go(took)
        sim.go(took, REFUSED)
        sim.settle()
        assert isinstance(took.error, StoreError)
        assert str(asked.result.ip) == "10.0.2.0"
        sim.finish()


def test_a_release_is_not_told_done_because_of_one_that_came_to_nothing():
    """The second of two releases in one batch finds nothing to do, if the first is swapped."""
    store, pool = MemoryStore(), Pool("p", "10.0.0.0/30")
    gate = Gate("the store", store, None)
    with cooperating("podnet.engine"):
        ipam = Ipam(gate, node="n", sleep=lambda _: None)
        lease = ipam.allocate(pool, Owner("c", "eth0"))
        calls = [
            lambda: ipam.allocate(pool, Owner("d", "eth0")),
            lambda: ipam.release(lease),
            lambda: ipam.release(lease.owner, pool=pool),
        ]
        tasks = [Task(str(n), call) for n, call in enumerate(calls)]
        for task in tasks:
            task.begin()
        for _ in range(100):
            running = next((task for task in tasks if task.can_go_on), None)
            if running is None:
                break
            lost = "swap" in str(running.point) and running is not tasks[0]
            running.go_on(REFUSED if lost and lease in ipam_leases(store) else FINE)
        for task in tasks[1:]:
            assert isinstance(task.error, StoreError), f"told {task.result}, and nothing was done"
    assert lease in ipam_leases(store)


def ipam_leases(store):
    return list(Ipam(store).leases())
