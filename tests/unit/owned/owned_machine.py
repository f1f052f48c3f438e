"""Several nodes that hold blocks, in the simulation of ``podnet.testing``.

Besides what may happen to plain nodes: pods served by short-lived processes beside the resident
one, nodes that die for good and are reclaimed, and nodes that come back with their own store kept
or lost.
"""

from __future__ import annotations

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition

from podnet.engine.leases import Ipam
from podnet.engine.migration_follow import Following
from podnet.engine.owning import Manner, Owning
from podnet.engine.owning_ipam import OwnedIpam
from podnet.ipam.migrate import State, state_of
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing.ledger import Op, pod_of
from podnet.testing.machines import rule
from podnet.testing.nodes_machine import NodesMachine
from podnet.testing.simulation import Pod, Simulation, World, plain_node
from podnet.testing.sites import Site

MANNER = Manner(publish_every=20.0, look_every=0.2, idle_after=300.0, trust=3600.0, scarce_for=5.0)
_NODE = st.integers(0, 2)
_LAST = 1000


def border(mode, **options):
    return Pool(
        "border",
        "10.0.0.0/22",
        first="10.0.1.254",
        last="10.0.2.0",
        domain="nodes",
        mode=mode,
        **options,
    )


def beyond(mode):
    return Pool(
        "beyond", "10.0.0.0/12", first="10.0.2.0", last="10.0.2.1", domain="nodes", mode=mode
    )


def make_ipam(site, *, resident=True):
    store = Owning(
        site.shared,
        site.local,
        node=site.name,
        resident=resident,
        clock=site.clock,
        manner=MANNER,
        chance=lambda: 0.0,
    )
    return OwnedIpam(
        store,
        clock=site.clock,
        attempts=30,
        patience=1.0,
        jitter=lambda: 1.0,
        sleep=site.sleep,
    )


def true_leases(shared, local):
    """Return the leases there are, told once more and by other means than the code under test."""
    for key in shared.keys(""):
        block = shared.load(key)[0]
        leases = dict(block.leases)
        own = local.get(block.holder)
        mine = own.load(key) if own is not None else None
        if mine is not None and mine[0].holder and mine[0].sequence >= block.sequence:
            leases = {
                offset: lease
                for offset, lease in mine[0].leases.items()
                if lease.sequence > block.sequence or offset in block.leases
            }
        if block.holder in local and own is None:
            # What a dead node told of its pods before it lost the rest is no truth any more.
            leases = {n: lease for n, lease in leases.items() if lease.node != block.holder}
        yield from leases.values()


WORLD = World(
    pools=(border("owned"), beyond("owned")),
    may={"border": ("10.0.1.254", "10.0.1.255", "10.0.2.0"), "beyond": ("10.0.2.0", "10.0.2.1")},
    make=make_ipam,
    leases=true_leases,
)


def some_plain(site):
    return plain_node(site) if site.name == "node-2" else make_ipam(site)


# One pool is owned, the other shared, and both have an address of one block; one node holds none.
MIXED = evolve(WORLD, pools=(border("owned", cool_down=50.0), beyond("shared")), make=some_plain)


