"""The objects that podnet shares with whereabouts: what it writes, and what it lives with."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.cluster.door import Cluster
from podnet.engine.leases import Ipam
from podnet.errors import InvalidConfigError, PoolExhaustedError, StoreError
from podnet.ipam.whereabouts import PoolRef
from podnet.model.addresses import Address, parse_address, parse_prefix
from podnet.model.block import BLOCK_BITS, Block, block_key, domain_prefix
from podnet.model.lease import Lease, Owner
from podnet.model.pool import INNER, SHARED, Pool
from podnet.stores import whereabouts, whereabouts_change, whereabouts_lease
from podnet.stores.whereabouts_change import PoolFullError
from podnet.stores.whereabouts_pool import PoolObject
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing.kube import patches
from podnet.testing.kube.emulator import Emulator
from podnet.testing.strategies import blocks

NAMESPACE = "kube-system"
POOLS = "ippools.whereabouts.cni.cncf.io"
RESERVATIONS = "overlappingrangeipreservations.whereabouts.cni.cncf.io"
LEASE = "leases.coordination.k8s.io"
WEB = Owner("c-web", "net1", "ns", "web", "uid-web")
DB = Owner("c-db", "net1", "ns", "db", "uid-db")


@pytest.fixture
def kube():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def open_store(kube, tmp_path):
    path = kube.kubeconfig(str(tmp_path), namespace=NAMESPACE)
    stores = []

    def open_one(**options):
        stores.append(WhereaboutsStore(Cluster(path), **options))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def ipam(open_store):
    return Ipam(open_store(), node="node-1")


def pool_of(cidr, *, network_name="", unique=True, node="", network=None, **rest):
    ref = PoolRef(network=parse_prefix(cidr), network_name=network_name, unique=unique, node=node)
    rest = {"edges": INNER, "picker": "lowest", "mode": SHARED, **rest}
    return Pool(cidr, network or cidr, domain=ref.domain, **rest)


def put_pool(kube, name, cidr, entries, **meta):
    allocations = {
        key: dict(zip(("id", "podref", "ifname"), entry, strict=False))
        for key, entry in entries.items()
    }
    return kube.create(
        {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "IPPool",
            "metadata": {"name": name, "namespace": NAMESPACE, **meta},
            "spec": {"range": cidr, "allocations": allocations},
        }
    )


def put_reservation(kube, name, podref, ifname="net1"):
    return kube.create(
        {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "OverlappingRangeIPReservation",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"podref": podref, "ifname": ifname},
        }
    )


def entries(kube, name):
    return kube.get(POOLS, name, NAMESPACE)["spec"]["allocations"]


def reserved(kube):
    return {x["metadata"]["name"]: x["spec"]["podref"] for x in kube.objects(RESERVATIONS)}


def drop_entry(kube, name, key):
    """Release an address as whereabouts does, pool first."""
    found = kube.get(POOLS, name, NAMESPACE)
    del found["spec"]["allocations"][key]
    kube.replace(found)


POOL = pool_of("10.0.0.0/24")


class TestWhatIsWritten:
    def test_a_lease_is_an_entry_and_a_reservation(self, kube, ipam):
        lease = ipam.allocate(POOL, WEB, network="net")
        found = kube.get(POOLS, "10.0.0.0-24", NAMESPACE)
        assert found["spec"] == {
            "range": "10.0.0.0/24",
            "allocations": {"1": {"id": "c-web", "podref": "ns/web", "ifname": "net1"}},
        }
        (one,) = kube.objects(RESERVATIONS)
        assert one["metadata"]["name"] == "10.0.0.1"
        assert one["spec"] == {"podref": "ns/web", "ifname": "net1", "containerid": "c-web"}
        (again,) = ipam.leases(POOL)
        assert again == lease
        assert (again.node, again.network, again.owner.pod_uid) == ("node-1", "net", "uid-web")

    def test_what_is_released_is_gone(self, kube, ipam):
        ipam.allocate(POOL, WEB)
        ipam.release(WEB, pool=POOL)
        assert entries(kube, "10.0.0.0-24") == {}
        assert reserved(kube) == {}
        assert list(ipam.leases(POOL)) == []

    def test_names_of_a_named_network(self, kube, ipam):
        ipam.allocate(pool_of("10.0.0.0/24", network_name="red"), WEB)
        ipam.allocate(pool_of("fd00::/64", network_name="red"), WEB)
        assert [x["metadata"]["name"] for x in kube.objects(POOLS)] == [
            "red-10.0.0.0-24",
            "red-fd00---64",
        ]
        assert sorted(reserved(kube)) == ["red-10.0.0.1", "red-fd00--1"]

    def test_without_overlap_check_there_is_neither_reservation_nor_lease(self, kube, ipam):
        ipam.allocate(pool_of("10.0.0.0/24", unique=False), WEB)
        assert reserved(kube) == {}
        assert kube.objects(LEASE) == []

    def test_the_lease_is_held_by_no_pod_and_given_up(self, kube, ipam, monkeypatch):
        holders = []
        create = Cluster.create
        monkeypatch.setattr(
            Cluster,
            "create",
            lambda *a, **b: holders.append(kube.objects(LEASE)) or create(*a, **b),
        )
        ipam.allocate(POOL, WEB)
        (while_written,) = holders[-1]
        assert while_written["spec"]["holderIdentity"].startswith("podnet:")
        assert "/" not in while_written["spec"]["holderIdentity"]
        assert while_written["spec"]["leaseDurationSeconds"] == 15
        (after,) = kube.objects(LEASE)
        assert after["metadata"]["name"] == "whereabouts"
        assert after["spec"]["holderIdentity"] == ""
        assert after["spec"]["leaseDurationSeconds"] == 1

    def test_an_owner_without_pod_has_no_podref(self, kube, ipam):
        lease = ipam.allocate(POOL, Owner("claim:ns/db-0", "net1", "ns"), claim="ns/db-0")
        assert entries(kube, "10.0.0.0-24")["1"]["podref"] == ""
        assert list(ipam.leases(POOL)) == [lease]
        assert ipam.release(lease.owner, pool=POOL) == (lease,)
        assert reserved(kube) == {}

    def test_a_renewal_for_the_same_pod_leaves_reservation_and_lease_alone(self, kube, ipam):
        ipam.allocate(POOL, WEB)
        (before,) = kube.objects(LEASE)
        again = ipam.allocate(POOL, evolve(WEB, container_id="c-new"))
        assert str(again.ip) == "10.0.0.1"
        assert entries(kube, "10.0.0.0-24")["1"]["id"] == "c-new"
        assert kube.objects(LEASE) == [before]

    def test_an_address_that_passes_to_another_pod_takes_its_reservation_along(self, kube, ipam):
        lease = ipam.allocate(POOL, WEB)
        store = ipam._store
        key = block_key(POOL.domain, 4, lease.ip.value >> BLOCK_BITS)
        block, version = store.load(key)
        moved = evolve(block, leases={n: evolve(x, owner=DB) for n, x in block.leases.items()})
        assert store.swap(key, moved, version)
        assert reserved(kube) == {"10.0.0.1": "ns/db"}
        assert entries(kube, "10.0.0.0-24")["1"]["podref"] == "ns/db"

    def test_requests_are_few(self, kube, ipam):
        ipam.allocate(POOL, WEB)
        before = kube.count()
        ipam.allocate(POOL, DB)
        # Read the pool; take the Lease; other pools' names; the reservation; write both; give up.
        assert kube.count() - before <= 7

    def test_a_large_pool_is_not_read_whole_each_time(self, kube, ipam):
        pool = pool_of("10.0.0.0/16", unique=False)
        put_pool(
            kube,
            "10.0.0.0-16",
            "10.0.0.0/16",
            {str(n): (f"c{n}", f"ns/p{n}", "net1") for n in range(1, 3000)},
        )
        ipam.allocate(pool, WEB)
        kube.forget()
        ipam.allocate(pool, DB)
        ipam.release(DB, pool=pool)
        assert kube.size(POOLS, "10.0.0.0-16", NAMESPACE) > 150_000
        assert sum(one.sent + one.received for one in kube.log()) < 40_000
        # What others change is seen all the same.
        drop_entry(kube, "10.0.0.0-16", "1700")
        assert parse_address("10.0.6.164") not in {lease.ip for lease in ipam.leases(pool)}


class TestWhatOthersWrite:
    """Entries, keys and objects of whereabouts, of people, and of its bugs."""

    def test_entries_of_whereabouts_are_leases(self, kube, ipam):
        put_pool(
            kube, "10.0.0.0-24", "10.0.0.0/24", {"1": ("c1", "ns/p", "net1"), "7": ("c2", "n/q")}
        )
        one, two = ipam.leases(POOL)
        assert (str(one.cidr), one.owner) == ("10.0.0.1/24", Owner("c1", "net1", "ns", "p"))
        assert (one.pool, one.node, one.sequence, one.claim) == ("", "", 0, "")
        assert (str(two.cidr), two.owner) == ("10.0.0.7/24", Owner("c2", "", "n", "q"))
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.2"
        assert [str(x.ip) for x in ipam.release(one.owner, pool=POOL)] == ["10.0.0.1"]
        assert set(entries(kube, "10.0.0.0-24")) == {"2", "7"}

    def test_an_entry_without_pod_is_kept_by_a_claim(self, kube, ipam):
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/24", {"1": ("printer", "", "-")})
        (lease,) = ipam.leases(POOL)
        assert lease.claim == "reserved:printer"

    def test_keys_that_mean_nothing_are_kept(self, kube, ipam):
        odd = {"-1": ("a", "ns/a"), "x": ("b", "ns/b"), "1_0": ("c", "ns/c"), " 2": ("d", "ns/d")}
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/24", odd)
        ipam.allocate(POOL, WEB)
        ipam.release(WEB, pool=POOL)
        assert set(entries(kube, "10.0.0.0-24")) == set(odd)

    def test_keys_in_another_spelling_hold_their_address(self, kube, ipam):
        put_pool(
            kube, "10.0.0.0-24", "10.0.0.0/24", {"01": ("a", "ns/a", "net1"), "+2": ("b", "ns/b")}
        )
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.3"
        ipam.release(Owner("a", "net1"), pool=POOL)
        assert set(entries(kube, "10.0.0.0-24")) == {"+2", "3"}

    def test_an_address_with_two_entries_stays_held_until_both_are_gone(self, kube, ipam):
        two = {"1": ("a", "ns/a", "net1"), "01": ("b", "ns/b", "net1")}
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/24", two)
        ipam.release(Owner("a", "net1"), pool=POOL)
        assert set(entries(kube, "10.0.0.0-24")) == {"01"}
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.2"

    def test_keys_beyond_int64_hold_their_address(self, kube, ipam):
        pool = pool_of("fd00::/56", first="fd00::8000:0:0:0", last="fd00::8000:0:0:3")
        key = str(1 << 63)
        put_pool(kube, "fd00---56", "fd00::/56", {key: ("a", "ns/a", "net1")})
        with pytest.raises(StoreError, match="fd00::8000:0:0:1 has no key"):
            ipam.allocate(pool, WEB)
        assert set(entries(kube, "fd00---56")) == {key}
        assert reserved(kube) == {}

    def test_keys_count_from_the_literal_address(self, kube, ipam):
        """As whereabouts reads them, although it writes no such range."""
        pool = pool_of("10.10.0.0/16", first="10.10.10.1")
        put_pool(kube, "10.10.0.0-16", "10.10.10.0/16", {"1": ("a", "ns/a", "net1")})
        assert str(ipam.allocate(pool, WEB).ip) == "10.10.10.2"
        assert set(entries(kube, "10.10.0.0-16")) == {"1", "2"}
        with pytest.raises(StoreError, match=r"10\.10\.0\.1 has no key"):
            ipam.allocate(evolve(pool, first=None, last=parse_address("10.10.0.9")), DB)

    def test_a_range_that_is_not_that_of_the_name_is_refused(self, kube, ipam):
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/16", {})
        with pytest.raises(StoreError, match=r"has the range 10\.0\.0\.0/16"):
            ipam.allocate(POOL, WEB)

    def test_a_range_that_cannot_be_read_is_told(self, kube, ipam):
        put_pool(kube, "10.0.0.0-24", "bogus", {})
        with pytest.raises(StoreError, match=r"IPPool '10\.0\.0\.0-24' has no range"):
            ipam.allocate(POOL, WEB)
        # It concerns nobody else.
        assert str(ipam.allocate(pool_of("10.1.0.0/24"), WEB).ip) == "10.1.0.1"
        assert [str(lease.ip) for lease in ipam.leases()] == ["10.1.0.1"]

    def test_what_whereabouts_changes_is_no_longer_podnets(self, kube, ipam):
        lease = ipam.allocate(POOL, WEB, network="net")
        found = kube.get(POOLS, "10.0.0.0-24", NAMESPACE)
        found["spec"]["allocations"]["1"]["id"] = "c-next"  # the pod's successor of the same name
        kube.replace(found)
        (now,) = ipam.leases(POOL)
        assert now.owner == Owner("c-next", "net1", "ns", "web")
        assert (now.network, now.sequence) == ("", 0)
        assert ipam.release(WEB, pool=POOL) == ()
        assert ipam.release(lease) == ()
        assert [x.ip for x in ipam.release(now.owner, pool=POOL)] == [lease.ip]

    def test_what_whereabouts_frees_is_free(self, kube, ipam):
        ipam.allocate(POOL, WEB)
        ipam.allocate(POOL, DB)
        drop_entry(kube, "10.0.0.0-24", "1")
        kube.delete(RESERVATIONS, "10.0.0.1", NAMESPACE)
        assert [x.owner for x in ipam.leases(POOL)] == [DB]
        other = ipam.allocate(POOL, Owner("c-x", "net1", "ns", "x"))
        assert str(other.ip) == "10.0.0.1"
        assert {str(x.ip): x.owner.pod_name for x in ipam.leases(POOL)} == {
            "10.0.0.1": "x",
            "10.0.0.2": "db",
        }

    def test_versions_change_with_what_whereabouts_writes(self, kube, open_store):
        store = open_store()
        key = block_key(POOL.domain, 4, 0x0A000000 >> BLOCK_BITS)
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/24", {"1": ("a", "ns/a", "net1")})
        before = store.load(key)
        found = kube.get(POOLS, "10.0.0.0-24", NAMESPACE)
        found["spec"]["allocations"]["2"] = {"id": "b", "podref": "ns/b", "ifname": "net1"}
        kube.replace(found)
        assert store.load(key)[1] != before[1]
        assert store.swap(key, before[0], before[1]) is False
        # Another block of the same pool is no conflict.
        wide = block_key("ippool:10.0.0.0/16", 4, (0x0A000000 >> BLOCK_BITS) + 5)
        assert store.swap(
            wide,
            Block(domain="ippool:10.0.0.0/16", version=4, index=(0x0A000000 >> BLOCK_BITS) + 5),
            None,
        )

    def test_a_damaged_annotation_is_told(self, kube, ipam):
        ipam.allocate(POOL, WEB)
        found = kube.get(POOLS, "10.0.0.0-24", NAMESPACE)
        (name,) = [n for n in found["metadata"]["annotations"] if "/block-" in n]
        for text in ("", "2 abc def", "1 aa,bb x", "1 aa eJyrrgUAAXUA+Q=="):
            found["metadata"]["annotations"][name] = text
            found = kube.replace(found)
            with pytest.raises(StoreError, match=r"annotation .* is damaged"):
                list(Ipam(ipam._store).leases(POOL))
        del found["metadata"]["annotations"][name]
        kube.replace(found)
        assert [x.owner.container_id for x in ipam.leases(POOL)] == ["c-web"]

    def test_all_pools_are_listed(self, kube, ipam):
        put_pool(kube, "red-10.0.0.0-24", "10.0.0.0/24", {"1": ("a", "ns/a", "net1")})
        put_pool(kube, "fd00---64", "fd00::/64", {"2": ("b", "ns/b", "net1")})
        put_pool(kube, "somebodys", "10.9.0.0/24", {"3": ("c", "ns/c", "net1")})
        ipam.allocate(pool_of("10.2.0.0/24", unique=False), WEB)
        ipam.allocate(Pool("native", "10.3.0.0/24"), WEB)
        assert {(lease.domain, str(lease.ip)) for lease in ipam.leases()} == {
            ("ippool:red@10.0.0.0/24", "10.0.0.1"),
            ("ippool:fd00::/64", "fd00::2"),
            ("ippool-apart:10.2.0.0/24", "10.2.0.1"),
            ("native", "10.3.0.1"),
        }
        gone = ipam.release(WEB)
        assert {lease.domain for lease in gone} == {"ippool-apart:10.2.0.0/24", "native"}


class TestOverlap:
    """Two pools with addresses in common; ``whereabouts`` is played by hand."""

    NARROW = pool_of("10.0.0.0/30")

    def test_an_address_of_another_pool_is_not_handed_out(self, kube, ipam):
        ipam.allocate(self.NARROW, WEB)
        assert str(ipam.allocate(POOL, DB).ip) == "10.0.0.2"
        with pytest.raises(PoolExhaustedError) as refusal:
            ipam.allocate(self.NARROW, Owner("c-x", "net1", "ns", "x"))
        assert "ns/db" in str(refusal.value)
        ipam.release(DB, pool=POOL)
        assert str(ipam.allocate(self.NARROW, Owner("c-x", "net1", "ns", "x")).ip) == "10.0.0.2"

    def test_not_even_if_its_reservation_was_deleted(self, kube, ipam):
        """As whereabouts' reconciler does each night to named networks."""
        wide = pool_of("10.0.0.0/24", network_name="red")
        narrow = pool_of("10.0.0.0/30", network_name="red")
        ipam.allocate(narrow, WEB)
        kube.delete(RESERVATIONS, "red-10.0.0.1", NAMESPACE)
        assert str(ipam.allocate(wide, DB).ip) == "10.0.0.2"

    def test_nor_to_another_interface_of_the_same_pod(self, kube, ipam):
        ipam.allocate(self.NARROW, WEB)
        other = ipam.allocate(POOL, evolve(WEB, ifname="net2"))
        assert str(other.ip) == "10.0.0.2"
        same = ipam.allocate(POOL, WEB)
        assert str(same.ip) == "10.0.0.3"

    def test_nor_one_with_a_reservation_alone(self, kube, ipam):
        """After a failed write whereabouts hands out an address with no other record."""
        put_reservation(kube, "10.0.0.1", "ns/q")
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.2"
        assert reserved(kube) == {"10.0.0.1": "ns/q", "10.0.0.2": "ns/web"}
        kube.delete(RESERVATIONS, "10.0.0.1", NAMESPACE)
        assert str(ipam.allocate(POOL, DB).ip) == "10.0.0.1"

    def test_nor_one_reserved_for_another_interface_of_the_pod(self, kube, ipam):
        put_reservation(kube, "10.0.0.1", "ns/web", ifname="net2")
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.2"

    def test_a_reservation_from_before_interfaces_were_told_is_the_pods(self, kube, ipam):
        put_reservation(kube, "10.0.0.1", "ns/web", ifname="")  # whereabouts before 0.8
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.1"

    def test_many_reservations_are_met_at_once(self, kube, ipam):
        for n in range(1, 40):
            put_reservation(kube, f"10.0.0.{n}", f"ns/q{n}")
        before = kube.count("list", RESERVATIONS)
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.40"
        assert kube.count("list", RESERVATIONS) - before <= 2

    def test_networks_of_other_names_do_not_count(self, kube, ipam):
        ipam.allocate(pool_of("10.0.0.0/24", network_name="red"), WEB)
        assert str(ipam.allocate(POOL, DB).ip) == "10.0.0.1"
        assert sorted(reserved(kube)) == ["10.0.0.1", "red-10.0.0.1"]

    def test_pools_that_may_overlap_do_not_count(self, kube, ipam):
        ipam.allocate(pool_of("10.0.0.0/28", unique=False), WEB)
        assert str(ipam.allocate(POOL, DB).ip) == "10.0.0.1"

    def test_the_pods_own_reservation_is_taken_over(self, kube, ipam):
        put_reservation(kube, "10.0.0.1", "ns/web")
        assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.1"
        ipam.release(WEB, pool=POOL)
        assert reserved(kube) == {}

    def test_another_ones_reservation_is_not_deleted(self, kube, ipam):
        ipam.allocate(POOL, WEB)
        kube.delete(RESERVATIONS, "10.0.0.1", NAMESPACE)
        put_reservation(kube, "10.0.0.1", "ns/q")
        ipam.release(WEB, pool=POOL)
        assert reserved(kube) == {"10.0.0.1": "ns/q"}
        assert entries(kube, "10.0.0.0-24") == {}

    def test_what_is_elsewhere_cannot_be_released_here(self, kube, ipam):
        ipam.allocate(self.NARROW, WEB)
        ipam.allocate(POOL, DB)  # now it is known
        assert ipam.release(WEB, pool=POOL) == ()
        assert entries(kube, "10.0.0.0-30") != {}
        assert reserved(kube) == {"10.0.0.1": "ns/web", "10.0.0.2": "ns/db"}


