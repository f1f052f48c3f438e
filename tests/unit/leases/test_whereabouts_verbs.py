"""Configurations of type whereabouts on whereabouts' own objects."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from podnet.cluster.door import Cluster
from podnet.engine import registry
from podnet.engine.house import House
from podnet.engine.leases import Ipam
from podnet.engine.settings import Settings, absolute_store, load
from podnet.engine.whereabouts_verbs import WhereaboutsPlugin
from podnet.errors import (
    CheckFailedError,
    InvalidConfigError,
    NotAvailableError,
    PoolExhaustedError,
)
from podnet.model.attachment import Call
from podnet.stores.memory import MemoryStore
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing.kube.emulator import Emulator

NAMESPACE = "kube-system"
POOLS = "ippools.whereabouts.cni.cncf.io"
RESERVATIONS = "overlappingrangeipreservations.whereabouts.cni.cncf.io"
RANGE = {"type": "whereabouts", "range": "192.168.60.0/24", "range_start": "192.168.60.10"}


@pytest.fixture
def kube():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def house(kube, tmp_path):
    kubeconfig = kube.kubeconfig(str(tmp_path), namespace=NAMESPACE)
    settings = Settings(state_dir=str(tmp_path), store=f"whereabouts:{kubeconfig}", node="node-1")
    with House(settings) as house:
        yield house


def call(verb, ipam, container="c1", pod="web", **config):
    args = f"K8S_POD_NAMESPACE=ns;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}" if pod else ""
    return Call(
        plugin="macvlan",
        verb=verb,
        container_id=container,
        ifname="net1",
        args=args,
        config={"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "ipam": ipam, **config},
    )


def add(house, ipam, container="c1", pod="web", **config):
    found = WhereaboutsPlugin(house, "whereabouts").add(call("ADD", ipam, container, pod, **config))
    return [ip.address for ip in found.ips]


def delete(house, ipam, container="c1", pod="web", **config):
    WhereaboutsPlugin(house, "whereabouts").delete(call("DEL", ipam, container, pod, **config))


def entries(kube):
    return {pool["metadata"]["name"]: pool["spec"]["allocations"] for pool in kube.objects(POOLS)}


def put_pool(kube, name, cidr, found):
    allocations = {
        key: dict(zip(("id", "podref", "ifname"), entry, strict=True))
        for key, entry in found.items()
    }
    kube.create(
        {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "IPPool",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"range": cidr, "allocations": allocations},
        }
    )


def put_slices(kube, name, slices):
    kube.create(
        {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "NodeSlicePool",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"range": "10.0.0.0/16", "sliceSize": "/26"},
            "status": {
                "allocations": [
                    {"nodeName": node, "sliceRange": part} for node, part in slices.items()
                ]
            },
        }
    )


def test_the_plugin_is_the_one_of_the_name(house):
    assert registry.resolve(registry.PLUGINS["whereabouts"]) is WhereaboutsPlugin
    assert registry.role_of("whereabouts") == "ipam"


def test_addresses_are_whereabouts_own_entries(kube, house):
    assert add(house, RANGE) == ["192.168.60.10/24"]
    assert entries(kube) == {
        "192.168.60.0-24": {"10": {"id": "c1", "podref": "ns/web", "ifname": "net1"}}
    }
    assert [x["metadata"]["name"] for x in kube.objects(RESERVATIONS)] == ["192.168.60.10"]
    delete(house, RANGE)
    assert entries(kube) == {"192.168.60.0-24": {}}
    assert kube.objects(RESERVATIONS) == []


def test_other_stores_keep_one_domain_for_a_network_name():
    store = MemoryStore()
    house = SimpleNamespace(
        store=lambda url="": store,
        store_url="memory:",
        ipam=lambda store: Ipam(store, node="node-1"),
        clock=lambda: 0.0,
        step=lambda name: None,
        settings=SimpleNamespace(node="node-1"),
    )
    assert add(house, RANGE) == ["192.168.60.10/24"]
    (lease,) = Ipam(house.store()).leases()
    assert lease.domain == "whereabouts"
    delete(house, RANGE)
    assert list(Ipam(house.store()).leases()) == []


def test_each_range_is_a_pool(kube, house):
    ipam = {
        "type": "whereabouts",
        "network_name": "red",
        "ipRanges": [{"range": "10.0.0.0/24"}, {"range": "10.0.0.0/28"}, {"range": "fd00::/64"}],
    }
    assert add(house, ipam) == ["10.0.0.1/24", "10.0.0.2/28", "fd00::1/64"]
    assert set(entries(kube)) == {"red-10.0.0.0-24", "red-10.0.0.0-28", "red-fd00---64"}
    assert add(house, ipam) == ["10.0.0.1/24", "10.0.0.2/28", "fd00::1/64"]
    delete(house, ipam)
    assert not any(entries(kube).values())


def test_the_same_range_twice_gives_two_addresses(kube, house):
    ipam = {"type": "whereabouts", "ipRanges": [{"range": "10.0.0.0/24"}] * 2}
    assert add(house, ipam) == ["10.0.0.1/24", "10.0.0.2/24"]
    assert add(house, ipam) == ["10.0.0.1/24", "10.0.0.2/24"]
    delete(house, ipam)
    assert entries(kube) == {"10.0.0.0-24": {}}


def test_without_overlap_check_nothing_is_reserved(kube, house):
    add(house, {**RANGE, "enable_overlapping_ranges": False})
    assert kube.objects(RESERVATIONS) == []


def test_what_whereabouts_gave_is_podnets_to_check_and_to_release(kube, house):
    """A node where whereabouts was replaced while pods ran."""
    put_pool(kube, "192.168.60.0-24", "192.168.60.0/24", {"10": ("c1", "ns/web", "net1")})
    told = {"cniVersion": "1.1.0", "ips": [{"address": "192.168.60.10/24"}]}
    plugin = WhereaboutsPlugin(house, "whereabouts")
    plugin.check(call("CHECK", RANGE, prevResult=told))
    with pytest.raises(CheckFailedError):
        plugin.check(call("CHECK", RANGE, container="c2", pod="", prevResult=told))
    delete(house, RANGE, container="other")
    assert entries(kube)["192.168.60.0-24"]
    delete(house, RANGE)
    assert entries(kube) == {"192.168.60.0-24": {}}


def test_another_networks_lease_of_the_same_range_stays(kube, house):
    add(house, RANGE)
    delete(house, RANGE, name="other")
    assert entries(kube)["192.168.60.0-24"]


def test_del_needs_no_valid_configuration(kube, house):
    add(house, RANGE)
    delete(house, {**RANGE, "range": "bogus"})
    assert entries(kube) == {"192.168.60.0-24": {}}


def test_gc_takes_what_podnet_gave(kube, house):
    put_pool(kube, "192.168.60.0-24", "192.168.60.0/24", {"9": ("c9", "ns/p9", "net1")})
    add(house, RANGE, container="c1")
    add(house, RANGE, container="c2", pod="db")
    valid = [{"containerID": "c2", "ifname": "net1"}]
    config = {"cni.dev/valid-attachments": valid}
    WhereaboutsPlugin(house, "whereabouts").gc(call("GC", RANGE, **config))
    assert set(entries(kube)["192.168.60.0-24"]) == {"9", "11"}


def test_status_tells_a_full_pool_and_a_missing_api_server(kube, house):
    plugin = WhereaboutsPlugin(house, "whereabouts")
    small = {"type": "whereabouts", "range": "10.0.0.0/30"}
    plugin.status(call("STATUS", small))
    put_pool(kube, "10.0.0.0-30", "10.0.0.0/30", {"1": ("a", "n/a", "i"), "2": ("b", "n/b", "i")})
    with pytest.raises(NotAvailableError, match="no free address"):
        plugin.status(call("STATUS", small))
    kube.stop()
    settings = Settings(store=f"{house.settings.store}?timeout=0.3", node="n")
    with House(settings) as other, pytest.raises(NotAvailableError, match="cannot be read"):
        WhereaboutsPlugin(other, "whereabouts").status(call("STATUS", small))


def test_a_wide_range_is_cut_to_what_has_keys(kube, house):
    wide = {"type": "whereabouts", "range": "fd00::/48", "range_start": "fd00::7fff:ffff:ffff:ffff"}
    assert add(house, wide) == ["fd00::7fff:ffff:ffff:ffff/48"]
    with pytest.raises(PoolExhaustedError, match="no free address"):
        add(house, wide, container="c2", pod="db")
    with pytest.raises(InvalidConfigError, match=r"has a key below 2\^63"):
        add(house, {**wide, "range_start": "fd00:0:0:1::"})


@pytest.mark.parametrize("name", ["Red", "a_b", "red/blue"])
def test_a_network_name_that_cannot_be_part_of_a_name(house, name):
    with pytest.raises(InvalidConfigError, match=r"ipam\.network_name: .* cannot be the name"):
        add(house, {**RANGE, "network_name": name})


SLICED = {
    "type": "whereabouts",
    "range": "10.0.0.0/16",
    "node_slice_size": "/26",
    "exclude": ["10.0.0.64/30"],
}


class TestSlices:
    def test_a_node_hands_out_of_its_slice(self, kube, house):
        put_slices(kube, "net", {"node-0": "10.0.0.0/26", "node-1": "10.0.0.64/26"})
        # Excludes count here, unlike there; the mask is that of the whole range.
        assert add(house, SLICED) == ["10.0.0.68/16"]
        assert entries(kube) == {
            "node-1-10.0.0.64-26": {"4": {"id": "c1", "podref": "ns/web", "ifname": "net1"}}
        }
        assert [x["metadata"]["name"] for x in kube.objects("leases.coordination.k8s.io")] == [
            "node-1-10.0.0.64-26"
        ]
        delete(house, SLICED)
        assert entries(kube) == {"node-1-10.0.0.64-26": {}}

    def test_what_whereabouts_gave_of_a_slice_is_checked_and_released(self, kube, house):
        put_slices(kube, "net", {"node-1": "10.0.0.128/26"})
        put_pool(kube, "node-1-10.0.0.128-26", "10.0.0.128/26", {"5": ("c1", "ns/web", "net1")})
        told = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.133/16"}]}
        WhereaboutsPlugin(house, "whereabouts").check(call("CHECK", SLICED, prevResult=told))
        kube.delete("nodeslicepools.whereabouts.cni.cncf.io", "net", NAMESPACE)
        delete(house, SLICED)
        assert entries(kube) == {"node-1-10.0.0.128-26": {}}

    def test_the_slice_of_a_named_network(self, kube, house):
        put_slices(kube, "red", {"node-1": "10.0.0.0/26"})
        assert add(house, {**SLICED, "network_name": "red"}) == ["10.0.0.1/16"]
        assert set(entries(kube)) == {"red-node-1-10.0.0.0-26"}
        assert [x["metadata"]["name"] for x in kube.objects(RESERVATIONS)] == ["red-10.0.0.1"]

    def test_a_slice_ends(self, kube, house):
        put_slices(kube, "net", {"node-1": "10.0.0.0/30"})
        assert add(house, SLICED) == ["10.0.0.1/16"]
        assert add(house, SLICED, "c2", "db") == ["10.0.0.2/16"]
        with pytest.raises(PoolExhaustedError, match="no free address"):
            add(house, SLICED, "c3", "x")

    def test_a_slice_that_another_node_had_before(self, kube, house):
        """Its pods may still run: whereabouts hands out their addresses again, podnet does not."""
        put_slices(kube, "net", {"node-1": "10.0.0.0/26"})
        put_pool(kube, "node-0-10.0.0.0-26", "10.0.0.0/26", {"1": ("old", "ns/old", "net1")})
        assert add(house, SLICED) == ["10.0.0.2/16"]

    def test_no_slice(self, kube, house):
        for slices in (None, {"node-0": "10.0.0.0/26"}):
            if slices:
                put_slices(kube, "net", slices)
            with pytest.raises(InvalidConfigError, match="node 'node-1' has no slice"):
                add(house, SLICED)
        delete(house, SLICED)

    def test_del_finds_the_slice_of_before(self, kube, house):
        put_slices(kube, "net", {"node-1": "10.0.0.64/26"})
        add(house, SLICED)
        kube.delete("nodeslicepools.whereabouts.cni.cncf.io", "net", NAMESPACE)
        delete(house, SLICED)
        assert entries(kube) == {"node-1-10.0.0.64-26": {}}

    def test_a_slice_of_another_range(self, kube, house):
        put_slices(kube, "net", {"node-1": "10.1.0.0/26"})
        with pytest.raises(InvalidConfigError, match=r"10\.1\.0\.0/26 is not in 10\.0\.0\.0/16"):
            add(house, SLICED)


class TestSettings:
    def test_a_kubeconfig_is_an_absolute_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert absolute_store("whereabouts:kc?context=a") == f"whereabouts:{tmp_path}/kc?context=a"
        assert absolute_store("whereabouts:") == "whereabouts:"
        with pytest.raises(InvalidConfigError, match="absolute path"):
            load({"PODNET_STORE": "whereabouts:kc"})
        assert load({"PODNET_STORE": "whereabouts:/kc"}).store == "whereabouts:/kc"
        assert load({"PODNET_STORE": "whereabouts:"}).store == "whereabouts:"

    def test_the_scheme_is_known(self, kube, tmp_path):
        store = registry.open_store(f"whereabouts:{kube.kubeconfig(str(tmp_path))}")
        assert isinstance(store, WhereaboutsStore)
        assert isinstance(store._cluster, Cluster)
        store.close()
