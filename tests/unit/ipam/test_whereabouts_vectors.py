"""Vectors about whereabouts' own objects: their names, and the keys of allocation maps.

What its reconciler and slice controller do is survived, not copied: those vectors are run against
the model of whereabouts (tests/unit/kube), beside which podnet is tested.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from podnet.ipam.whereabouts import (
    MOST_OFFSET,
    PoolRef,
    fault,
    go_text,
    key_address,
    offset_key,
    pool_name,
    pool_of_domain,
    pool_of_name,
    range_of_name,
    reservation_name,
    reserved_address,
)
from podnet.model.addresses import Address, parse_address, parse_prefix

FILE = Path(__file__).parent.parent / "data" / "ipam_vectors.json"
VECTORS = {vector["id"]: vector for vector in json.loads(FILE.read_text())["vectors"]}

EXACT = "offsets have as many bits as they take; an address beyond 2^63 has no key"
DIFFERENT = {
    "wb-offset-003": "an address below the base has no key: whereabouts reads 511 as one above it",
    "wb-offset-009": "an address of the other family has no key; nothing asks for one",
    "wb-offset-010": "as above",
    "wb-offset-901": EXACT,
    "wb-offset-902": EXACT,
    "wb-offset-903": EXACT,
    "wb-offset-904": "podnet has no borrow bug; whereabouts writes no range with such a base",
}

KINDS = {
    "allocation_key",
    "allocation_key_bad",
    "ip_add_offset",
    "ip_offset",
    "ippool_name",
    "overlapping_reservation_name",
    "reconciler_denormalise",
}


def of_kind(kind):
    found = [v for v in VECTORS.values() if (v["peer"], v["kind"]) == ("whereabouts", kind)]
    return pytest.mark.parametrize("vector", found, ids=lambda vector: vector["id"])


def agrees(vector, outcome):
    if vector["id"] in DIFFERENT:
        assert outcome != vector["expect"], f"{vector['id']} is no difference any more"
    else:
        assert outcome == vector["expect"]


@of_kind("ip_offset")
def test_key_of_an_address(vector):
    base, ip = (parse_address(vector["input"][name]) for name in ("base", "ip"))
    agrees(vector, {"offset": offset_key(base, ip)})


@of_kind("ip_add_offset")
def test_address_of_an_offset(vector):
    base, offset = parse_address(vector["input"]["base"]), vector["input"]["offset"]
    value = key_address(base, offset)
    ip = None if value is None else Address(base.version, value)
    if ip is not None and offset_key(base, ip) is None:
        ip = None  # such a key is not written
    agrees(vector, {"ip": None if ip is None else str(ip)})


@of_kind("allocation_key")
def test_address_of_a_key(vector):
    base = parse_prefix(vector["input"]["spec_range"]).address
    value = key_address(base, vector["input"]["key"])
    ip = Address(base.version, value)
    agrees(vector, {"ip": str(ip)})
    assert offset_key(base, ip) == vector["input"]["key"]


@of_kind("allocation_key_bad")
def test_bad_keys(vector):
    """podnet drops and rewrites none of them: see test_store_whereabouts_objects."""
    meant = {"wb-key-902": MOST_OFFSET + 1, "wb-key-903": 1, "wb-key-904": None}
    offset = meant[vector["id"]]
    base = parse_address("fd00::")
    value = None if offset is None else base.value + offset
    assert key_address(base, vector["input"]["key"]) == value


@of_kind("ippool_name")
def test_name_of_a_pool(vector):
    given = vector["input"]
    network, name, node = parse_prefix(given["range"]), given["network_name"], given["node_name"]
    agrees(vector, {"name": pool_name(network, name, node)})
    assert range_of_name(vector["expect"]["name"], name, slices=True) == network
    if not node:
        assert pool_of_name(vector["expect"]["name"], network).network_name == name


@of_kind("overlapping_reservation_name")
def test_name_of_a_reservation(vector):
    ip, name = parse_address(vector["input"]["ip"]), vector["input"]["network_name"]
    agrees(vector, {"name": reservation_name(ip, name)})
    assert reserved_address(vector["expect"]["name"], name) == ip


@of_kind("reconciler_denormalise")
def test_address_of_a_reservation(vector):
    """podnet gets the address back where whereabouts' reconciler gets nonsense."""
    name, network_name = vector["input"]["name"], ""
    if not vector["expect"]["matches_network_status"]:
        network_name = {"r": "red", "b": "blue"}.get(name[0], "")
    address = reserved_address(name, network_name)
    assert reservation_name(address, network_name) == name
    found = {
        "denormalised": name.replace("-", ":"),
        "matches_network_status": str(address) == name.replace("-", ":"),
    }
    agrees(vector, found)


