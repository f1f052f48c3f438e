"""Two stores, allocators on both sides, several runs of the move, and every call may go wrong.

Each actor is a thread that stops before every call of a store; Hypothesis says who goes on, what
becomes of the call, and who is killed there. The model knows what each pod was told.
"""

from __future__ import annotations

import contextlib
import os
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
)

from podnet.engine.leases import Ipam
from podnet.engine.migration import Migration
from podnet.engine.migration_follow import Following
from podnet.engine.migration_ground import load_mark
from podnet.engine.migration_rename import part
from podnet.errors import (
    InvalidConfigError,
    PoolExhaustedError,
    StoreError,
    TryAgainLaterError,
)
from podnet.ipam.migrate import HIDDEN, Kind, State, state_of
from podnet.model.addresses import Address
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing import run_machine
from podnet.testing.baton import Task, current
from podnet.testing.machines import rule
from podnet.testing.sites import FATES, FINE, LOST, Gate

EXAMPLES = int(os.environ.get("PODNET_TEST_EXAMPLES", "150"))

# Two addresses in one block and two in the next, of a network with many blocks; and a small one.
WIDE = Pool("wide", "10.0.0.0/16", first="10.0.1.254", last="10.0.2.1", domain="lan")
SMALL = Pool("small", "10.0.8.0/30", domain="lan", edges="all")
POOLS = {pool.name: pool for pool in (WIDE, SMALL)}
# The same, for those whose ranges lie apart in the same blocks.
OTHERS = {
    "wide": Pool("wide", "10.0.0.0/16", first="10.0.2.2", last="10.0.2.4", domain="lan"),
    "small": Pool("small", "10.0.8.4/30", domain="lan", edges="all"),
}
SIDES = ("old", "new")
PODS = st.integers(0, 5)
# Up to its swap of that number, just before it; None is to the end.
FAR = st.sampled_from([0, 1, 1, 2, 3, None, None])
FAULTS = st.sampled_from([FINE] * 40 + [*FATES])


def owner_of(pod: int) -> Owner:
    return Owner(f"c-{pod}", "net1", "default", f"pod-{pod}", f"uid-{pod}")


