from __future__ import annotations

import pytest

from podnet.engine.leases import Ipam
from podnet.engine.reserving import free, reserve
from podnet.errors import AddressUnavailableError, InvalidConfigError, TryAgainLaterError
from podnet.ipam.reserve import with_reserved, without
from podnet.ipam.want import IpamWant
from podnet.model.addresses import parse_span
from podnet.model.block import block_key
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore

POOL = Pool("p", "10.0.0.0/22", first="10.0.1.250", domain="d")
SPAN = parse_span("10.0.1.252-10.0.2.2")


def make(store, span=SPAN, reason="printers", **options):
    return reserve(store, "d", span, reason, length=22, clock=lambda: 5.0, **options)


def test_reserved_addresses_are_not_handed_out():
    store = MemoryStore()
    ipam = Ipam(store)
    first = ipam.allocate(POOL, Owner("a", "eth1"), requested="10.0.1.253")
    done = make(store)
    assert [str(e.ip) for e in done.made] == [
        "10.0.1.252",
        "10.0.1.254",
        "10.0.1.255",
        "10.0.2.0",
        "10.0.2.1",
        "10.0.2.2",
    ]
    assert done.held == (first,)
    assert {e.claim for e in done.made} == {"reserved:printers"}
    assert {e.length for e in done.made} == {22}
    with pytest.raises(AddressUnavailableError, match="held") as caught:
        ipam.allocate(POOL, Owner("b", "eth1"), requested="10.0.2.1")
    assert "reserved:printers" in str(caught.value)
    got = [str(ipam.allocate(POOL, Owner(f"c{n}", "eth1")).ip) for n in range(3)]
    assert got == ["10.0.1.250", "10.0.1.251", "10.0.2.3"]


def test_reserving_twice_changes_nothing():
    store = MemoryStore()
    make(store)
    before = [store.load(key) for key in store.keys("")]
    assert make(store).made == ()
    assert make(store).held == ()
    assert [store.load(key) for key in store.keys("")] == before
    assert len(make(store, reason="other").held) == 7


def test_gc_leaves_reservations():
    store = MemoryStore()
    make(store)
    assert Ipam(store).sweep("", []) == ()


def test_reservations_are_given_back():
    store = MemoryStore()
    ipam = Ipam(store)
    mine = ipam.allocate(POOL, Owner("a", "eth1"), requested="10.0.1.253")
    make(store)
    assert free(store, "d", SPAN, "scanners") == ()
    gone = free(store, "d", parse_span("10.0.1.254-10.0.2.0"), clock=lambda: 9.0)
    assert [str(e.ip) for e in gone] == ["10.0.1.254", "10.0.1.255", "10.0.2.0"]
    assert store.load(block_key("d", 4, 0x50001))[0].freed == {0: 9.0}
    assert len(free(store, "d", SPAN, "printers")) == 3
    assert list(ipam.leases()) == [mine]
    assert free(store, "nowhere", SPAN) == ()


def test_too_many_are_refused():
    with pytest.raises(InvalidConfigError, match="more than 65536"):
        make(MemoryStore(), parse_span("2001:db8::/64"))


def test_a_node_is_asked_for_its_block():
    from attrs import evolve

    store = MemoryStore()
    Ipam(store).allocate(POOL, Owner("a", "eth1"))
    key = next(iter(store.keys("")))
    block, version = store.load(key)
    store.swap(key, evolve(block, holder="node-1"), version)
    with pytest.raises(TryAgainLaterError, match="node-1 does not give back"):
        make(store, parse_span("10.0.1.252"), patience=0.2)
    block, version = store.load(key)
    assert block.recalled
    store.swap(key, evolve(block, holder="", recalled=False), version)
    assert len(make(store, parse_span("10.0.1.252")).made) == 1


def test_settings_take_addresses_out_of_pools():
    spans = [parse_span("10.0.2.0/24"), parse_span("2001:db8::/32"), parse_span("10.9.0.0/16")]
    pool = with_reserved(POOL, spans)
    assert [str(span) for span in pool.reserved] == ["10.0.2.0/24"]
    assert with_reserved(POOL, spans[1:]) is POOL
    want = IpamWant(sets=[POOL, [POOL, Pool("six", "2001:db8::/64", domain="d")]])
    assert without(want, ()) is want
    assert [len(each.reserved) for each in without(want, spans).pools] == [1, 1, 1]
    with pytest.raises(AddressUnavailableError, match="is reserved by 10"):
        Ipam(MemoryStore()).allocate(pool, Owner("a", "eth1"), requested="10.0.2.7")
