from __future__ import annotations

from types import SimpleNamespace

import pytest

from podnet.engine.ipam_verbs import IpamPlugin
from podnet.engine.leases import Ipam
from podnet.errors import (
    CheckFailedError,
    InvalidConfigError,
    InvalidEnvironmentError,
    NotAvailableError,
    PoolExhaustedError,
    StoreError,
    TryAgainLaterError,
)
from podnet.model.attachment import Call
from podnet.stores.memory import MemoryStore
from podnet.testing.faults import REFUSED, FaultyStore

SCENARIO = {"type": "whereabouts", "range": "192.168.60.0/29", "gateway": "192.168.60.1"}
DUAL = {"type": "whereabouts", "ipRanges": [{"range": "10.0.0.0/29"}, {"range": "fd00::/64"}]}
NATIVE = {"type": "podnet-ipam", "pools": [{"name": "p", "network": "10.0.0.0/8"}]}
STATIC = {"type": "static", "addresses": [{"address": "10.0.0.9/24", "gateway": "10.0.0.1"}]}


class House:
    def __init__(self):
        self.steps = []
        self.opened = 0
        self.inner = MemoryStore()
        self.faulty = FaultyStore(self.inner)
        self.settings = SimpleNamespace(node="node-1")

    def store(self):
        self.opened += 1
        return self.faulty

    def ipam(self, store):
        return Ipam(store, clock=self.clock, node=self.settings.node)

    def clock(self):
        return 5.0

    def step(self, name):
        self.steps.append(name)

    @property
    def held(self):
        return {str(x.cidr): x.owner.container_id for x in Ipam(self.inner).leases()}


@pytest.fixture
def house():
    return House()


def call(verb, ipam, container="c1", args="", **config):
    return Call(
        plugin="macvlan",
        verb=verb,
        container_id=container,
        ifname="eth1",
        args=args,
        config={"cniVersion": "1.1.0", "name": "net", "type": "macvlan", "ipam": ipam, **config},
    )


def plugin(house, ipam):
    return IpamPlugin(house, ipam["type"])


def add(house, ipam, container="c1", args="", **config):
    return plugin(house, ipam).add(call("ADD", ipam, container, args, **config))


def delete(house, ipam, container="c1", args="", **config):
    plugin(house, ipam).delete(call("DEL", ipam, container, args, **config))


def told(result):
    """Print the result as the runtime hands it back."""
    ips = [{"address": ip.address, "gateway": ip.gateway} for ip in result.ips]
    return {"cniVersion": "1.1.0", "ips": ips}


def test_add_and_delete(house):
    result = add(house, SCENARIO)
    assert [(ip.address, ip.gateway) for ip in result.ips] == [("192.168.60.2/29", "192.168.60.1")]
    assert add(house, SCENARIO) == result
    delete(house, SCENARIO)
    delete(house, SCENARIO)
    assert house.held == {}
    assert house.steps == ["ipam-allocate"] * 2 + ["ipam-release"] * 2


def test_leases_tell_pod_network_and_node(house):
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;K8S_POD_UID=u;K8S_OTHER=x"
    add(house, SCENARIO, args=args)
    (lease,) = Ipam(house.inner).leases()
    assert (lease.owner.pod_namespace, lease.owner.pod_name, lease.owner.pod_uid) == (
        "ns",
        "pod",
        "u",
    )
    assert (lease.network, lease.node, lease.since) == ("net", "node-1", 5.0)


def test_exhausted_pool_keeps_nothing_of_the_others(house):
    for n in range(6):
        add(house, {"type": "whereabouts", "range": "10.0.0.0/29"}, f"c{n}")
    with pytest.raises(PoolExhaustedError):
        add(house, {**DUAL, "ipRanges": DUAL["ipRanges"][::-1]}, "late")
    assert "late" not in house.held.values()


def test_late_delete_of_a_replaced_container(house):
    add(house, SCENARIO, "old", "K8S_POD_UID=u")
    add(house, SCENARIO, "new", "K8S_POD_UID=u")
    delete(house, SCENARIO, "old", "K8S_POD_UID=u")
    assert house.held == {"192.168.60.2/29": "new"}