class MoveMachine(RuleBasedStateMachine):
    """Pods get and give back addresses through either store while the domain moves to and fro."""

    merge = False
    seeks = True
    back = True
    names: ClassVar = {"old": "lan", "new": "lan"}
    schemes: ClassVar = {"old": "test", "new": "test"}

    def __init__(self) -> None:
        super().__init__()
        self.raw = {"old": self.new_store(), "new": self.new_store()}
        self.tasks: list[Task] = []
        self.strays: list = []
        self.held: dict[tuple[int, str], str] = {}  # pod and pool → address it was told
        self.unsure: set[tuple[int, str]] = set()  # what a killed or failed call left is not known
        self.busy: set[tuple[int, str]] = set()
        self.begun = False

    def new_store(self):
        store = MemoryStore()
        return store if self.seeks else Bare(store)

    def gate(self, side):
        return Gate(side, self.raw[side], lambda stray: self.strays.append((stray, current())))

    def ipam(self, side, *, gated=True):
        make = self.gate if gated else self.raw.__getitem__
        store = Following(make(side), opener=lambda url: make(url.partition(":")[2]))
        return Ipam(store, node=f"node-{side}", attempts=6, patience=0.2, sleep=lambda _: None)

    def migration(self, source, target, *, gated=True):
        make = self.gate if gated else self.raw.__getitem__
        return Migration(
            make(source),
            make(target),
            source_url=f"{self.schemes[source]}:{source}",
            target_url=f"{self.schemes[target]}:{target}",
            opener=lambda url: make(url.partition(":")[2]),
            sleep=lambda _: None,
        )

    def start(self, name, action, finish, swaps, place=None):
        """Begin a call, and let it go on to its swap of that number; None to its end."""
        task = Task(name, action)
        task.finish, task.place, task.overtaken = finish, place, False
        self.tasks.append(task)
        task.begin()
        self.run(task, swaps)
        self.reap()

    def run(self, task, swaps):
        while not task.over and swaps != 0:
            task.go_on(FINE)
            if swaps is not None and not task.over and task.point.what == "swap":
                swaps -= 1

    def reap(self):
        for task in [task for task in self.tasks if task.over]:
            self.tasks.remove(task)
            task.finish(task)

    def mark(self, side):
        return load_mark(self.raw[side], part(self.names[side]))[0]

    def may_use(self, side, pod):
        """Nodes are set to the new store when a move to it has begun, and not before.

        A move of nothing from there makes it nobody's store: who used it would use both.
        """
        led = self.mark("new").kind is not Kind.HOME or self.mark("old").leads_away
        self.begun = self.begun or led
        return side == "old" or self.begun

    def pool(self, pod, name, side):
        return POOLS[name]

    @initialize(
        pods=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(POOLS))), max_size=6)
    )
    def before_the_move(self, pods):
        for pod, name in pods:
            side = SIDES[pod % 2] if self.merge else "old"
            pool = self.pool(pod, name, side)
            with contextlib.suppress(PoolExhaustedError):
                lease = self.ipam(side, gated=False).allocate(pool, owner_of(pod), network="net")
                self.held[pod, name] = str(lease.ip)

    # What pods do.

    @rule(pod=PODS, pool=st.sampled_from(list(POOLS)), side=st.sampled_from(SIDES), far=FAR)
    def allocate(self, pod, pool, side, far):
        place = pod, pool
        if place in self.busy or not self.may_use(side, pod):
            return
        self.busy.add(place)
        self.start(
            f"allocate {place} via {side}",
            lambda: self.ipam(side).allocate(
                self.pool(pod, pool, side), owner_of(pod), network="net"
            ),
            lambda task: self.allocated(place, task),
            far,
            place,
        )

    def allocated(self, place, task):
        self.busy.discard(place)
        if task.error is not None:
            self.judge(task)
            if not isinstance(task.error, PoolExhaustedError):
                if place not in self.held:
                    self.unsure.add(place)
            else:
                assert place not in self.held, f"refused to {place}, which holds an address"
            return
        ip = str(task.result.ip)
        if place in self.held:
            assert self.held[place] == ip, f"{place} had {self.held[place]} and was told {ip}"
        for other, theirs in self.held.items():
            assert theirs != ip or other == place, f"{ip} was given to {other} and to {place}"
        if task.overtaken:
            self.unsure.add(place)
            return
        self.held[place] = ip
        self.unsure.discard(place)

    @rule(pod=PODS, pool=st.sampled_from(list(POOLS)), side=st.sampled_from(SIDES), far=FAR)
    def release(self, pod, pool, side, far):
        place = pod, pool
        if place in self.busy or not self.may_use(side, pod):
            return
        self.busy.add(place)
        had = self.held.pop(place, None)
        self.start(
            f"release {place} via {side}",
            lambda: self.ipam(side).release(owner_of(pod), pool=self.pool(pod, pool, side)),
            lambda task: self.released(place, had, task),
            far,
            place,
        )

    def released(self, place, had, task):
        self.busy.discard(place)
        if task.error is not None:
            self.judge(task)
            self.unsure.add(place)
            return
        if task.overtaken:
            self.unsure.add(place)
            return
        told = [str(lease.ip) for lease in task.result]
        if had is not None:
            assert told == [had], f"{place} held {had}, and {told} was released"
        self.unsure.discard(place)

    # What the operator does.

    @rule(data=st.data(), far=st.one_of(st.none(), st.integers(0, 12)))
    def migrate(self, data, far):
        if sum(task.name.startswith("move") for task in self.tasks) >= 2:
            return
        ways = [SIDES, SIDES, SIDES[::-1]] if self.back else [SIDES]
        source, target = data.draw(st.sampled_from(ways))
        self.start(
            f"move {source} to {target}",
            lambda: self.migration(source, target).run(
                self.names[source], merge=self.merge, patience=0
            ),
            lambda task: task.error is None or self.judge(task),
            far,
        )

    @staticmethod
    def judge(task):
        allowed = (StoreError, TryAgainLaterError, InvalidConfigError, PoolExhaustedError)
        if not task.dead and not isinstance(task.error, allowed):
            raise task.error
        if isinstance(task.error, StoreError) and "planned" not in str(task.error):
            raise task.error

    # What the world does.

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def go_on(self, data):
        task = self.choose(data, "goes on")
        task.go_on(data.draw(FAULTS, label=f"{task.name}: {task.point}"))
        self.reap()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), far=FAR)
    def run_on(self, data, far):
        task = self.choose(data, "runs on")
        task.go_on(FINE)
        self.run(task, far)
        self.reap()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), after=st.booleans())
    def kill(self, data, after):
        task = self.choose(data, "dies")
        if after:
            task.go_on(LOST)
        task.kill()
        self.reap()

    def choose(self, data, what):
        names = [f"{n}: {task.name}" for n, task in enumerate(self.tasks)]
        name = data.draw(st.sampled_from(names), label=what)
        return self.tasks[names.index(name)]

    @precondition(lambda self: self.strays)
    @rule(data=st.data())
    def arrive(self, data):
        self.let_arrive(data.draw(st.integers(0, len(self.strays) - 1)))

    def let_arrive(self, number):
        """What a failed call of a pod does later, it does to this pod's own pool and no other."""
        stray, cause = self.strays.pop(number)
        if stray.arrive() and cause.place is not None:
            self.held.pop(cause.place, None)
            self.unsure.add(cause.place)
            for task in self.tasks:
                task.overtaken = task.overtaken or task.place == cause.place

    # What always holds.

    def open_blocks(self, side):
        store = self.raw[side]
        for key in store.keys(""):
            block = store.load(key)[0]
            if not key.startswith(HIDDEN) and state_of(block) is State.OPEN:
                yield block.version, block.index

    @invariant()
    def one_of_two_copies_counts(self):
        if not self.merge:
            assert not set(self.open_blocks("old")) & set(self.open_blocks("new"))

    def teardown(self):
        for task in list(self.tasks):
            task.kill()
        self.reap()
        while self.strays:
            self.let_arrive(-1)
        self.settle()
        self.everything_is_where_it_should_be()

    def settle(self):
        """Let the move end that is under way, then move everything to the new store."""
        for _ in range(3):
            for source, target in (SIDES[::-1], SIDES):
                begun = self.mark(source).kind in (Kind.TO, Kind.JOIN)
                if begun or self.mark(target).kind is Kind.FROM:
                    with contextlib.suppress(InvalidConfigError):  # both ways at once: neither
                        self.migration(source, target, gated=False).run(self.names[source])
        if self.mark("old").kind is Kind.HOME:
            move = self.migration(*SIDES, gated=False)
            done = move.run(self.names["old"], merge=self.merge)
            assert done.complete, done
        assert list(self.open_blocks("old")) == []
        assert self.mark("old").kind is Kind.DONE
        assert self.mark("new").kind is Kind.HOME

    def everything_is_where_it_should_be(self):
        found = {}
        for side in SIDES:
            leases = list(self.ipam(side, gated=False).leases(self.names[side]))
            found[side] = {(int(x.owner.pod_name[4:]), x.pool): str(x.ip) for x in leases}
            assert len({lease.ip for lease in leases}) == len(leases)
            assert all(not lease.claim for lease in leases)
        assert found["old"] == found["new"]
        lost = {place: ip for place, ip in self.held.items() if found["new"].get(place) != ip}
        assert not lost, f"lost: {lost}"
        left = {
            p: ip
            for p, ip in found["new"].items()
            if p not in self.held | dict.fromkeys(self.unsure)
        }
        assert not left, f"came back: {left}"
        for place, ip in self.held.items():
            for side in SIDES:
                pool = self.pool(*place, side)
                again = self.ipam(side, gated=False).allocate(pool, owner_of(place[0]))
                assert str(again.ip) == ip


