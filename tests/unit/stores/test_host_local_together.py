"""podnet's address management and host-local's, step by step on one folder, against a model."""

from __future__ import annotations

import tempfile

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from podnet.engine.leases import Ipam
from podnet.errors import PoolExhaustedError
from podnet.model.lease import Owner
from podnet.model.pool import ALL, Pool
from podnet.stores.host_local import HostLocalStore
from podnet.testing.machines import run_machine

from .host_local_hands import Hands

POOL = Pool(
    "0",
    "10.1.2.0/24",
    first="10.1.2.253",
    last="10.1.2.255",
    gateway="10.1.2.254",
    domain="net",
    edges=ALL,
    picker="round-robin",
)
OTHER = Pool("1", "10.1.3.0/29", domain="net", edges=ALL, picker="round-robin", gateway="10.1.3.1")
ADDRESSES = {
    "0": ["10.1.2.253", "10.1.2.255"],
    "1": ["10.1.3.0", *(f"10.1.3.{n}" for n in range(2, 8))],
}
CONTAINERS = st.sampled_from([f"c{n}" for n in range(6)])
POOLS = st.sampled_from([POOL, OTHER])


class Together(RuleBasedStateMachine):
    """The model: which address is whose, and where each set's cursor is."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="podnet-host-local-")
        folder = self._folder.name
        self.hands = Hands(f"{folder}/net")
        self.ipams = [
            Ipam(HostLocalStore(folder, durable=False), node="n", clock=lambda: 5.0)
            for _ in range(2)
        ]
        self.held = {}
        self.last = {}

    def teardown(self):
        self._folder.cleanup()

    def _next(self, pool):
        """Return the address that host-local gives next; None if none is free."""
        order = ADDRESSES[pool.name]
        at = order.index(self.last[pool.name]) + 1 if pool.name in self.last else 0
        turn = order[at:] + order[:at]
        return next((each for each in turn if each not in self.held), None)

    def _of(self, container, pool):
        mine = [ip for ip, owner in self.held.items() if owner == container]
        return next((ip for ip in mine if ip in ADDRESSES[pool.name]), None)

    @rule(container=CONTAINERS, pool=POOLS, handle=st.integers(0, 1))
    def ours(self, container, pool, handle):
        expected = self._of(container, pool)
        new = expected is None
        expected = expected or self._next(pool)
        try:
            found = self.ipams[handle].allocate(pool, Owner(container, "eth0"), network="net")
        except PoolExhaustedError:
            assert expected is None
            return
        assert str(found.ip) == expected
        assert found.owner.container_id == container
        if new:
            self.held[expected] = container
            self.last[pool.name] = expected

    @rule(container=CONTAINERS, pool=POOLS)
    def theirs(self, container, pool):
        ip = self._next(pool)
        if self._of(container, pool) is None and ip is not None:
            assert self.hands.take(ip, container)
            self.hands.write(f"last_reserved_ip.{pool.name}", ip.encode())
            self.held[ip] = container
            self.last[pool.name] = ip

    @rule(pool=POOLS)
    def theirs_crashed(self, pool):
        ip = self._next(pool)
        if ip is not None:
            self.hands.write(ip, b"")
            self.held[ip] = "(empty file)"

    @rule(container=CONTAINERS, handle=st.integers(0, 1))
    def ours_release(self, container, handle):
        mine = {ip for ip, owner in self.held.items() if owner == container}
        gone = self.ipams[handle].release(Owner(container, "eth0"), pool="net")
        assert {str(each.ip) for each in gone} == mine
        self._drop(mine)

    @rule(container=CONTAINERS)
    def theirs_release(self, container):
        mine = {ip for ip, owner in self.held.items() if owner == container}
        assert set(self.hands.free(container)) == mine
        self._drop(mine)

    @rule(alive=st.sets(CONTAINERS))
    def collect(self, alive):
        valid = {(container, "eth0") for container in alive}
        for node in ("n", ""):
            Ipam(self.ipams[0]._store, node=node).sweep("net", valid, domain="net")
        self._drop({ip for ip, owner in self.held.items() if owner not in alive})

    def _drop(self, addresses):
        for each in addresses:
            del self.held[each]

    @invariant()
    def files_and_podnet_tell_the_same(self):
        files = {
            name: data.decode().partition("\r\n")[0] or "(empty file)"
            for name, data in self.hands.files().items()
        }
        assert files == self.held
        for ipam in self.ipams:
            assert {str(x.ip): x.owner.container_id for x in ipam.leases("net")} == self.held


def test_together():
    run_machine(Together, examples=60, steps=40)