def test_delete_leaves_another_networks_lease(house):
    """The interface of that name is the other network's: its plugin refused this one's ADD."""
    add(house, SCENARIO)
    before = house.held
    delete(house, SCENARIO, name="other")
    assert house.held == before != {}
    delete(house, SCENARIO)
    assert house.held == {}


def test_delete_frees_every_range(house):
    add(house, DUAL)
    assert len(house.held) == 2
    delete(house, DUAL)
    assert house.held == {}


@pytest.mark.parametrize("ipam", [SCENARIO, DUAL, NATIVE])
@pytest.mark.parametrize("wrong", [False, True])
def test_delete_with_a_previous_result_right_or_wrong(house, ipam, wrong):
    result = told(add(house, ipam))
    if wrong:
        result["ips"][0]["address"] = result["ips"][0]["address"].replace(".", ".1", 1)
    delete(house, ipam, prevResult=result)
    assert house.held == {}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"type": "whereabouts"},
        {"type": "dhcp"},
        {"type": "whereabouts", "range": "nonsense", "gateway": 5},
    ],
)
def test_delete_with_a_broken_configuration(house, broken):
    add(house, SCENARIO)
    add(house, DUAL)
    other = call("ADD", SCENARIO, "c2")
    plugin(house, SCENARIO).add(other)
    IpamPlugin(house, "whereabouts").delete(call("DEL", broken, prevResult={"ips": 5}))
    assert set(house.held.values()) == {"c2"}


def test_delete_with_a_broken_configuration_spares_other_networks(house):
    plugin(house, SCENARIO).add(call("ADD", SCENARIO, name="other"))
    delete(house, {"type": "whereabouts"})
    assert len(house.held) == 1


def test_delete_with_broken_arguments(house):
    add(house, SCENARIO)
    delete(house, SCENARIO, args="nonsense")
    assert house.held == {}


def test_delete_after_the_range_changed(house):
    add(house, SCENARIO)
    delete(house, {**SCENARIO, "range": "192.168.60.0/24", "exclude": ["192.168.60.0/28"]})
    assert house.held == {}


def test_add_with_broken_arguments(house):
    with pytest.raises(InvalidEnvironmentError):
        add(house, SCENARIO, args="nonsense")


def test_failures_of_the_store_are_told(house):
    add(house, SCENARIO)
    for verb in ("add", "delete", "check"):
        house.faulty.plan([REFUSED])
        config = call(verb.upper(), SCENARIO, prevResult={"cniVersion": "1.1.0"})
        with pytest.raises(StoreError):
            getattr(plugin(house, SCENARIO), verb)(config)


def test_check_passes_what_add_made(house):
    for ipam in (SCENARIO, DUAL, NATIVE, STATIC):
        result = told(add(house, ipam))
        plugin(house, ipam).check(call("CHECK", ipam, prevResult=result))


def test_check_tells_all_differences(house):
    result = told(add(house, DUAL))
    result["ips"][0]["address"] = "10.0.0.5/29"
    Ipam(house.inner).release(next(x for x in Ipam(house.inner).leases() if x.length == 64))
    with pytest.raises(CheckFailedError) as raised:
        plugin(house, DUAL).check(call("CHECK", DUAL, prevResult=result))
    assert raised.value.details == (
        "10.0.0.1/29 is leased but not in prevResult; c1 (eth1) holds no lease of pool 'fd00::/64'"
    )


def test_check_is_not_passed_by_another_container_of_the_pod(house):
    result = told(add(house, SCENARIO, "new", "K8S_POD_UID=u"))
    with pytest.raises(CheckFailedError, match="holds no lease"):
        plugin(house, SCENARIO).check(
            call("CHECK", SCENARIO, "old", "K8S_POD_UID=u", prevResult=result)
        )


def test_check_needs_a_previous_result(house):
    for ipam in (SCENARIO, STATIC):
        with pytest.raises(CheckFailedError, match="Required prevResult missing"):
            plugin(house, ipam).check(call("CHECK", ipam))