class TestMending:
    def ten_minutes_later(self, open_store):
        return Ipam(open_store(clock=lambda: time.time() + 601))

    def test_missing_reservations_come_back(self, kube, ipam, open_store):
        pool = pool_of("10.0.0.0/24", network_name="red")
        ipam.allocate(pool, WEB)
        kube.delete(RESERVATIONS, "red-10.0.0.1", NAMESPACE)
        ipam.allocate(pool, DB)
        assert sorted(reserved(kube)) == ["red-10.0.0.2"]
        later = self.ten_minutes_later(open_store)
        later.allocate(pool, Owner("c-x", "net1", "ns", "x"))
        assert reserved(kube)["red-10.0.0.1"] == "ns/web"
        # Once is enough for the next ten minutes.
        lists = kube.count("list", RESERVATIONS)
        later.allocate(pool, Owner("c-y", "net1", "ns", "y"))
        assert kube.count("list", RESERVATIONS) == lists

    def test_those_of_whereabouts_entries_too(self, kube, open_store):
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/24", {"5": ("c5", "ns/p5", "net1")})
        assert open_store().mend(POOL.domain)
        assert reserved(kube) == {"10.0.0.5": "ns/p5"}

    def test_a_wedge_is_undone_where_the_other_pod_is_gone(self, kube, open_store):
        """Facts 1.7: an entry of P, a reservation of Q; whereabouts would never answer P."""
        put_pool(
            kube,
            "10.0.0.0-24",
            "10.0.0.0/24",
            {"1": ("c", "ns/p", "net1"), "2": ("d", "ns/r", "net1")},
        )
        put_reservation(kube, "10.0.0.1", "ns/q")
        put_reservation(kube, "10.0.0.2", "ns/alive")
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
        kube.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "alive", "namespace": "ns"}}
        )
        assert open_store().mend(POOL.domain)
        assert reserved(kube) == {"10.0.0.1": "ns/p", "10.0.0.2": "ns/alive"}

    def test_a_permanent_reservation_stays(self, kube, open_store):
        put_pool(kube, "10.0.0.0-24", "10.0.0.0/24", {"1": ("c", "ns/p", "net1")})
        put_reservation(kube, "10.0.0.1", "")
        put_reservation(kube, "10.0.0.9", "")
        assert open_store().mend(POOL.domain)
        assert reserved(kube) == {"10.0.0.1": "", "10.0.0.9": ""}

    def test_there_is_nothing_to_mend_without_reservations(self, open_store):
        assert not open_store().mend("ippool-apart:10.0.0.0/24")
        assert not open_store().mend("storage")


