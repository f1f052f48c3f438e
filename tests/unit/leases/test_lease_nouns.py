from __future__ import annotations

import ipaddress
import json

import netaddr
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import podnet
from podnet.errors import DecodingError, InvalidConfigError
from podnet.model.addresses import (
    BITS,
    Address,
    Span,
    parse_address,
    parse_prefix,
    parse_span,
)
from podnet.model.block import (
    BLOCK_BITS,
    BLOCK_SIZE,
    Block,
    block_index,
    block_key,
    domain_prefix,
    key_parts,
)
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool
from podnet.testing import blocks, networks, pools

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


FREED = st.lists(
    st.tuples(st.integers(-1, BLOCK_SIZE), st.floats() | st.integers()).map(list) | JSON, max_size=3
)


def test_pool_takes_every_spelling():
    text = Pool("p", "192.0.2.0/24", first="192.0.2.5", exclude=["192.0.2.8/30"])
    assert text == Pool(
        "p",
        ipaddress.ip_network("192.0.2.0/24"),
        first=ipaddress.ip_address("192.0.2.5"),
        exclude=[ipaddress.ip_network("192.0.2.8/30")],
    )
    assert text == Pool(
        "p",
        netaddr.IPNetwork("192.0.2.7/24"),
        first=netaddr.IPAddress("192.0.2.5"),
        exclude=[netaddr.IPNetwork("192.0.2.8/30")],
    )


@pytest.mark.parametrize("part", ["exclude", "reserved"])
@pytest.mark.parametrize(
    "value",
    [
        "192.0.2.1",
        b"192.0.2.1",
        ipaddress.ip_network("10.0.0.0/8"),
        netaddr.IPNetwork("192.0.2.8/30"),
        parse_span("192.0.2.1"),
        None,
        7,
    ],
)
def test_one_value_in_place_of_a_list_is_one_mistake(part, value):
    with pytest.raises(InvalidConfigError) as raised:
        Pool("p", "192.0.2.0/24", **{part: value})
    ((path, what),) = raised.value.mistakes
    assert path == part
    assert what.startswith("must be a list of addresses or networks, not ")


def test_a_pool_needs_a_network():
    with pytest.raises(InvalidConfigError) as raised:
        Pool("p", None)
    assert str(raised.value) == "pool 'p' cannot be: network: is required"


@pytest.mark.parametrize("value", [ipaddress.ip_network("192.0.2.0/24"), parse_span("192.0.2.1")])
def test_a_network_is_no_address(value):
    with pytest.raises(InvalidConfigError) as raised:
        Pool("p", "192.0.2.0/24", first=value)
    assert [path for path, _ in raised.value.mistakes] == ["first"]


def test_values_are_shown_as_text():
    prefix = parse_prefix("10.0.0.1/24")
    assert repr(parse_address("10.0.0.1")) == "Address('10.0.0.1')"
    assert repr(parse_address("2001:DB8::1")) == "Address('2001:db8::1')"
    assert repr(prefix) == "Prefix('10.0.0.1/24')"
    assert repr(parse_span("10.0.0.1-10.0.0.9")) == "Span('10.0.0.1-10.0.0.9')"
    assert "network=Prefix('10.0.0.0/24')" in repr(Pool("p", prefix))


@given(pools())
def test_pool_may_be_evolved(pool):
    assert evolve(pool) == pool
    assert evolve(pool, name="other").network == pool.network


def test_pool_tells_all_its_mistakes():
    with pytest.raises(InvalidConfigError) as raised:
        Pool(
            "", "192.0.2.0/33", first="x", last="192.0.2.0/24", exclude=["192.0.2.1", 5], edges="?"
        )
    assert [path for path, _ in raised.value.mistakes] == [
        "network",
        "first",
        "last",
        "exclude[1]",
        "name",
        "domain",
        "edges",
    ]


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"first": "10.0.0.1"}, "first"),
        ({"first": "2001:db8::1"}, "first"),
        ({"last": "10.0.0.1"}, "last"),
        ({"first": "192.0.2.9", "last": "192.0.2.8"}, "last"),
        ({"gateway": "2001:db8::1"}, "gateway"),
        ({"exclude": ["2001:db8::1"]}, "exclude"),
        ({"reserved": ["2001:db8::1"]}, "reserved"),
    ],
)
def test_pool_parts_must_fit_the_network(parts, path):
    with pytest.raises(InvalidConfigError) as raised:
        Pool("p", "192.0.2.0/24", **parts)
    assert [found.partition("[")[0] for found, _ in raised.value.mistakes] == [path]


