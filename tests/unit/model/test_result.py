from __future__ import annotations

import ipaddress
import json

import netaddr
import pytest
from attrs import evolve
from hypothesis import given

from podnet.errors import InvalidConfigError
from podnet.model.printing import print_result, result_document
from podnet.model.reader import Reader
from podnet.model.result import (
    DNS,
    IP,
    Interface,
    Result,
    Route,
    parse_result,
    read_result,
    result_version,
)
from podnet.model.versions import SUPPORTED
from podnet.testing import strategies_wire as wire

OLD = SUPPORTED[:2]
STRUCT = SUPPORTED[2:5]
NEW = SUPPORTED[5:]


def told_by(result: Result, version: str) -> Result:
    """What of a result a version can tell, said independently of the code under test."""
    if version in NEW:
        return result
    if version in STRUCT:
        bare = tuple(Interface(each.name, each.mac, each.sandbox) for each in result.interfaces)
        return evolve(result, interfaces=bare)
    first = [next((ip for ip in result.ips if ip.version == v), None) for v in (4, 6)]
    ips = tuple(IP(each.address, each.gateway) for each in first if each)
    routes = tuple(
        Route(route.dst, route.gw)
        for ip in ips
        for route in result.routes
        if route.version == ip.version
    )
    return Result(ips=ips, routes=routes, dns=result.dns)


@given(wire.results(least_ips=1), wire.versions)
def test_what_a_version_can_tell_is_what_comes_back(result, version):
    printed = print_result(result, version)
    assert parse_result(json.loads(printed), version) == told_by(result, version)


@given(wire.results(least_ips=1), wire.versions, wire.versions)
def test_way_through_another_version_loses_what_it_cannot_tell_and_no_more(result, first, second):
    through = parse_result(result_document(result, first), first)
    back = parse_result(result_document(through, second), second)
    assert back == told_by(told_by(result, first), second)


@given(wire.results(), wire.versions)
def test_result_is_refused_by_a_version_only_where_it_has_no_place(result, version):
    if version in OLD and not result.ips:
        with pytest.raises(InvalidConfigError, match="cannot convert: no valid IP addresses"):
            print_result(result, version)
    else:
        assert json.loads(print_result(result, version))["cniVersion"] == version


@given(wire.documents, wire.versions)
def test_anything_under_the_keys_of_a_result_is_parsed_or_refused(value, version):
    for key in ("ip4", "ips", "interfaces", "routes", "dns", "cniVersion"):
        for document in ({key: value}, {key: [value]}, {key: [{"address": value, "dst": value}]}):
            reader = Reader(document)
            result = read_result(reader, version)
            assert all(path.startswith(key) for path, _ in reader.mistakes)
            if not reader.mistakes:
                assert parse_result(document, version) == result


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.5/24",
        ipaddress.ip_interface("10.0.0.5/24"),
        netaddr.IPNetwork("10.0.0.5/24"),
    ],
)
def test_addresses_of_any_spelling_become_the_same_text(address):
    assert IP(address, ipaddress.ip_address("10.0.0.1")) == IP("10.0.0.5/24", "10.0.0.1")


def test_ipv6_texts_are_canonical():
    assert IP("FD00:0:0::0005/64", "FD00::0001") == IP("fd00::5/64", "fd00::1")
    assert Route("0::0/0").dst == "::/0"


def test_results_that_peers_get_wrong_are_taken_for_what_they_mean():
    document = {
        "CNIVERSION": "0.3.0",
        "IPs": [{"Address": "10.0.0.5/24", "gateway": "", "interface": -1}],
        "routes": None,
        "dns": {"nameservers": None},
    }
    assert parse_result(document, "0.3.1") == Result(ips=(IP("10.0.0.5/24"),))


def test_interface_fields_of_1_0_0_are_not_read_from_older_results():
    document = {"interfaces": [{"name": "eth0", "mtu": 9000, "pciID": "x", "socketPath": "y"}]}
    assert parse_result(document, "0.4.0").interfaces == (Interface("eth0"),)
    assert parse_result(document, "1.0.0").interfaces[0].mtu == 9000


@pytest.mark.parametrize("version", SUPPORTED)
def test_result_of_another_shape_is_refused(version):
    for other in SUPPORTED:
        group = next(each for each in (OLD, STRUCT, NEW) if version in each)
        if other in group:
            parse_result({"cniVersion": other}, version)
        else:
            with pytest.raises(InvalidConfigError, match="unmarshalled CNIVersion is"):
                parse_result({"cniVersion": other}, version)


def test_version_of_a_result_is_its_own_else_the_configurations():
    assert result_version({"cniVersion": "0.4.0"}, "1.1.0") == "0.4.0"
    for document in ({}, {"cniVersion": ""}, {"cniVersion": None}):
        assert result_version(document, "1.1.0") == "1.1.0"
    with pytest.raises(InvalidConfigError, match=r'"3\.0\.0" is not one of'):
        result_version({"cniVersion": "3.0.0"}, "1.1.0")


def test_empty_dns_is_told_up_to_0_4_0_and_left_out_afterwards():
    assert [("dns" in result_document(Result(), version)) for version in STRUCT + NEW] == [
        *[True] * 3,
        *[False] * 2,
    ]
    assert result_document(Result(dns=DNS(domain="a")), "1.1.0")["dns"] == {"domain": "a"}