def test_differences_are_run():
    of_kinds = {v["id"] for v in VECTORS.values() if v["kind"] in KINDS}
    assert DIFFERENT.keys() <= of_kinds


@pytest.mark.parametrize(
    "ref",
    [
        PoolRef(network=parse_prefix("10.0.0.0/24")),
        PoolRef(network=parse_prefix("fd00::/64"), network_name="red", unique=False),
        PoolRef(
            network=parse_prefix("10.0.0.64/26"), network_name="red-1.b", node="node-a.example"
        ),
    ],
)
def test_domains_tell_their_pool(ref):
    assert pool_of_domain(ref.domain) == ref
    assert fault(ref) == ""


@pytest.mark.parametrize(
    "domain",
    [
        "ippool:",
        "ippool:x",
        "ippool:10.0.0.0",
        "ippool:10.0.0.1/24",
        "ippool:@10.0.0.0/24",
        "ippool:10.0.0.0/024",
        "ippool:Red@10.0.0.0/24",
        "ippool:a_b@10.0.0.0/24",
        "ippool:10.0.0.0/24%",
        "ippool:::/64",
        "ippool:::ffff:10.0.0.0/120",
        "IPPOOL:10.0.0.0/24",
        "whereabouts:10.0.0.0/24",
        "storage",
    ],
)
def test_other_domains_are_no_pools(domain):
    assert pool_of_domain(domain) is None


@pytest.mark.parametrize(
    ("ref", "what"),
    [
        (PoolRef(network=parse_prefix("::/64")), "cannot be the name"),
        (PoolRef(network=parse_prefix("10.0.0.0/24"), network_name="Red"), "cannot be the name"),
        (PoolRef(network=parse_prefix("10.0.0.0/24"), network_name="a." * 130 + "a"), "longer"),
        (PoolRef(network=parse_prefix("10.0.0.0/24"), network_name="a" * 110), "too long"),
        (PoolRef(network=parse_prefix("::ffff:a00:0/120")), "IPv4 written as IPv6"),
        (PoolRef(network=parse_prefix("10.0.0.9/24")), "host bits"),
    ],
)
def test_what_cannot_be_a_pool(ref, what):
    assert what in fault(ref)


@pytest.mark.parametrize(
    "name",
    ["red-10.0.0.0-8", "10.0.0.0-33", "10.0.0.1-8", "10.0.0.0", "x", "fd00-64", "node1-10.0.0.0-8"],
)
def test_names_of_other_networks_tell_no_range(name):
    assert range_of_name(name) is None


def test_mapped_addresses_are_printed_as_go_does():
    assert go_text(parse_address("::ffff:10.0.0.1")) == "10.0.0.1"
    assert reservation_name(parse_address("fd00::")) == "fd00--0"


@pytest.mark.parametrize(
    "key", ["", "-1", "x", "1_0", " 1", "1 ", "1.0", "0x1", "٣", "+", "1" * 65, "4294967296"]
)
def test_keys_that_mean_nothing(key):
    assert key_address(parse_address("10.0.0.0"), key) is None
