from __future__ import annotations

import ipaddress
import json

import netaddr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.plan import Attachment
from podnet.delegation.status import NetworkStatus, entries_of, render_network_status
from podnet.errors import InvalidConfigError
from podnet.model.addresses import parse_address
from podnet.model.conflist import parse_conflist
from podnet.model.result import DNS, IP, Interface, Result, Route
from podnet.testing.strategies_wire import results

PLAN = Attachment(
    network="default/storage",
    config=parse_conflist({"name": "n", "plugins": [{"type": "p"}]}),
    ifname="net1",
)


def test_the_layout_of_multus() -> None:
    entries = [
        NetworkStatus(name="cbr0", interface="eth0", ips=("10.244.1.4",), default=True),
        NetworkStatus(
            name="default/storage",
            interface="net1",
            ips=("192.168.60.20", "2001:db8::1"),
            mac="02:00:00:00:00:01",
            mtu=1500,
            dns=DNS(nameservers=("10.0.0.53",), domain="a<b>&.é", search=("x",), options=("y",)),
            device_info={
                "pci": {"representor-device": "r", "pci-address": "0000:03:02.1"},
                "version": "1.1.0",
                "type": "pci",
            },
            gateway=("192.168.60.1",),
        ),
    ]
    assert render_network_status(entries) == (
        "[{\n"
        '    "name": "cbr0",\n'
        '    "interface": "eth0",\n'
        '    "ips": [\n'
        '        "10.244.1.4"\n'
        "    ],\n"
        '    "default": true,\n'
        '    "dns": {}\n'
        "},{\n"
        '    "name": "default/storage",\n'
        '    "interface": "net1",\n'
        '    "ips": [\n'
        '        "192.168.60.20",\n'
        '        "2001:db8::1"\n'
        "    ],\n"
        '    "mac": "02:00:00:00:00:01",\n'
        '    "mtu": 1500,\n'
        '    "dns": {\n'
        '        "nameservers": [\n'
        '            "10.0.0.53"\n'
        "        ],\n"
        '        "domain": "a\\u003cb\\u003e\\u0026.é",\n'
        '        "search": [\n'
        '            "x"\n'
        "        ],\n"
        '        "options": [\n'
        '            "y"\n'
        "        ]\n"
        "    },\n"
        '    "device-info": {\n'
        '        "type": "pci",\n'
        '        "version": "1.1.0",\n'
        '        "pci": {\n'
        '            "pci-address": "0000:03:02.1",\n'
        '            "representor-device": "r"\n'
        "        }\n"
        "    },\n"
        '    "gateway": [\n'
        '        "192.168.60.1"\n'
        "    ]\n"
        "}]"
    )


def test_no_networks_is_an_empty_list() -> None:
    assert render_network_status([]) == "[]"


def test_one_interface_takes_all_addresses_in_a_sandbox_or_not() -> None:
    for sandbox in ("/run/netns/a", ""):
        result = Result(
            interfaces=(Interface("net1", "02:00:00:00:00:01", sandbox, mtu=1400),),
            ips=(IP("10.0.0.2/24", interface=0), IP("2001:db8::2/64")),
        )
        assert entries_of(PLAN, result) == (
            NetworkStatus(
                name="default/storage",
                interface="net1",
                ips=("10.0.0.2", "2001:db8::2"),
                mac="02:00:00:00:00:01",
                mtu=1400,
            ),
        )


PTP = Result(
    interfaces=(Interface("veth1"), Interface("net1", "m", "/s"), Interface("net1.5", "", "/s")),
    ips=(
        IP("10.0.0.2/24", "10.0.0.1", interface=2),
        IP("10.0.1.2/24", interface=1),
        IP("10.0.2.2/24", "10.0.2.1", interface=0),
        IP("10.0.3.2/24"),
        IP("10.0.4.2/24", interface=9),
    ),
)


def test_each_sandbox_interface_has_its_entry_and_its_addresses() -> None:
    entries = entries_of(PLAN, PTP, default=True)
    assert [(each.interface, each.ips, each.default) for each in entries] == [
        ("net1", ("10.0.1.2",), False),
        ("net1.5", ("10.0.0.2", "10.0.3.2"), True),
    ]
    assert not any(each.default for each in entries_of(PLAN, PTP))


