from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.elements import Bandwidth, PortMapping
from podnet.delegation.selection import NetworkSelection, assign_names, parse_networks
from podnet.errors import InvalidConfigError
from podnet.model.names import ifname_fault
from podnet.testing.strategies_delegation import annotation_texts, element_lists, interface_names


def mistakes(text: str, namespace: str = "default") -> dict[str, str]:
    with pytest.raises(InvalidConfigError) as caught:
        parse_networks(text, namespace)
    assert caught.value.mistakes
    return dict(caught.value.mistakes)


# The parse tables of Multus' pkg/k8sclient/k8sclient_test.go.
@pytest.mark.parametrize(
    ("text", "namespace", "name", "interface"),
    [
        ("net1", "web", "net1", ""),
        ("default/net1", "default", "net1", ""),
        ("net1@my_interface", "web", "net1", "my_interface"),
        ("default/net1@my_interface", "default", "net1", "my_interface"),
    ],
)
def test_multus_accepts(text: str, namespace: str, name: str, interface: str) -> None:
    (selection,) = parse_networks(text, "web")
    assert selection == NetworkSelection(name=name, namespace=namespace, interface=interface)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("root@someIP/root@someOtherIP/root@thirdIP", "[0].interface"),
        ("default/net1@a@b", "[0].interface"),
        ("default/net1@my interface", "[0].interface"),
        ("defa^lt/net1@my_interface", "[0].namespace"),
        ("default/net!1@my_interface", "[0].name"),
        ("default/net1@sixteen_bytes_xx", "[0].interface"),
    ],
)
def test_multus_rejects(text: str, path: str) -> None:
    assert path in mistakes(text)


@pytest.mark.parametrize("text", ["", " ", "\n", "[]", " [ ] "])
def test_nothing_is_selected(text: str) -> None:
    assert parse_networks(text) == ()


def test_short_form_lists_in_order() -> None:
    selections = parse_networks(" a@eth1 ,ns-2/b , c.d.e", "web")
    assert [str(each) for each in selections] == ["web/a@eth1", "ns-2/b", "web/c.d.e"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (",", "[0].name"),
        ("a,,b", "[1].name"),
        ("a,", "[1].name"),
        ("/a", "[0].namespace"),
        ("a/", "[0].name"),
        ("a/b/c", "[0].name"),
        ("a@", "[0].interface"),
        ("@eth1", "[0].name"),
        ("A", "[0].name"),
        ("a_b", "[0].name"),
        ("-a", "[0].name"),
        ("a-", "[0].name"),
        ("a..b", "[0].name"),
        (".", "[0].name"),
        ("..", "[0].name"),
        ("../a", "[0].namespace"),
        ("a.b/c", "[0].namespace"),
        ("a\nb", "[0].name"),
        ("é", "[0].name"),
        ("a" * 254, "[0].name"),
        ("a" * 64 + "/b", "[0].namespace"),
        ("a@lo", "[0].interface"),
        ("a@all", "[0].interface"),
        ("a@default", "[0].interface"),
        ("a@.", "[0].interface"),
        ("a@..", "[0].interface"),
        ("a@e:1", "[0].interface"),
        ("a@eth%d", "[0].interface"),
        ("a@\x7f", "[0].interface"),
        ("a@éééééééé", "[0].interface"),
        ("a@\ud800", "[0].interface"),
        ("a@x,b@x", "[1].interface"),
    ],
)
def test_short_form_mistakes(text: str, path: str) -> None:
    assert path in mistakes(text)