class JoinMachine(MoveMachine):
    """Two stores that were in use apart become one; nobody uses the new one for pods of the old."""

    merge = True
    back = False

    def may_use(self, side, pod):
        return self.mark("old").kind is Kind.DONE or side == SIDES[pod % 2]

    def pool(self, pod, name, side):
        return OTHERS[name] if pod % 2 else POOLS[name]


class EarlyMachine(MoveMachine):
    """Somebody uses the new store before the move has begun: then it does not begin."""

    def may_use(self, side, pod):
        return True

    def settle(self):
        with contextlib.suppress(InvalidConfigError):  # it is in use
            super().settle()
            return
        assert self.mark("old").kind is self.mark("new").kind is Kind.HOME

    def everything_is_where_it_should_be(self):
        if self.mark("old").kind is Kind.DONE:
            super().everything_is_where_it_should_be()
        else:
            leases = [e for side in SIDES for e in self.ipam(side, gated=False).leases("lan")]
            assert sorted(str(e.ip) for e in leases) == sorted(self.held.values())


class RenamingMachine(MoveMachine):
    """The domain has another name in each of the two stores."""

    schemes: ClassVar = {"old": "whereabouts", "new": "test"}
    names: ClassVar = {"old": "ippool:red@10.0.0.0/16", "new": "whereabouts:red"}

    def pool(self, pod, name, side):
        pool = POOLS[name]
        network = WIDE.network
        return Pool(
            name,
            network,
            first=pool.first or pool.network.address,
            last=pool.last or Address(4, pool.network.last),
            domain=self.names[side],
        )


class Bare:
    """A store without ``seek``."""

    def __init__(self, store):
        self.load, self.swap, self.keys, self.close = (
            store.load,
            store.swap,
            store.keys,
            store.close,
        )


class BareMoveMachine(MoveMachine):
    seeks = False


def test_nothing_is_lost_or_given_twice():
    run_machine(MoveMachine, examples=EXAMPLES, steps=60)


def test_nothing_is_lost_or_given_twice_in_stores_without_seek():
    run_machine(BareMoveMachine, examples=EXAMPLES // 3, steps=60)


def test_nothing_is_lost_where_domains_are_joined():
    run_machine(JoinMachine, examples=EXAMPLES, steps=60)


def test_nothing_is_lost_where_a_domain_gets_another_name():
    run_machine(RenamingMachine, examples=EXAMPLES // 3, steps=60)
