"""One pass over a store: which pools it tells of, and what is counted to which."""

from __future__ import annotations

from podnet.engine.leases import Ipam
from podnet.engine.reserving import reserve
from podnet.engine.usage import usage
from podnet.model.addresses import parse_span
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore

LAN = Pool("lan", "10.0.0.0/24")


def counted(store, *pools):
    return {
        (each.pool.name, str(each.pool.network)): (each.used, each.kept, each.defined)
        for each in usage(store, pools)
    }


def test_what_is_reserved_is_of_the_pool_in_whose_network_it_lies():
    store = MemoryStore()
    Ipam(store).allocate(LAN, Owner("c", "eth1"))
    reserve(store, "lan", parse_span("10.0.0.240/28"), "printers", length=32)
    assert counted(store) == {("lan", "10.0.0.0/24"): (17, 16, False)}
    assert counted(store, LAN) == {
        ("lan", "10.0.0.0/24"): (16, 15, True)
    }  # .255 is no address of it


def test_what_is_reserved_elsewhere_is_counted_nevertheless():
    store = MemoryStore()
    Ipam(store).allocate(LAN, Owner("c", "eth1"))
    reserve(store, "lan", parse_span("10.0.1.0/30"), "printers", length=32)
    assert counted(store)["lan", "10.0.0.0/24"] == (1, 0, False)
    assert sum(used for used, _, _ in counted(store).values()) >= 5