def one(**keys: object) -> str:
    return json.dumps([{"name": "a", **keys}])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{}", "networks"),
        ('{"name": "a"}', "networks"),
        ('"a"', "networks"),
        ("[", "networks"),
        ('[{"name": "a"}', "networks"),
        ('[{"name": "a"}], "networks": []', "networks"),
        ("[" * 100_000, "networks"),
        ('[{"name": "a", "cni-args": ' + '{"a":' * 200 + "1" + "}" * 200 + "}]", "networks"),
        ('[{"name": "a", "cni-args": {"n": NaN}}]', "networks"),
        ('[{"name": "a", "bandwidth": {"ingressRate": ' + "9" * 5000 + "}}]", "networks"),
        ("[null]", "[0]"),
        ('["a"]', "[0]"),
        ("[{}]", "[0].name"),
        (one(name=""), "[0].name"),
        (one(name=1), "[0].name"),
        (one(name="../a"), "[0].name"),
        (one(namespace="../a"), "[0].namespace"),
        (one(namespace=["a"]), "[0].namespace"),
        (one(interface="lo"), "[0].interface"),
        (one(interface="a/b"), "[0].interface"),
        (one(interface=0), "[0].interface"),
        (one(interfaceRequest="a b"), "[0].interfaceRequest"),
        (one(ips=[]), "[0].ips"),
        (one(ips="10.0.0.1"), "[0].ips"),
        (one(ips=["10.0.0.1", "10.0.0.256"]), "[0].ips[1]"),
        (one(ips=["10.0.0.1/33"]), "[0].ips[0]"),
        (one(ips=["fe80::1%eth0"]), "[0].ips[0]"),
        (one(ips=[1]), "[0].ips[0]"),
        (one(mac="02:00:00:00:00"), "[0].mac"),
        (one(mac="02:00:00:00:00:00:00:01"), "[0].mac"),
        (one(mac="02-00:00-00:00-01"), "[0].mac"),
        (one(mac=2), "[0].mac"),
        (one(**{"infiniband-guid": "02:00:00:00:00:01"}), "[0].infiniband-guid"),
        (one(portMappings=[]), "[0].portMappings"),
        (one(portMappings=[{"containerPort": 80}]), "[0].portMappings[0].hostPort"),
        (one(portMappings=[{"hostPort": 0, "containerPort": 80}]), "[0].portMappings[0].hostPort"),
        (
            one(portMappings=[{"hostPort": 80, "containerPort": 65536}]),
            "[0].portMappings[0].containerPort",
        ),
        (
            one(portMappings=[{"hostPort": 80.0, "containerPort": True}]),
            "[0].portMappings[0].hostPort",
        ),
        (
            one(portMappings=[{"hostPort": 1, "containerPort": 1, "protocol": "ICMP"}]),
            "[0].portMappings[0].protocol",
        ),
        (
            one(portMappings=[{"hostPort": 1, "containerPort": 1, "hostIP": "x"}]),
            "[0].portMappings[0].hostIP",
        ),
        (one(bandwidth={"ingressRate": 0}), "[0].bandwidth.ingressRate"),
        (one(bandwidth={"egressRate": -1}), "[0].bandwidth.egressRate"),
        (one(bandwidth={"egressRate": 1.5}), "[0].bandwidth.egressRate"),
        (one(bandwidth={"egressBurst": 1}), "[0].bandwidth.egressBurst"),
        (one(bandwidth=7), "[0].bandwidth"),
        (one(deviceID="../../etc"), "[0].deviceID"),
        (one(deviceID=".."), "[0].deviceID"),
        (one(**{"cni-args": []}), "[0].cni-args"),
        (one(**{"default-route": "10.0.0.1"}), "[0].default-route"),
        (one(**{"default-route": ["10.0.0.1/24"]}), "[0].default-route[0]"),
        (one(**{"ipam-claim-reference": "../x"}), "[0].ipam-claim-reference"),
        (
            one(ips=["10.0.0.1"], **{"ipam-claim-reference": "claim"}),
            "[0].ipam-claim-reference",
        ),
        (
            json.dumps([{"name": "a", "default-route": []}, {"name": "b", "default-route": []}]),
            "[1].default-route",
        ),
        (
            json.dumps([{"name": "a", "interface": "x"}, {"name": "a", "interfaceRequest": "x"}]),
            "[1].interface",
        ),
    ],
)
def test_json_mistakes(text: str, path: str) -> None:
    assert path in mistakes(text)


def test_all_mistakes_at_once() -> None:
    found = mistakes(
        json.dumps(
            [
                {"name": "A", "mac": "x", "interface": "x"},
                7,
                {"name": "b", "ips": [], "interface": "x", "default-route": ["x"]},
            ]
        ),
        "Not-a-namespace",
    )
    assert list(found) == [
        "namespace",
        "[0].name",
        "[0].mac",
        "[1]",
        "[2].ips",
        "[2].default-route[0]",
        "[2].interface",
    ]