class TestLease:
    def holder(self, kube, identity, duration):
        kube.create(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "whereabouts", "namespace": NAMESPACE},
                "spec": {
                    "holderIdentity": identity,
                    "leaseDurationSeconds": duration,
                    "leaseTransitions": 7,
                    "acquireTime": "2026-11-23T08:00:00.000000Z",
                    "renewTime": "2026-11-23T08:00:00.000000Z",
                },
            }
        )

    def test_a_holder_is_believed_for_as_long_as_it_asked(self, kube, open_store):
        self.holder(kube, "ns/q", 1)
        began = time.monotonic()
        Ipam(open_store()).allocate(POOL, WEB)
        assert time.monotonic() - began > 2  # its own second, and a margin
        (lease,) = kube.objects(LEASE)
        assert lease["spec"]["leaseTransitions"] == 8

    def test_a_holder_that_renews_keeps_it(self, kube, open_store):
        self.holder(kube, "ns/q", 3600)
        with pytest.raises(StoreError, match="held by ns/q") as refusal:
            Ipam(open_store(patience=0.5)).allocate(POOL, WEB)
        assert refusal.value.code == 11
        assert kube.objects(POOLS) == []

    def test_it_is_renewed_before_each_write(self, kube, open_store, monkeypatch):
        monkeypatch.setattr(whereabouts_lease, "_RENEW_AFTER", -1.0)
        Ipam(open_store()).allocate(POOL, WEB)
        # Taken, renewed before the pool and before the reservation, given up.
        assert kube.count("update", LEASE) + kube.count("create", LEASE) == 4

    def test_who_lost_it_writes_nothing(self, kube, open_store, monkeypatch):
        monkeypatch.setattr(whereabouts_lease, "_RENEW_AFTER", -1.0)
        store = open_store()
        around = type(store._rivals).around

        def robbed(self, ref, own):
            (lease,) = kube.objects(LEASE)
            lease["spec"]["holderIdentity"] = "ns/robber"
            kube.replace(lease)
            return around(self, ref, own)

        monkeypatch.setattr(type(store._rivals), "around", robbed)
        with pytest.raises(StoreError, match="was taken over"):
            Ipam(store).allocate(POOL, WEB)
        assert kube.objects(POOLS) == []
        (lease,) = kube.objects(LEASE)
        assert lease["spec"]["holderIdentity"] == "ns/robber"