def test_default_falls_to_the_first_sandbox_interface() -> None:
    # The only gateway is on a host interface: Multus then marks none.
    result = Result(interfaces=PTP.interfaces, ips=(IP("10.0.2.2/24", "10.0.2.1", interface=0),))
    assert [each.default for each in entries_of(PLAN, result, default=True)] == [True, False]


@pytest.mark.parametrize("interfaces", [(), (Interface("veth1"), Interface("br0"))])
def test_a_result_without_sandbox_interface_has_a_minimal_entry(
    interfaces: tuple[Interface, ...],
) -> None:
    result = Result(interfaces=interfaces, ips=(IP("10.0.0.2/24"),))
    assert entries_of(PLAN, result, default=True) == (
        NetworkStatus(name="default/storage", interface="net1", ips=("10.0.0.2",), default=True),
    )


def test_no_result_has_a_minimal_entry() -> None:
    assert entries_of(PLAN, None) == (NetworkStatus(name="default/storage", interface="net1"),)


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        ((), ()),
        ((Route("10.1.0.0/16", "10.0.0.9"),), ()),
        ((Route("0.0.0.0/0", "10.0.0.9"),), ("10.0.0.9",)),
        ((Route("0.0.0.0/1", "10.0.0.9"), Route("128.0.0.0/1", "10.0.0.9")), ()),
        ((Route("0.0.0.0/0"),), ("10.0.0.1",)),
        ((Route("::/0"),), ()),
        ((Route("0.0.0.0/0", "10.0.0.9"), Route("::/0", "fe80::1")), ("10.0.0.9", "fe80::1")),
    ],
)
def test_gateways_are_those_of_default_routes(
    routes: tuple[Route, ...], gateway: tuple[str, ...]
) -> None:
    result = Result(
        interfaces=(Interface("net1", "", "/s"),),
        ips=(IP("10.0.0.2/24", "10.0.0.1", interface=0), IP("2001:db8::2/64", interface=0)),
        routes=routes,
    )
    (entry,) = entries_of(PLAN, result)
    assert entry.gateway == gateway


@given(st.lists(results(), max_size=3), st.booleans())
def test_every_result_can_be_told(found: list[Result], default: bool) -> None:
    entries = [each for result in found for each in entries_of(PLAN, result, default=default)]
    assert len(entries) >= len(found)
    said = json.loads(render_network_status(entries))
    assert len(said) == len(entries)
    for document, entry in zip(said, entries, strict=True):
        assert document["name"] == entry.name
        assert tuple(document.get("ips", ())) == entry.ips
        assert document.get("default", False) == entry.default
        assert tuple(document.get("gateway", ())) == entry.gateway
        assert "<nil>" not in document.get("gateway", ())
        assert document["dns"].get("domain", "") == entry.dns.domain
    for result in found:
        defaults = [each.default for each in entries_of(PLAN, result, default=default)]
        assert sum(defaults) == int(default)


@pytest.mark.parametrize("key", ["ips", "gateway"])
def test_addresses_may_be_values(key: str) -> None:
    values = [
        "10.0.0.1",
        ipaddress.ip_address("2001:db8::1"),
        netaddr.IPAddress("10.0.0.2"),
        parse_address("10.0.0.3"),
    ]
    entry = NetworkStatus(name="n", **{key: values})
    texts = ["10.0.0.1", "2001:db8::1", "10.0.0.2", "10.0.0.3"]
    assert getattr(entry, key) == tuple(texts)
    assert json.loads(render_network_status([entry]))[0][key] == texts


@pytest.mark.parametrize("key", ["ips", "gateway"])
@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("10.0.0.1", ""),
        (b"10.0.0.1", ""),
        (ipaddress.ip_address("10.0.0.1"), ""),
        (ipaddress.ip_network("10.0.0.0/8"), ""),
        (None, ""),
        (7, ""),
        ([7], "[0]"),
        (["10.0.0.1", None], "[1]"),
    ],
)
def test_what_is_no_list_of_addresses_is_refused(key: str, value: object, path: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        NetworkStatus(name="n", **{key: value})  # type: ignore[arg-type]
    assert [where for where, _ in caught.value.mistakes] == [f"{key}{path}"]