def test_every_key() -> None:
    (selection,) = parse_networks(
        json.dumps(
            [
                {
                    "Name": "storage",
                    "NAMESPACE": "shop",
                    "interface": "",
                    "interfaceRequest": "eth7",
                    "ips": ["10.1.1.11/24", "2001:DB8::1"],
                    "mac": "02-00-00-00-00-AB",
                    "infiniband-guid": "c2:11:22:33:44:55:66:77",
                    "portMappings": [
                        {"hostPort": 8080, "containerPort": 80},
                        {"hostport": 53, "containerPort": 53, "protocol": "udp", "hostIP": "::1"},
                    ],
                    "bandwidth": {"ingressRate": 2048, "ingressBurst": 1600},
                    "deviceID": "0000:03:02.1",
                    "cni-args": {"k": {"deep": 1}},
                    "default-route": ["10.1.1.254", "FE80::1"],
                    "com.example/x": [None],
                    "gateway": "ignored",
                }
            ]
        )
    )
    assert selection == NetworkSelection(
        name="storage",
        namespace="shop",
        interface="eth7",
        ips=("10.1.1.11/24", "2001:db8::1"),
        mac="02:00:00:00:00:ab",
        infiniband_guid="c2:11:22:33:44:55:66:77",
        port_mappings=(
            PortMapping(host_port=8080, container_port=80, protocol="TCP"),
            PortMapping(host_port=53, container_port=53, protocol="UDP", host_ip="::1"),
        ),
        bandwidth=Bandwidth(ingress_rate=2048, ingress_burst=1600),
        device_id="0000:03:02.1",
        cni_args={"k": {"deep": 1}},
        default_route=("10.1.1.254", "fe80::1"),
    )


def test_absent_and_empty_default_route_differ() -> None:
    assert parse_networks(one())[0].default_route is None
    assert parse_networks(one(**{"default-route": None}))[0].default_route is None
    assert parse_networks(one(**{"default-route": []}))[0].default_route == ()


def test_the_same_network_twice_is_two_attachments() -> None:
    assert assign_names(parse_networks("a,a")) == ("net1", "net2")


@given(annotation_texts())
def test_fuzz_yields_selections_or_the_one_error(text: str) -> None:
    try:
        selections = parse_networks(text)
    except InvalidConfigError as error:
        selections, told = (), error.mistakes
    else:
        told = (("", "nothing"),)
    assert told
    for each in selections:
        # What becomes part of a path cannot leave its place.
        for part in (each.name, each.namespace, each.interface, each.device_id):
            assert part not in (".", "..")
            assert not set(part) & set("/\\\0")
        assert each.name
        assert each.namespace
        assert each.interface not in ("lo", "all", "default")
        assert not each.interface or not ifname_fault(each.interface)


@given(element_lists())
def test_valid_lists_are_read_whole(document: list[dict[str, object]]) -> None:
    selections = parse_networks(json.dumps(document), "web")
    assert [each.name for each in selections] == [each["name"] for each in document]
    for selection, element in zip(selections, document, strict=True):
        assert selection.namespace == element.get("namespace", "web")
        assert selection.mac == element.get("mac", "")
        assert len(selection.ips) == len(element.get("ips", []))  # type: ignore[arg-type]
        assert (selection.default_route is None) == ("default-route" not in element)
        assert (selection.bandwidth is None) == ("bandwidth" not in element)


@pytest.mark.parametrize(
    ("text", "count", "names"),
    [
        ("a,b", 1, ("net1", "net2")),
        ("a@foo,b", 1, ("foo", "net2")),
        ("a,b", 3, ("net3", "net4")),
        ("a,b", 0, ("net1", "net2")),
        ("a@eth0", 0, ("eth0",)),
        ("a@net2,b@net1", 1, ("net2", "net1")),
    ],
)
def test_numbering_is_that_of_multus(text: str, count: int, names: tuple[str, ...]) -> None:
    assert assign_names(parse_networks(text), count) == names


@pytest.mark.parametrize(
    ("text", "count", "path", "other"),
    [
        ("a@eth0", 1, "[0].interface", "the default network"),
        ("a@net1", 2, "[0].interface", "an earlier default network"),
        ("a@net2,b", 1, "[1].interface", "default/a@net2"),
    ],
)
def test_clashes_are_refused(text: str, count: int, path: str, other: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        assign_names(parse_networks(text), count)
    ((where, what),) = caught.value.mistakes
    assert where == path
    assert other in what


@given(
    st.lists(st.one_of(st.just(""), interface_names), max_size=6),
    st.integers(0, 4),
)
def test_names_are_distinct_and_positional(interfaces: list[str], count: int) -> None:
    selections = [NetworkSelection(name="a", interface=each) for each in interfaces]
    asked = [each for each in interfaces if each]
    if len(set(asked)) < len(asked):
        with pytest.raises(InvalidConfigError):
            assign_names(selections, count)
        return
    names = assign_names(selections, count)
    assert len(set(names)) == len(names)
    for index, (name, interface) in enumerate(zip(names, interfaces, strict=True)):
        assert name == (interface or f"net{max(count, 1) + index}")


@pytest.mark.parametrize("missing", [None, "", " "])
def test_a_missing_annotation_selects_nothing(missing: str | None) -> None:
    assert parse_networks(missing) == ()