def test_gateway_may_be_outside_the_network():
    assert Pool("p", "192.0.2.0/24", gateway="10.0.0.1").gateway == parse_address("10.0.0.1")


def test_lease_gives_netaddr_values():
    lease = Lease(
        domain="d",
        pool="p",
        ip=parse_address("192.168.60.20"),
        length=24,
        owner=podnet.Owner("web-0", "eth1"),
    )
    assert lease.address == netaddr.IPAddress("192.168.60.20")
    assert lease.prefix == netaddr.IPNetwork("192.168.60.20/24")
    assert str(lease.cidr) == "192.168.60.20/24"


def test_owner_reads_well():
    assert str(Owner("c", "eth1")) == "c (eth1)"
    assert str(Owner("c", "eth1", "ns", "pod")) == "ns/pod (eth1)"


@pytest.mark.parametrize(
    ("text", "first", "last", "canonical"),
    [
        ("192.0.2.9", "192.0.2.9", "192.0.2.9", "192.0.2.9"),
        ("192.0.2.9/30", "192.0.2.8", "192.0.2.11", "192.0.2.8/30"),
        ("192.0.2.9-192.0.2.11", "192.0.2.9", "192.0.2.11", "192.0.2.9-192.0.2.11"),
        ("192.0.2.8-192.0.2.11", "192.0.2.8", "192.0.2.11", "192.0.2.8/30"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
    ],
)
def test_spans(text, first, last, canonical):
    span = parse_span(text)
    assert span == Span(span.version, parse_address(first).value, parse_address(last).value)
    assert str(span) == canonical
    assert parse_span(str(span)) == span


@pytest.mark.parametrize(
    "text", ["", "x", "192.0.2.9-192.0.2.8", "192.0.2.9-::1", "192.0.2.1-", "/"]
)
def test_no_spans(text):
    with pytest.raises(ValueError, match=r"is not|ends before"):
        parse_span(text)


@given(blocks())
def test_block_survives_json(block):
    assert Block.from_document(json.loads(json.dumps(block.to_document()))) == block


@given(blocks(), st.data())
def test_damaged_block_is_refused_or_sound(block, data):
    """Replace any value by any other: the outcome is a DecodingError or a block that is sound."""
    document = json.loads(json.dumps(block.to_document()))
    leases = document["leases"]
    where = data.draw(st.sampled_from([document, *leases]))
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JSON | FREED)
    try:
        found = Block.from_document(document)
    except DecodingError:
        return
    for offset, lease in found.leases.items():
        assert lease.ip.value == found.first + offset
        assert lease.sequence <= found.sequence
    assert not found.freed.keys() & found.leases.keys()
    assert set(found.freed) <= set(range(BLOCK_SIZE))
    assert Block.from_document(found.to_document()) == found


@given(JSON)
def test_anything_else_is_no_block(document):
    with pytest.raises(DecodingError):
        Block.from_document(document)


def test_later_format_is_refused():
    document = Block(domain="d", version=4, index=0).to_document()
    with pytest.raises(DecodingError, match="format 2"):
        Block.from_document({**document, "format": 2})


def test_an_address_held_twice_is_refused():
    lease = Lease(domain="d", pool="p", ip=Address(4, 3), length=8, owner=Owner("c", "e"))
    block = Block(domain="d", version=4, index=0, leases={3: lease}).to_document()
    with pytest.raises(DecodingError, match="held twice"):
        Block.from_document({**block, "leases": block["leases"] * 2})


def test_a_sequence_above_the_blocks_is_refused():
    lease = Lease(
        domain="d", pool="p", ip=Address(4, 3), length=8, owner=Owner("c", "e"), sequence=2
    )
    block = Block(domain="d", version=4, index=0, leases={3: lease}, sequence=1)
    with pytest.raises(DecodingError, match=r"sequence of 0\.0\.0\.3 is above"):
        Block.from_document(block.to_document())


