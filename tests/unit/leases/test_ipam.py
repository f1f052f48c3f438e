from __future__ import annotations

import contextlib
import itertools

import pytest

import podnet
from podnet.engine.leases import Ipam, open_ipam
from podnet.engine.registry import open_store
from podnet.errors import (
    AddressUnavailableError,
    InvalidConfigError,
    PodnetError,
    PoolExhaustedError,
    StoreError,
    TryAgainLaterError,
)
from podnet.ipam.want import IpamWant
from podnet.model.addresses import parse_address
from podnet.model.block import block_key
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing import FaultyStore
from podnet.testing.faults import BEATEN, FINE, LOST, REFUSED

SCENARIO = Pool("storage", "192.168.60.0/24", first="192.168.60.20", last="192.168.60.50")
SMALL = Pool("small", "10.0.0.0/30")
SIX = Pool("six", "2001:db8::/64")


class Counting(MemoryStore):
    """A memory store that counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def load(self, key):
        self.calls.append("load")
        return super().load(key)

    def swap(self, key, new, expected):
        self.calls.append("swap")
        return super().swap(key, new, expected)

    def keys(self, prefix):
        self.calls.append("keys")
        return super().keys(prefix)


@pytest.fixture
def store():
    return FaultyStore(MemoryStore())


@pytest.fixture
def ipam(store):
    return Ipam(store, clock=lambda: 1700000000.0, node="node-1", sleep=lambda _: None)


def owner(n=0):
    return Owner(f"container-{n}", "eth1", "default", f"pod-{n}", f"uid-{n}")


def test_the_design_reads_as_promised():
    with podnet.open_ipam("memory:") as ipam:
        lease = ipam.allocate(SCENARIO, owner=podnet.Owner("web-0", "eth1"))
        assert str(lease.prefix) == "192.168.60.20/24"
        assert ipam.release(lease.owner) == (lease,)
        assert list(ipam.leases()) == []


def test_lowest_first_up_to_the_last_and_no_further(ipam):
    got = [str(ipam.allocate(SCENARIO, owner(n)).ip) for n in range(31)]
    assert got == [f"192.168.60.{n}" for n in range(20, 51)]
    with pytest.raises(PoolExhaustedError) as raised:
        ipam.allocate(SCENARIO, owner(31))
    assert raised.value.msg == "pool 'storage' has no free address: it has 31 and all are held"
    assert raised.value.details.startswith("192.168.60.20 by default/pod-0 (eth1), ")
    assert raised.value.details.endswith(" and 26 more")
    ipam.release(owner(7))
    assert str(ipam.allocate(SCENARIO, owner(31)).ip) == "192.168.60.27"


def test_lease_tells_who_where_when(ipam):
    lease = ipam.allocate(SCENARIO, owner(), network="net")
    assert (lease.owner, lease.node, lease.network) == (owner(), "node-1", "net")
    assert (lease.since, lease.pool, lease.domain) == (1700000000.0, "storage", "storage")


def test_asked_again_the_same(ipam):
    first = ipam.allocate(SCENARIO, owner())
    assert ipam.allocate(SCENARIO, owner()) == first
    assert ipam.holds(owner(), SCENARIO) == first
    assert ipam.holds(owner(1), SCENARIO) is None


def test_lease_outside_a_changed_range_is_kept(ipam):
    old = Pool("p", "10.0.0.0/24", first="10.0.0.5")
    new = Pool("p", "10.0.0.0/24", first="10.0.0.100", exclude=["10.0.0.0/26"])
    lease = ipam.allocate(old, owner())
    assert ipam.allocate(new, owner()) == lease
    assert ipam.release(owner(), pool=new) == (lease,)


def test_overlapping_pools_of_a_domain_meet(ipam):
    wide = Pool("wide", "192.168.22.0/24", domain="d")
    narrow = Pool("narrow", "192.168.22.0/28", domain="d")
    apart = Pool("narrow", "192.168.22.0/28", domain="e")
    got = [str(ipam.allocate(pool, owner(n)).ip) for n, pool in enumerate((wide, narrow, apart))]
    assert got == ["192.168.22.1", "192.168.22.2", "192.168.22.1"]


def test_pod_keeps_its_address_when_its_container_is_replaced(ipam):
    old = Owner("c1", "eth1", "ns", "pod", "uid")
    new = Owner("c2", "eth1", "ns", "pod", "uid")
    first = ipam.allocate(SCENARIO, old)
    second = ipam.allocate(SCENARIO, new)
    assert second.ip == first.ip
    assert ipam.release(old) == ()
    assert ipam.release(first) == ()
    assert list(ipam.leases(SCENARIO)) == [second]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("192.168.60.19", "is outside the pool's range"),
        ("192.168.60.0", "is the first or last address"),
        ("10.0.0.1", "is outside 192.168.60.0/24"),
        ("nonsense", "is not an IP address"),
    ],
)
def test_requested_address_that_cannot_be(ipam, wanted, message):
    with pytest.raises(AddressUnavailableError, match=message):
        ipam.allocate(SCENARIO, owner(), requested=wanted)
    assert list(ipam.leases()) == []


def test_requested_address(ipam):
    lease = ipam.allocate(SCENARIO, owner(), requested="192.168.60.33")
    assert str(lease.ip) == "192.168.60.33"
    with pytest.raises(AddressUnavailableError) as raised:
        ipam.allocate(SCENARIO, owner(1), requested="192.168.60.33")
    assert raised.value.details == (
        "by default/pod-0 (eth1) since 2023-11-14T22:13:20Z on node node-1"
    )
    assert ipam.allocate(SCENARIO, owner(), requested="192.168.60.33") == lease
    with pytest.raises(AddressUnavailableError, match="already holds"):
        ipam.allocate(SCENARIO, owner(), requested="192.168.60.34")


def test_pool_without_any_address_says_so(ipam):
    pool = Pool("p", "10.0.0.0/29", exclude=["10.0.0.0/29"])
    with pytest.raises(PoolExhaustedError, match="its excludes leave none"):
        ipam.allocate(pool, owner())


def test_nameless_owner_is_refused(ipam):
    with pytest.raises(InvalidConfigError) as raised:
        ipam.allocate(SCENARIO, Owner("", ""))
    assert [path for path, _ in raised.value.mistakes] == ["container_id", "ifname"]


def test_huge_pools_cost_what_small_ones_do():
    costs = []
    for network in ("10.0.0.0/24", "10.0.0.0/8", "2001:db8::/64", "::/0"):
        store = Counting()
        ipam = Ipam(store)
        pool = Pool("p", network)
        for n in range(3):
            ipam.allocate(pool, owner(n))
        ipam.release(owner(1), pool=pool)
        costs.append(len(store.calls))
    assert max(costs) - costs[0] <= 4, costs


def test_released_by_hint_without_looking_elsewhere():
    store = Counting()
    ipam = Ipam(store)
    pool = Pool("p", "10.0.0.0/8")
    ipam.allocate(pool, owner(1), requested="10.200.0.1")
    ipam.allocate(pool, owner(2), requested="10.100.0.1")
    store.calls.clear()
    (lease,) = ipam.release(owner(1), pool=pool, hints=["10.200.0.1"])
    assert str(lease.ip) == "10.200.0.1"
    assert store.calls == ["load", "swap"]
    assert len(ipam.release(owner(2), pool=pool, hints=["10.200.0.1"])) == 1


def test_hints_that_are_not_all_right_hide_nothing(ipam):
    pool = Pool("p", "10.0.0.0/8")
    other = Pool("q", "10.0.0.0/8", domain="p")
    ipam.allocate(pool, owner(1), requested="10.200.0.1")
    ipam.allocate(other, owner(1), requested="10.100.0.1")
    released = ipam.release(owner(1), pool="p", hints=["10.200.0.1", "10.1.1.1"])
    assert [str(lease.ip) for lease in released] == ["10.200.0.1", "10.100.0.1"]


def test_own_lease_goes_before_an_earlier_containers_in_another_block(ipam):
    old = Owner("c1", "eth1", "ns", "pod", "uid")
    new = Owner("c2", "eth1", "ns", "pod", "uid")
    pool = Pool("p", "10.0.0.0/22")
    earlier = ipam.allocate(pool, Owner("c1", "eth1"), requested="10.0.0.9")
    mine = ipam.allocate(pool, new, requested="10.0.2.9")
    assert ipam.allocate(pool, old).ip == earlier.ip
    assert ipam.allocate(pool, new) == mine


def test_blocks_outside_the_pools_network_are_not_loaded():
    store = Counting()
    ipam = Ipam(store)
    far = Pool("far", "172.16.0.0/12", domain="d")
    for n in range(3):
        ipam.allocate(far, owner(n), requested=f"172.16.{2 * n}.1")
    store.calls.clear()
    ipam.allocate(Pool("near", "10.0.0.0/8", domain="d"), owner())
    assert store.calls == ["keys", "load", "swap"]
    store.calls.clear()
    ipam.allocate(Pool("near", "10.0.0.0/8", domain="d"), owner(1))
    assert store.calls == ["load", "swap"]


def test_one_swap_for_an_allocation_and_for_a_release():
    store = Counting()
    ipam = Ipam(store)
    ipam.allocate(SCENARIO, owner())
    ipam.release(owner(), pool=SCENARIO)
    assert store.calls == ["load", "swap", "load", "swap"]


def test_several_pools_are_one_transaction(ipam):
    want = IpamWant(sets=(SCENARIO, SIX))
    leases = ipam.acquire(want, owner(), network="net")
    assert [str(lease.cidr) for lease in leases] == ["192.168.60.20/24", "2001:db8::1/64"]
    assert ipam.acquire(want, owner(), network="net") == leases
    assert set(ipam.release(owner())) == set(leases)


def test_all_or_nothing(ipam):
    ipam.allocate(SMALL, owner(1))
    ipam.allocate(SMALL, owner(2))
    with pytest.raises(PoolExhaustedError):
        ipam.acquire(IpamWant(sets=(SCENARIO, SIX, SMALL)), owner())
    assert {lease.owner for lease in ipam.leases()} == {owner(1), owner(2)}


def test_what_was_held_before_survives_a_failure(ipam):
    kept = ipam.allocate(SCENARIO, owner())
    ipam.allocate(SMALL, owner(1))
    ipam.allocate(SMALL, owner(2))
    with pytest.raises(PoolExhaustedError):
        ipam.acquire(IpamWant(sets=(SCENARIO, SIX, SMALL)), owner())
    assert ipam.holds(owner(), SCENARIO) == kept
    assert ipam.holds(owner(), SIX) is None


def test_requested_addresses_go_to_their_pools(ipam):
    wanted = tuple(parse_address(text) for text in ("2001:db8::9", "192.168.60.30"))
    leases = ipam.acquire(IpamWant(sets=(SCENARIO, SIX), requested=wanted), owner())
    assert [str(lease.ip) for lease in leases] == ["192.168.60.30", "2001:db8::9"]


def test_requested_address_of_no_pool(ipam):
    wanted = (parse_address("192.168.60.30"), parse_address("192.168.60.31"))
    with pytest.raises(AddressUnavailableError, match="in no pool that is left"):
        ipam.acquire(IpamWant(sets=(SCENARIO, SIX), requested=wanted), owner())
    assert list(ipam.leases()) == []


@pytest.mark.parametrize("fault", [REFUSED, LOST])
@pytest.mark.parametrize("at", range(3))
def test_failure_at_any_call_leaves_nothing(ipam, store, fault, at):
    store.plan([FINE] * at + [fault])
    with pytest.raises(StoreError):
        ipam.acquire(IpamWant(sets=(SCENARIO, SIX)), owner())
    assert list(ipam.leases()) == []


def test_failed_undo_is_told(ipam, store):
    store.plan([FINE, LOST, REFUSED])
    with pytest.raises(StoreError, match="answer to swap") as raised:
        ipam.allocate(SCENARIO, owner())
    assert any("may be left" in note for note in raised.value.__notes__)
    assert len(list(ipam.leases())) == 1
    assert ipam.allocate(SCENARIO, owner()) == next(ipam.leases())


def test_interrupted_allocation_is_undone(ipam, store):
    def interrupt():
        raise KeyboardInterrupt

    store.interfere(interrupt)
    with pytest.raises(KeyboardInterrupt):
        ipam.acquire(IpamWant(sets=(SCENARIO,)), owner())
    assert list(ipam.leases()) == []


def test_lost_races_are_tried_again(ipam, store):
    store.plan([FINE, BEATEN, FINE, BEATEN])
    assert str(ipam.allocate(SCENARIO, owner()).ip) == "192.168.60.20"


def test_losing_for_ever_is_worth_a_retry(store):
    pauses = []
    ipam = Ipam(store, attempts=5, jitter=lambda: 0.5, sleep=pauses.append)
    store.plan([FINE, BEATEN] * 5)
    with pytest.raises(TryAgainLaterError, match="others won 5 times"):
        ipam.allocate(SCENARIO, owner())
    assert pauses == [0.5 * 0.001 * n for n in (2, 3, 4)]


def test_nothing_is_refused_while_an_address_is_free(store):
    """Between the looks at two blocks an address moves from one to the other."""
    pool = Pool("p", "10.0.0.0/22", first="10.0.1.255", last="10.0.2.0", edges="all")
    inner = store._store
    other = Ipam(inner)
    other.allocate(pool, owner(1), requested="10.0.1.255")

    class Moving(FaultyStore):
        moved = False

        def load(self, key):
            entry = super().load(key)
            if key == block_key("p", 4, 0x050000) and not self.moved:
                self.moved = True
                other.release(owner(1))
                other.allocate(pool, owner(2), requested="10.0.2.0")
            return entry

    ipam = Ipam(Moving(inner), sleep=lambda _: None)
    assert str(ipam.allocate(pool, owner(3)).ip) == "10.0.1.255"


def test_release_searches_all_domains_or_one(ipam):
    for pool in (SCENARIO, SMALL, SIX):
        ipam.allocate(pool, owner(), network="net")
    assert [x.pool for x in ipam.release(owner(), pool="small")] == ["small"]
    assert ipam.release(owner(), network="other") == ()
    assert sorted(x.pool for x in ipam.release(owner())) == ["six", "storage"]
    assert ipam.release(owner()) == ()


def test_leases_of_pool_domain_or_all(ipam):
    wide = Pool("wide", "10.0.0.0/24", domain="d")
    narrow = Pool("narrow", "10.0.0.0/28", domain="d")
    for n, pool in enumerate((wide, narrow, SIX)):
        ipam.allocate(pool, owner(n))
    assert [str(x.ip) for x in ipam.leases(narrow)] == ["10.0.0.2"]
    assert [str(x.ip) for x in ipam.leases("d")] == ["10.0.0.1", "10.0.0.2"]
    assert len(list(ipam.leases())) == 3


def test_has_free(ipam):
    assert ipam.has_free(SMALL)
    for n in range(2):
        ipam.allocate(SMALL, owner(n))
    assert not ipam.has_free(SMALL)
    ipam.release(owner(1))
    assert ipam.has_free(SMALL)


def test_picker_decides(store):
    class Highest:
        def pick(self, free, ask):
            assert ask.owner == owner()
            return max((high for _, high in free), default=None)

    assert str(Ipam(store, picker=Highest()).allocate(SCENARIO, owner()).ip) == "192.168.60.50"


@pytest.mark.parametrize("value", [0xC0A83C00 + 20, 0xC0A83C00 + 51, 0, 1 << 130])
def test_picker_that_picks_what_is_not_free_is_refused(store, value):
    class Wrong:
        def pick(self, free, ask):
            return value

    held = Ipam(store).allocate(SCENARIO, owner())
    with pytest.raises(PodnetError, match="which is not free"):
        Ipam(store, picker=Wrong()).allocate(SCENARIO, owner(1))
    assert list(Ipam(store).leases()) == [held]


def test_block_under_another_blocks_key_is_refused(ipam, store):
    ipam.allocate(SCENARIO, owner())
    block, _ = store.load("storage/4/60541e")
    store.swap("small/4/050000", block, None)
    for act in (
        lambda: ipam.allocate(SMALL, owner()),
        lambda: ipam.release(owner(), pool=SMALL),
        lambda: list(ipam.leases()),
    ):
        with pytest.raises(StoreError, match="under the key 'small/4/050000'"):
            act()


def test_context_closes_the_store():
    closed = []
    store = MemoryStore()
    store.close = lambda: closed.append(1)
    with contextlib.suppress(RuntimeError), Ipam(store):
        raise RuntimeError
    assert closed == [1]


def test_open_by_scheme(tmp_path):
    with open_ipam(f"file:{tmp_path}/x", node="n") as ipam:
        assert ipam.allocate(SCENARIO, owner()).node == "n"
    with open_ipam(f"file:{tmp_path}/x") as ipam:
        assert len(list(ipam.leases())) == 1


@pytest.mark.parametrize("url", ["redis://x", "", "nothing", ":x"])
def test_unknown_schemes_are_refused(url):
    with pytest.raises(InvalidConfigError, match="its scheme is none of memory, file"):
        open_store(url)


def test_schemes_of_other_packages(monkeypatch):
    import importlib.metadata

    made = MemoryStore()

    class Entry:
        def load(self):
            return lambda url: made if url == "redis://x" else None

    def entry_points(group, name):
        return [Entry()] if (group, name) == ("podnet.stores", "redis") else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert open_store("redis://x") is made


def test_every_address_of_a_pool_can_be_had(ipam):
    pool = Pool("p", "10.0.0.0/22", exclude=["10.0.1.0/25", "10.0.2.7"], gateway="10.0.0.1")
    got = []
    with contextlib.suppress(PoolExhaustedError):
        for n in itertools.count():
            got.append(ipam.allocate(pool, owner(n)).ip.value)
    assert got == sorted(set(got))
    assert len(got) == 1024 - 2 - 128 - 1 - 1


def test_a_closed_handle_says_so(tmp_path):
    with open_ipam(f"file:{tmp_path}") as ipam:
        lease = ipam.allocate(Pool("p", "10.0.0.0/24"), Owner("c", "eth0"))
    ipam.close()
    for use in (
        lambda: ipam.allocate(Pool("p", "10.0.0.0/24"), Owner("d", "eth0")),
        lambda: ipam.release(lease),
        lambda: list(ipam.leases()),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()