class TestSize:
    def fill(self, store, blocks, long=20):
        """Leases with as many details as there are in a cluster."""
        chance = random.Random(1)
        domain, base = "ippool-apart:10.0.0.0/16", 0x0A000000 >> BLOCK_BITS
        for index in range(base, base + blocks):
            first = index << BLOCK_BITS
            leases = {
                n: Lease(
                    domain=domain,
                    pool="10.0.0.0/16",
                    ip=Address(4, first + n),
                    length=16,
                    owner=Owner(
                        f"{chance.getrandbits(256):064x}",
                        "net1",
                        "production",
                        f"web-{'x' * long}-{first + n:x}",
                        f"{chance.getrandbits(128):032x}",
                    ),
                    node=f"node-{chance.randrange(50)}",
                    network="net",
                    since=1.7e9 + chance.random() * 1e6,
                    sequence=n,
                )
                for n in range(1, 511)
            }
            block = Block(domain=domain, version=4, index=index, leases=leases, sequence=600)
            assert store.swap(block.key, block, (store.load(block.key) or ("", None))[1])
            yield block

    def test_details_are_dropped_before_annotations_are_too_large(self, kube, open_store):
        """Never leases; and the whole object ends before etcd's limit, with room for others."""
        store, written = open_store(), []
        with pytest.raises(PoolFullError, match="is full: its") as refusal:
            written.extend(self.fill(store, 128))
        assert isinstance(refusal.value, PoolExhaustedError)
        size = kube.size(POOLS, "10.0.0.0-16", NAMESPACE)
        assert whereabouts_change.OBJECT_MOST * 0.8 < size < whereabouts_change.OBJECT_MOST
        found = kube.get(POOLS, "10.0.0.0-16", NAMESPACE)
        notes = found["metadata"]["annotations"]
        told = sum(len(name) + len(text) for name, text in notes.items())
        assert told < whereabouts_change.ANNOTATIONS_MOST
        loaded = {key: store.load(key)[0] for key in store.keys("")}
        assert set(loaded) == {block.key for block in written}
        whole = [block for block in written if loaded[block.key] == block]
        assert len(whole) >= 3, "all details of a block take a seventh of what there is"
        for block in written:
            there = loaded[block.key]
            assert there.sequence == 600
            for n, lease in block.leases.items():
                assert there.leases[n].owner.key == lease.owner.key
                assert there.leases[n].owner.pod_name == lease.owner.pod_name
                # What GC goes by is kept.
                told = (there.leases[n].pool, there.leases[n].node, there.leases[n].network)
                assert told == (lease.pool, lease.node, lease.network)
        # What is full can be emptied.
        last = written[-1]
        block, version = store.load(last.key)
        assert store.swap(last.key, evolve(block, leases={}), version)
        owner = written[0].leases[1].owner
        assert store.seek(domain_prefix(last.domain), owner) == [written[0].key]

    def test_times_of_releases_go_first(self, kube, open_store, monkeypatch):
        store = open_store()
        (block,) = self.fill(store, 1)
        left = {n: lease for n, lease in block.leases.items() if n > 300}
        freed = {n: 1.7e9 + n / 7 for n in range(1, 300)}
        _, version = store.load(block.key)
        assert store.swap(block.key, evolve(block, leases=left, freed=freed), version)
        block, version = store.load(block.key)
        assert block.freed == freed
        notes = kube.get(POOLS, "10.0.0.0-16", NAMESPACE)["metadata"]["annotations"]
        told = sum(len(name) + len(text) for name, text in notes.items())
        monkeypatch.setattr(whereabouts_change, "DETAILS_MOST", told - 100)
        assert store.swap(block.key, block, version)
        there = store.load(block.key)[0]
        assert there.freed == {}
        assert there.leases == block.leases

    def test_what_was_cut_has_another_version(self, kube, open_store, monkeypatch):
        """Others may have loaded it, and must not find another content of the same version."""
        store = open_store()
        first, second = self.fill(store, 2)
        before = store.load(first.key)
        assert before[0] == first
        monkeypatch.setattr(whereabouts_change, "DETAILS_MOST", 35_000)
        block, version = store.load(second.key)
        assert store.swap(second.key, evolve(block, sequence=601), version)
        after = store.load(first.key)
        assert after[0] != before[0]
        assert after[1] != before[1]
        assert store.swap(first.key, before[0], before[1]) is False

    def test_there_is_an_end_to_blocks(self, kube, open_store, monkeypatch):
        store = open_store()
        (block,) = self.fill(store, 1)
        monkeypatch.setattr(whereabouts_change, "DETAILS_MOST", 300)
        monkeypatch.setattr(whereabouts_change, "ANNOTATIONS_MOST", 300)
        with pytest.raises(PoolFullError, match="no room for another block"):
            list(self.fill(store, 2))
        _, version = store.load(block.key)
        assert store.swap(block.key, evolve(block, leases={}), version)

    def test_what_etcd_refuses_is_told(self, kube, open_store):
        from podnet.testing.kube.emulator import Refuse

        kube.fail(
            Refuse(413, "RequestEntityTooLarge", "etcdserver: request is too large"),
            verb="create",
            resource=POOLS,
        )
        with pytest.raises(PoolFullError, match=r"IPPool '10\.0\.0\.0-24' is full"):
            Ipam(open_store()).allocate(POOL, WEB)


