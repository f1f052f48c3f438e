from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.arguments import (
    capability_args,
    compose_args,
    runtime_config,
    unmet_capabilities,
    verify_capabilities,
    with_arguments,
)
from podnet.delegation.elements import Bandwidth, PortMapping
from podnet.delegation.selection import NetworkSelection
from podnet.errors import InvalidConfigError, InvalidEnvironmentError
from podnet.model.attachment import Pod
from podnet.model.cniargs import parse_cni_args
from podnet.model.conflist import NetworkConfigList, parse_conflist

FULL = NetworkSelection(
    name="a",
    ips=("10.0.0.2/24", "2001:db8::2"),
    mac="02:00:00:00:00:01",
    infiniband_guid="c2:11:22:33:44:55:66:77",
    port_mappings=(
        PortMapping(host_port=80, container_port=8080),
        PortMapping(host_port=53, container_port=53, protocol="UDP", host_ip="10.0.0.1"),
    ),
    bandwidth=Bandwidth(ingress_rate=1000, ingress_burst=100),
    device_id="0000:03:02.1",
    cni_args={"k": 1},
)
POD = Pod("default", "web-0", "1234")
HEAD = (
    "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1"
)


def network(*plugins: dict[str, object]) -> NetworkConfigList:
    typed = [{"type": "p", **each} for each in plugins]
    return parse_conflist({"cniVersion": "1.0.0", "name": "n", "plugins": typed})


def test_capabilities_have_the_shape_of_the_conventions() -> None:
    assert capability_args(FULL) == {
        "ips": ["10.0.0.2/24", "2001:db8::2"],
        "mac": "02:00:00:00:00:01",
        "infinibandGUID": "c2:11:22:33:44:55:66:77",
        "portMappings": [
            {"hostPort": 80, "containerPort": 8080, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "10.0.0.1"},
        ],
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 100},
        "deviceID": "0000:03:02.1",
    }
    assert capability_args(FULL, "0000:04:00.0")["deviceID"] == "0000:04:00.0"
    assert capability_args(NetworkSelection(name="a")) == {}
    assert capability_args(None) == {}
    assert capability_args(None, "d") == {"deviceID": "d"}


def test_the_runtimes_arguments_reach_the_default_network_only() -> None:
    runtime = {"portMappings": [1], "mac": "m", "dns": {"servers": []}}
    assert runtime_config(None, runtime=runtime) == {}
    assert runtime_config(None, default=True, runtime=runtime) == runtime
    merged = runtime_config(FULL, default=True, runtime=runtime)
    assert merged["mac"] == FULL.mac
    assert merged["dns"] == {"servers": []}
    assert runtime_config(FULL, runtime=runtime) == capability_args(FULL)


def test_what_nobody_declares_is_unmet() -> None:
    asked = capability_args(FULL)
    net = network({"capabilities": {"ips": True, "mac": False}}, {"Capabilities": {"mac": True}})
    assert unmet_capabilities(net, asked) == (
        "infinibandGUID",
        "portMappings",
        "bandwidth",
        "deviceID",
    )


@pytest.mark.parametrize(
    ("selection", "strict", "missing"),
    [
        (NetworkSelection(name="a", ips=("10.0.0.2",), mac="02:00:00:00:00:01"), False, []),
        (NetworkSelection(name="a", ips=("10.0.0.2",), mac="m"), True, ["ips", "mac"]),
        (NetworkSelection(name="a", device_id="0000:03:02.1"), True, []),
        (FULL, False, ["infinibandGUID", "portMappings", "bandwidth"]),
        (FULL, True, ["ips", "mac", "infinibandGUID", "portMappings", "bandwidth"]),
        (NetworkSelection(name="a"), True, []),
    ],
)
def test_verification(selection: NetworkSelection, strict: bool, missing: list[str]) -> None:
    asked = capability_args(selection)
    if not missing:
        verify_capabilities(network({}), asked, strict=strict)
    else:
        with pytest.raises(InvalidConfigError, match="network n") as caught:
            verify_capabilities(network({}), asked, strict=strict)
        assert [path for path, _ in caught.value.mistakes] == missing
    verify_capabilities(
        network({}, {"capabilities": dict.fromkeys(asked, True)}), asked, strict=True
    )


@pytest.mark.parametrize(
    ("pod", "selection", "original", "expected"),
    [
        (None, None, "", "IgnoreUnknown=true"),
        (POD, None, "", f"{HEAD};K8S_POD_UID=1234"),
        (Pod("default", "web-0"), None, "", HEAD),
        (Pod("default", "web-0"), None, "K8S_POD_UID=7", f"{HEAD};K8S_POD_UID=7"),
        (
            POD,
            None,
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=y;K8S_POD_UID=z;FOO=bar",
            f"{HEAD};K8S_POD_UID=1234;FOO=bar",
        ),
        (
            POD,
            FULL,
            "MAC=x;IP=y;A=b",
            f"{HEAD};K8S_POD_UID=1234;MAC=02:00:00:00:00:01;IP=10.0.0.2/24,2001:db8::2;A=b",
        ),
        (None, NetworkSelection(name="a"), "MAC=x", "IgnoreUnknown=true;MAC=x"),
        (None, None, "A=;B=1;A=2", "IgnoreUnknown=true;A=2;B=1"),
    ],
)
def test_cni_args(
    pod: Pod | None, selection: NetworkSelection | None, original: str, expected: str
) -> None:
    assert compose_args(pod, "c1", selection, original) == expected


def test_cni_args_that_are_none() -> None:
    with pytest.raises(InvalidEnvironmentError):
        compose_args(POD, "c1", None, "a=b=c")


pairs = st.tuples(
    st.sampled_from(["IgnoreUnknown", "K8S_POD_UID", "MAC", "A"]), st.sampled_from("xy")
)


@given(st.lists(pairs).map(lambda found: ";".join(f"{k}={v}" for k, v in found)))
def test_no_key_comes_twice(original: str) -> None:
    found = [key for key, _ in parse_cni_args(compose_args(POD, "c1", FULL, original))]
    assert len(found) == len(set(found))
    assert {key for key, _ in parse_cni_args(original)} <= set(found)


def test_arguments_and_device_go_into_every_plugin() -> None:
    net = network(
        {"args": {"cni": {"k": 0, "own": 2}, "other": 3}}, {"Args": {"CNI": {"j": 4}}}, {}
    )
    before = copy.deepcopy(net)
    found = with_arguments(net, FULL, "0000:04:00.0").plugins
    assert [plugin["args"] for plugin in found] == [
        {"cni": {"k": 1, "own": 2}, "other": 3},
        {"cni": {"j": 4, "k": 1}},
        {"cni": {"k": 1}},
    ]
    assert all(p["deviceID"] == p["pciBusID"] == "0000:04:00.0" for p in found)
    assert net == before


def test_nothing_to_add_changes_nothing() -> None:
    net = network({"args": {"cni": {}}})
    assert with_arguments(net, None) is net
    # The device a pod asks for is a capability, not patched in (Multus does not either).
    assert with_arguments(net, NetworkSelection(name="a", device_id="0000:03:02.1")) is net