class OwnedSimulation(Simulation):
    """A simulation of nodes that may die for good."""

    front = staticmethod(lambda store: store)

    def __init__(self, world):
        super().__init__(world)
        self.down = set()

    def short_lived(self, pod, pool, *, release):
        """A process of its own serves one call of a pod, through the node's own store."""
        machine, owner = pod.machine, pod.owner()
        site = Site(
            name=machine.name,
            shared=self.front(machine.shared),
            local=machine.local,
            clock=machine.clock,
            sleep=self._sleep,
        )

        def call(_node):
            ipam = make_ipam(site, resident=False)
            try:
                if release:
                    return ipam.release(owner, pool=pool)
                return ipam.allocate(pool, owner, network="net")
            finally:
                ipam.close()

        what = "release" if release else "allocate"
        return self._start(machine, Op(what=what, node=machine.name, pool=pool, owner=owner), call)

    def end_by_hand(self, machine, lease):
        """Somebody ends a grant that he sees in the shared store, and knows of nothing else."""
        op = Op(what="end", node=machine.name, lease=lease)
        ipam = Ipam(
            self.front(machine.shared), clock=machine.clock, node="desk", jitter=lambda: 1.0
        )
        return self._start(machine, op, lambda _node: ipam.release(lease))

    @property
    def told(self):
        """The leases that the shared store has, and when they were told does not matter."""
        blocks = [self.store.load(key)[0] for key in self.store.keys("")]
        return [lease for block in blocks for _, lease in sorted(block.leases.items())]

    def die(self, dead, other, *, lost):
        """A node dies, its pods with it; another one is told so, and takes its blocks."""
        if self.down & {dead.name, other.name} or len(other.asked) < len(other.running):
            return
        self.crash(dead)
        for pod in self.pods:
            if pod.machine is dead:
                self.ledger.forget(pod_of(pod.owner()))
        if lost:
            dead.local.inner = MemoryStore()
            self._local[dead.name] = None
        self.down.add(dead.name)
        self._reclaim(other, dead)

    def _reclaim(self, other, dead):
        def call(node):
            node.reclaim(dead.name)
            self._local[dead.name] = dead.local.inner
            self.down.discard(dead.name)

        self.background(other, call)

    def leave(self, machine):
        """A node's process comes to a good end."""

        def call(node):
            node.close()
            machine.node = None

        if not machine.running:
            self.background(machine, call)

    def background(self, machine, call):
        if len(machine.asked) == len(machine.running):
            self._start(machine, Op(what="tick", node=machine.name), call)

    def _start(self, machine, op, call):
        return None if machine.name in self.down else super()._start(machine, op, call)

    def tick(self, machine):
        return None if machine.name in self.down else super().tick(machine)

    def finish(self):
        while self.strays:
            self.arrive(0)
        self.settle()
        for machine in self.machines:
            while machine.name in self.down:
                other = next(each for each in self.machines if each.name not in self.down)
                self._reclaim(other, machine)
                self.settle()
        self._quiet()
        for pod in self.pods:
            for container in range(pod.container + 1):
                pod.container = container
                self._release_at_last(pod)
        left = list(self.world.leases(self.store, self._local))
        assert not left, f"all was given back, and there still is {left}"
        pool = self.world.pools[0]
        self._use_up(pool)
        for number in range(len(self.world.may[pool.name])):
            self._release_at_last(Pod(self.machines[0], _LAST + number))
        self.now += MANNER.idle_after + MANNER.publish_every
        self._tick_all()
        self._tick_all()
        for key in self.store.keys(""):
            block = self.store.load(key)[0]
            if state_of(block) is not State.NEW:  # somebody died when he was about to make it
                assert not block.holder, f"{key} is stranded at {block.holder}"
            assert not block.leases
        for name, local in self._local.items():
            assert list(local.keys("")) == [], f"{name} still has records"

    def _release_at_last(self, pod):
        self.release(pod)
        self.settle()

    def _quiet(self):
        """All that is held is told, once there was time to tell it."""
        for _ in range(2):
            self.now += MANNER.publish_every
            self._tick_all()
        held = {(x.domain, str(x.ip)): x for x in self.world.leases(self.store, self._local)}
        told = {}
        for key in self.store.keys(""):
            block = self.store.load(key)[0]
            told |= {(x.domain, str(x.ip)): x for x in block.leases.values()}
        assert told == held, "what is told is not what is held"

    def _tick_all(self):
        for machine in self.machines:
            self.tick(machine)
            self.settle()

    def _use_up(self, pool):
        """One node can have every address, whoever holds the blocks, if all answer."""
        machine = self.machines[0]
        for number in range(len(self.world.may[pool.name])):
            self.allocate(Pod(machine, _LAST + number), pool)
            self.settle_with_ticks()
        held = {str(each.lease.ip) for each in self.ledger.holdings.values()}
        assert held == set(self.world.may[pool.name]), f"only {sorted(held)} could be had again"

    def settle_with_ticks(self):
        """Let all calls come to their end, while all nodes see to their background."""
        for turn in range(20_000):
            if not any(machine.asked for machine in self.machines):
                self.settle()
                return
            if turn % 20 == 19:
                for each in self.machines:
                    self.tick(each)
            self.go(self.runnable[turn % len(self.runnable)])
        raise AssertionError("it never comes to an end")


class FollowingSimulation(OwnedSimulation):
    """The same, with what knows where a domain moved before the shared store."""

    front = Following


class OwnedMachine(NodesMachine):
    world = WORLD
    simulation = OwnedSimulation

    def __init__(self, **changes):
        RuleBasedStateMachine.__init__(self)
        self.sim = self.simulation(evolve(self.world, **changes))

    @rule(who=st.integers(0, 11), pool=st.integers(0, 1), release=st.booleans())
    def short_lived(self, who, pool, *, release):
        asked = self._pool(pool)
        pod = self._one(who, lambda pod: self._holds(pod, asked) is release)
        self.sim.short_lived(pod, asked, release=release)

    @rule(node=_NODE, pool=st.integers(0, 1), told=st.booleans())
    def fill(self, node, pool, *, told):
        """All pods of a node ask, and are answered."""
        machine = self._machine(node)
        for pod in self.sim.pods:
            if pod.machine is machine:
                self.sim.allocate(pod, self._pool(pool))
        self.sim.settle()
        if told:
            self.publish(node)
            self.sim.settle()

    @rule(node=_NODE, by=st.integers(1, 2), pool=st.integers(0, 1), lost=st.booleans())
    def come_back(self, node, by, pool, *, lost):
        """A node dies, is told dead, and comes back with other pods."""
        self.die(node, by, lost=lost)
        self.sim.settle()
        self.fill(node, pool, told=False)

    @rule(node=_NODE, by=st.integers(1, 2), lost=st.booleans())
    def die(self, node, by, *, lost):
        self.sim.die(self._machine(node), self._machine(node + by), lost=lost)

    @precondition(lambda self: self.sim.told)
    @rule(node=_NODE, choice=st.integers(0, 5))
    def end_by_hand(self, node, choice):
        told = self.sim.told
        self.sim.end_by_hand(self._machine(node), told[choice % len(told)])

    @rule(node=_NODE)
    def publish(self, node):
        machine = self._machine(node)
        if hasattr(self.sim.node(machine), "publish"):
            self.sim.background(machine, lambda node: node.publish())

    @rule(node=_NODE)
    def drain(self, node):
        machine = self._machine(node)
        if hasattr(self.sim.node(machine), "drain"):
            self.sim.background(machine, lambda node: node.drain())

    @rule(node=_NODE)
    def leave(self, node):
        self.sim.leave(self._machine(node))


class MixedMachine(OwnedMachine):
    world = MIXED


class FollowingMachine(OwnedMachine):
    world = evolve(WORLD, make=lambda site: make_ipam(evolve(site, shared=Following(site.shared))))
    simulation = FollowingSimulation