ODD = ["-4", "x", "600", str(1 << 63)]
KEYS = st.sampled_from(["1", "01", "+1", "2", "002", "3", "300", "511", *ODD])
ENTRIES = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b", "claim:ns/x", ""]),
        "podref": st.sampled_from(["ns/a", "ns/b", "", "a/b/c"]),
        "ifname": st.sampled_from(["net1", ""]),
    }
)


@given(
    found=st.dictionaries(KEYS, ENTRIES),
    turns=st.lists(blocks(domain="ippool:fd00::/56", version=6, index=0xFD << 111), max_size=3),
    kept=st.sets(st.integers(0, 511)),
    annotated=st.booleans(),
)
def test_a_change_makes_the_block_it_is_asked_for(found, turns, kept, annotated):
    """Written to the API server, and remembered, whatever else is in the allocation map."""
    domain, index = "ippool:fd00::/56", 0xFD << 111
    document = {
        "metadata": {"name": "fd00---56", "uid": "u" * 9, "resourceVersion": "7"},
        "spec": {"range": "fd00::/56", "allocations": found},
    }
    if annotated:
        document["metadata"]["annotations"] = {"else": "where"}
    pool = PoolObject.read(document)
    others = {key: entry for key, entry in found.items() if key in ODD}
    for number, drawn in enumerate(turns):
        there = pool.block(domain, index)
        # Some leases stay as they were found.
        same = {n: lease for n, lease in there.leases.items() if n in kept}
        block = evolve(
            drawn,
            leases={**drawn.leases, **same},
            freed={n: when for n, when in drawn.freed.items() if n not in same},
            sequence=max(drawn.sequence, there.sequence),
        )
        change = whereabouts_change.plan(pool, index, block, f"token{number}")
        patched = patches.json_patch(pool.document, whereabouts_change.json_patch(pool, change))
        after, again = pool.after(change.entries, patched["metadata"]), PoolObject.read(patched)
        assert again.document == after.document
        assert again.places == after.places
        assert again.tag(index) == after.tag(index) != pool.tag(index)
        made = again.block(domain, index)
        twice = {n for n, keys in pool.places.get(index, {}).items() if len(keys) > 1}
        left = {n: x for n, x in made.leases.items() if n not in twice or n in block.leases}
        assert left == block.leases
        assert evolve(made, leases={}, freed={}) == evolve(block, leases={}, freed={})
        assert twice or made == block
        assert others.items() <= again.entries.items()
        touched = {step.address.value % 512 for step in change.steps}
        assert touched.isdisjoint(same), "a lease that stays is nobody's business"
        pool = after


class TestUrl:
    def test_namespace_of_the_context(self, kube, tmp_path):
        path = kube.kubeconfig(str(tmp_path), namespace="default")
        assert whereabouts.open(f"whereabouts:{path}").namespace == "default"
        assert (
            whereabouts.open(f"whereabouts://{path}?namespace=kube-public&timeout=3").namespace
            == "kube-public"
        )

    def test_no_namespace_means_kube_system(self, kube, tmp_path):
        path = kube.kubeconfig(str(tmp_path))
        config = json.loads(Path(path).read_text())
        del config["contexts"][0]["context"]["namespace"]
        Path(path).write_text(json.dumps(config))
        assert whereabouts.open(f"whereabouts:{path}").namespace == "kube-system"

    @pytest.mark.parametrize(
        "url",
        [
            "kubernetes:/x",
            "whereabouts",
            "whereabouts://host/x",
            "whereabouts:/x?color=red",
            "whereabouts:/x?timeout=0",
            "whereabouts:/x?timeout=soon",
        ],
    )
    def test_wrong(self, url):
        with pytest.raises(InvalidConfigError):
            whereabouts.open(url)
