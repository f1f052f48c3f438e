"""Several nodes that hold blocks, in the simulation of ``podnet.testing.nodes_machine``.

Besides what may happen to plain nodes: pods served by short-lived processes beside the resident
one, nodes that die for good and are reclaimed, and nodes that come back with their own store kept
or lost.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from podnet.engine.owning import Manner, Owning
from podnet.engine.owning_ipam import OwnedIpam
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing.ledger import Op
from podnet.testing.nodes_machine import MAY, NodesMachine
from podnet.testing.sites import FINE, Site

# The second pool shares a block with the first, in the other mode.
POOLS = (
    Pool(
        "border",
        "10.0.0.0/22",
        first="10.0.1.254",
        last="10.0.2.0",
        domain="nodes",
        mode="owned",
    ),
    Pool(
        "beyond",
        "10.0.0.0/12",
        first="10.0.2.0",
        last="10.0.2.1",
        domain="nodes",
        mode="owned",
    ),
)
MIXED = (POOLS[0], Pool("beyond", "10.0.0.0/12", first="10.0.2.0", last="10.0.2.1", domain="nodes"))
MANNER = Manner(publish_every=20.0, look_every=0.2, idle_after=300.0, trust=3600.0, scarce_for=5.0)
_NODES = st.sampled_from([0, 0, 0, 1, 1, 2])
_PODS = st.integers(0, 2)


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
        mine = local[block.holder].load(key) if block.holder in local else None
        if mine is not None and mine[0].holder and mine[0].sequence >= block.sequence:
            leases = {
                offset: lease
                for offset, lease in mine[0].leases.items()
                if lease.sequence > block.sequence or offset in block.leases
            }
        yield from leases.values()


class OwnedMachine(NodesMachine):
    pools = POOLS
    may = MAY

    def __init__(self, opened=MemoryStore, make=make_ipam):
        super().__init__(opened, make, true_leases)
        self.down = set()

    # What may happen

    @rule(node=_NODES, pod=_PODS, pool=st.integers(0, 1), release=st.booleans())
    def short_lived(self, node, pod, pool, *, release):
        """A process of its own serves one call of a pod, through the node's own store."""
        machine, owner = self._pod(node, pod)
        asked = self.pools[pool]
        site = self._site(machine)

        def call(_node):
            ipam = make_ipam(site, resident=False)
            try:
                if release:
                    return ipam.release(owner, pool=asked)
                return ipam.allocate(asked, owner, network="net")
            finally:
                ipam.close()

        what = "release" if release else "allocate"
        self._start(machine, Op(what=what, node=machine.name, pool=asked, owner=owner), call)

    @rule(node=_NODES, by=st.integers(1, 2), lost=st.booleans())
    def reclaim(self, node, by, *, lost):
        """A node is dead, its pods with it; another one is told so, and takes its blocks."""
        dead = self._machines[node]
        other = self._machines[(node + by) % len(self.nodes)]
        if self.down & {dead.name, other.name} or self._ticks(other):
            return
        self._crash(dead)
        for pod in range(self.pods):
            owner = self._owner(dead, pod, 0)
            self.ledger.forget((owner.pod_uid, owner.ifname))
        if lost:
            dead.local.inner = self._local[dead.name] = MemoryStore()
        self.down.add(dead.name)
        self._reclaim(other, dead)

    def _reclaim(self, other, dead):
        def call(node):
            node.reclaim(dead.name)
            self.down.discard(dead.name)

        self._background(other, call)

    @rule(node=_NODES)
    def publish(self, node):
        self._background(self._machines[node], lambda node: node.publish())

    @rule(node=_NODES)
    def drain(self, node):
        self._background(self._machines[node], lambda node: node.drain())

    @rule(node=_NODES)
    def go_away(self, node):
        """A node's process comes to a good end."""
        machine = self._machines[node]

        def call(node):
            node.close()
            machine.node = None

        if not machine.running:
            self._background(machine, call)

    # How it is done

    def _ticks(self, machine):
        return any(op.what == "tick" for op in machine.running.values())

    def _background(self, machine, call):
        if not self._ticks(machine):
            self._start(machine, Op(what="tick", node=machine.name), call)

    def _site(self, machine):
        return Site(
            name=machine.name,
            shared=machine.shared,
            local=machine.local,
            clock=machine.clock,
            sleep=self._sleep,
        )

    def _start(self, machine, op, call):
        if machine.name not in self.down:
            super()._start(machine, op, call)

    def _tick(self, machine):
        if machine.name not in self.down:
            super()._tick(machine)

    def finish(self):
        for stray, causes in self.strays:
            stray.arrive()
            self._observe(causes)
        self.strays.clear()
        self._settle()
        for machine in self._machines:
            while machine.name in self.down:
                other = next(each for each in self._machines if each.name not in self.down)
                self._reclaim(other, machine)
                self._settle()
        self._quiet()
        for machine in self._machines:
            for pod in range(self.pods):
                for container in range(machine.containers[pod] + 1):
                    self._release_at_last(machine, self._owner(machine, pod, container))
        left = list(self._leases(self.store, self._local))
        assert not left, f"all was given back, and there still is {left}"
        self._use_up()
        for number in range(len(self.may["border"]) + 1):
            owner = Owner(f"last-{number}", "eth0", "", "", f"last-{number}")
            self._release_at_last(self._machines[0], owner)
        self.now += MANNER.idle_after + MANNER.publish_every
        self._tick_all()
        self._tick_all()
        for key in self.store.keys(""):
            block = self.store.load(key)[0]
            assert not block.holder, f"{key} is stranded at {block.holder}"
            assert not block.leases
        for name, local in self._local.items():
            assert list(local.keys("")) == [], f"{name} still has records"

    def _quiet(self):
        """All that is held is told, once there was time to tell it."""
        for _ in range(2):
            self.now += MANNER.publish_every
            self._tick_all()
        held = {(x.domain, str(x.ip)): x for x in self._leases(self.store, self._local)}
        told = {}
        for key in self.store.keys(""):
            block = self.store.load(key)[0]
            told |= {(x.domain, str(x.ip)): x for x in block.leases.values()}
        assert told == held, "what is told is not what is held"

    def _tick_all(self):
        for machine in self._machines:
            self._tick(machine)
            self._settle()

    def _use_up(self):
        """One node can have every address, whoever holds the blocks."""
        pool, machine = self.pools[0], self._machines[0]
        for number in range(len(self.may[pool.name]) + 1):
            owner = Owner(f"last-{number}", "eth0", "", "", f"last-{number}")
            op = Op(what="allocate", node=machine.name, pool=pool, owner=owner)
            self._start(
                machine,
                op,
                lambda node, owner=owner: node.allocate(pool, owner, network="net"),
            )
            self._run_with_ticks(machine)
        held = {str(x.lease.ip) for x in self.ledger.holdings.values()}
        assert held == set(self.may[pool.name]), f"only {sorted(held)} could be had again"

    def _run_with_ticks(self, machine):
        for turn in range(20_000):
            if not machine.running:
                return
            if turn % 20 == 19:
                for each in self._machines:
                    self._tick(each)
            tasks = self._runnable()
            self._go(*tasks[turn % len(tasks)], FINE)
        raise AssertionError("it never comes to an end")


class MixedMachine(OwnedMachine):
    """The second pool is shared."""

    pools = MIXED