def test_static_check_is_the_reference_s(house):
    wrong = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.9/24", "gateway": "10.0.0.2"}]}
    with pytest.raises(CheckFailedError, match=r"static: Failed to match addr 10\.0\.0\.9/24"):
        plugin(house, STATIC).check(call("CHECK", STATIC, prevResult=wrong))
    missing = {"cniVersion": "1.1.0", "ips": []}
    plugin(house, STATIC).check(call("CHECK", STATIC, prevResult=missing))


def test_static_opens_no_store(house):
    add(house, STATIC)
    delete(house, STATIC)
    plugin(house, STATIC).gc(call("GC", STATIC, **{"cni.dev/valid-attachments": []}))
    plugin(house, STATIC).status(call("STATUS", STATIC))
    assert house.opened == 0


def valid(*containers):
    pairs = [{"containerID": container, "ifname": "eth1"} for container in containers]
    return {"cni.dev/valid-attachments": pairs}


def test_gc_frees_what_no_attachment_holds(house):
    for container in ("live", "dead"):
        add(house, DUAL, container)
    plugin(house, DUAL).gc(call("GC", DUAL, **valid("live")))
    assert set(house.held.values()) == {"live"}
    plugin(house, DUAL).gc(call("GC", DUAL, **valid()))
    assert house.held == {}


def test_gc_without_a_list_frees_nothing(house):
    add(house, SCENARIO)
    plugin(house, SCENARIO).gc(call("GC", SCENARIO))
    assert len(house.held) == 1


def test_gc_spares_other_networks_and_nodes(house):
    plugin(house, SCENARIO).add(call("ADD", SCENARIO, name="other"))
    house.settings.node = "node-2"
    add(house, SCENARIO, "c2")
    house.settings.node = "node-1"
    plugin(house, SCENARIO).gc(call("GC", SCENARIO, **valid()))
    assert len(house.held) == 2


def test_gc_with_a_wrong_entry_frees_nothing(house):
    add(house, SCENARIO)
    with pytest.raises(InvalidConfigError):
        plugin(house, SCENARIO).gc(
            call("GC", SCENARIO, **{"cni.dev/valid-attachments": [{"containerID": "c1"}]})
        )
    assert len(house.held) == 1


def test_status(house):
    served = plugin(house, SCENARIO)
    served.status(call("STATUS", SCENARIO))
    house.faulty.plan([REFUSED])
    with pytest.raises(NotAvailableError, match="cannot be read") as raised:
        served.status(call("STATUS", SCENARIO))
    assert raised.value.code == 50
    for n in range(5):
        add(house, SCENARIO, f"c{n}")
    with pytest.raises(NotAvailableError, match=r"no free address in pool '192.168.60.0/29'"):
        served.status(call("STATUS", SCENARIO))


def test_status_of_a_broken_configuration(house):
    with pytest.raises(InvalidConfigError):
        plugin(house, SCENARIO).status(call("STATUS", {"type": "whereabouts"}))


def test_requested_address(house):
    result = add(house, NATIVE, runtimeConfig={"ips": ["10.9.8.7/8"]})
    assert [ip.address for ip in result.ips] == ["10.9.8.7/8"]


@pytest.mark.parametrize("key", ["picker", "domain"])
@pytest.mark.parametrize("verb", ["add", "status", "validate"])
def test_what_add_would_refuse_status_refuses(house, verb, key):
    value = {"picker": "nope", "domain": "podnet:store"}[key]
    ipam = {"type": "podnet-ipam", "pools": [{"network": "10.0.0.0/24", key: value}]}
    with pytest.raises(InvalidConfigError, match=value) as raised:
        getattr(plugin(house, ipam), verb)(call(verb.upper(), ipam))
    assert raised.value.code == 7


def test_status_of_a_store_that_is_busy(house):
    def busy(_key):
        raise TryAgainLaterError("the domain is being moved")

    house.faulty.load = busy
    with pytest.raises(NotAvailableError, match="cannot be read"):
        plugin(house, SCENARIO).status(call("STATUS", SCENARIO))