@pytest.mark.parametrize(
    ("freed", "message"),
    [
        ([[3, 1.0]], "offset 3 is held"),
        ([[4, 1.0], [4, 2.0]], "offset 4 is told twice"),
        ([[BLOCK_SIZE, 1.0]], "offset"),
        ([[4, "x"]], "when"),
        ([[4, float("nan")]], "when"),
        ([[4]], "offset"),
        ([4], "offset"),
        ({}, "freed"),
    ],
)
def test_releases_that_cannot_be_are_refused(freed, message):
    lease = Lease(domain="d", pool="p", ip=Address(4, 3), length=8, owner=Owner("c", "e"))
    block = Block(domain="d", version=4, index=0, leases={3: lease}).to_document()
    with pytest.raises(DecodingError, match=message):
        Block.from_document({**block, "freed": freed})


@given(blocks())
def test_taken_is_the_held_offsets(block):
    assert [n for n in range(BLOCK_SIZE + 1) if block.taken >> n & 1] == sorted(block.leases)


@given(networks(), networks())
def test_keys_sort_like_addresses(one, two):
    if one.version != two.version:
        return
    indexes = [each.first >> BLOCK_BITS for each in (one, two)]
    keys = [block_key("d", one.version, index) for index in indexes]
    assert (keys[0] < keys[1]) == (indexes[0] < indexes[1])
    assert [block_index(key) for key in keys] == indexes
    assert all(key.startswith(domain_prefix("d", one.version)) for key in keys)


@given(st.text(), st.text())
def test_domains_have_keys_of_their_own(one, two):
    first, second = block_key(one, 4, 0), block_key(two, 4, 0)
    assert (first == second) == (one == two)
    assert first.startswith(domain_prefix(two)) == (one == two)


@given(st.text(max_size=300))
def test_keys_are_safe_for_every_medium(domain):
    part = block_key(domain, 6, (1 << (128 - BLOCK_BITS)) - 1)
    assert set(part) <= set("abcdefghijklmnopqrstuvwxyz0123456789-./")
    assert len(part) < 200
    assert "" not in part.split("/") or not domain
    assert ".." not in part.split("/")


@pytest.mark.parametrize(
    ("domain", "key"),
    [
        ("storage", "storage/4/60541e"),
        ("192.168.60.0-24", "192.168.60.0-24/4/60541e"),
        ("whereabouts:red", "whereabouts--3ared/4/60541e"),
        ("A/b", "--41--2fb/4/60541e"),
        (".a", "--2ea/4/60541e"),
        ("a.", "a--2e/4/60541e"),
        ("a--b", "a--2d--2db/4/60541e"),
    ],
)
def test_keys_read_well(domain, key):
    assert block_key(domain, 4, parse_address("192.168.60.0").value >> BLOCK_BITS) == key


@pytest.mark.parametrize("version", [4, 6])
def test_keys_of_the_first_and_the_last_block_are_of_one_length(version):
    last = (1 << (BITS[version] - BLOCK_BITS)) - 1
    digits = [block_key("d", version, n).rpartition("/")[2] for n in (0, last)]
    assert [len(text) for text in digits] == [-(-(BITS[version] - BLOCK_BITS) // 4)] * 2
    assert digits[0].strip("0") == ""
    assert int(digits[1], 16) == last


@given(st.text(min_size=1, max_size=40), st.sampled_from([4, 6]), st.integers(0))
def test_key_tells_its_parts(domain, version, number):
    index = number % (1 << (BITS[version] - BLOCK_BITS))
    key = block_key(domain, version, index)
    assert key_parts(key) in ((domain, version, index), None)
    assert key_parts(key) is not None or len(domain.encode("utf-8", "surrogatepass")) > 32


@pytest.mark.parametrize(
    "key",
    [
        "",
        "d",
        "d/4",
        "d/4/",
        "d/4/x",
        "d/5/000007",
        "d/4/7",
        "d/4/0000007",
        "d/4/00000A",
        "d/4/-00001",
        "d/4/1000000",
        "D/4/000007",
        "a--b/4/000007",
        "a--/4/000007",
        "a--zz/4/000007",
        "/4/000007",
    ],
)
def test_keys_of_no_block_tell_nothing(key):
    assert key_parts(key) is None


def test_key_of_a_shortened_domain_tells_nothing():
    assert key_parts(block_key("x" * 300, 4, 0)) is None


@pytest.mark.parametrize("key", ["d/4/xyz", "d/4/", ""])
def test_other_keys_have_no_index(key):
    with pytest.raises(DecodingError):
        block_index(key)
