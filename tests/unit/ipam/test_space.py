from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError
from podnet.ipam import space
from podnet.model.addresses import Address, parse_address, parse_prefix
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool
from podnet.testing import networks, pools

SMALL = networks(versions=(4,), shortest=24) | networks(versions=(6,), shortest=120)


def permitted(pool):
    """The rules once more, address by address; only for small networks."""
    network = pool.network
    every = list(range(network.first, network.last + 1))
    if pool.edges == "inner":
        every = every[1:-1]
    elif pool.edges == "standard" and len(every) > 2:
        every = every[1:-1] if network.version == 4 else every[1:]
    for value in every:
        address = Address(network.version, value)
        if (
            (pool.first is None or value >= pool.first.value)
            and (pool.last is None or value <= pool.last.value)
            and address != pool.gateway
            and not any(address in span for span in (*pool.exclude, *pool.reserved))
        ):
            yield value


@given(pools(within=SMALL))
def test_intervals_are_what_the_rules_permit(pool):
    wanted = list(permitted(pool))
    try:
        spans = space.intervals(pool)
    except InvalidConfigError:
        assert not wanted
        return
    assert [value for low, high in spans for value in range(low, high + 1)] == wanted
    assert space.size(spans) == len(wanted)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(spans))


@given(pools(within=SMALL), st.integers(-3, 300))
def test_why_not_agrees_with_intervals(pool, offset):
    value = min(max(pool.network.first + offset, 0), (1 << 128) - 1)
    if pool.network.version == 4:
        value = min(value, (1 << 32) - 1)
    try:
        may = space.covers(space.intervals(pool), value)
        why = space.why_not(pool, Address(pool.network.version, value))
    except InvalidConfigError:
        return
    assert may == (why is None)


@given(pools())
def test_any_size_of_pool_costs_a_few_intervals(pool):
    try:
        spans = space.intervals(pool)
    except InvalidConfigError:
        return
    assert len(spans) <= 2 + len(pool.exclude) + len(pool.reserved)


@given(pools(within=SMALL), st.data())
def test_free_is_what_no_lease_holds(pool, data):
    try:
        spans = space.intervals(pool)
    except InvalidConfigError:
        return
    every = [value for low, high in spans for value in range(low, high + 1)]
    held = data.draw(st.sets(st.sampled_from(every), max_size=20)) if every else set()
    index = pool.network.first // BLOCK_SIZE
    lease = Lease(domain="d", pool="p", ip=Address(4, 0), length=0, owner=Owner("c", "eth0"))
    block = Block(
        domain="d",
        version=pool.network.version,
        index=index,
        leases={value % BLOCK_SIZE: lease for value in held},
    )
    free = list(space.free(spans, [block]))
    assert [v for low, high in free for v in range(low, high + 1)] == [
        value for value in every if value not in held
    ]


spans_of = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda t: (t[0], t[0] + t[1])), max_size=6
)


@given(spans_of, spans_of)
def test_subtract_is_set_difference(left, right):
    numbers = {n for low, high in left for n in range(low, high + 1)}
    spans = list(space.subtract([(0, 99)], sorted(set(_gaps(numbers)))))
    cut = {n for low, high in right for n in range(low, high + 1)}
    result = list(space.subtract(spans, sorted(right)))
    assert [n for low, high in result for n in range(low, high + 1)] == sorted(numbers - cut)


def _gaps(numbers):
    return ((n, n) for n in range(100) if n not in numbers)


@given(spans_of)
def test_blocks_touched(spans):
    scaled = [(low * 100, high * 100) for low, high in spans]
    merged = []
    for low, high in sorted(scaled):
        if not merged or low > merged[-1][1]:
            merged.append((low, high))
    wanted = sorted({n // BLOCK_SIZE for low, high in merged for n in range(low, high + 1)})
    assert list(space.block_indexes(merged)) == wanted
    assert space.block_count(merged) == len(wanted)
    for index in range(20):
        assert space.touches(merged, index) == (index in wanted)


def test_a_whole_v6_space_is_at_hand():
    pool = Pool("all", "::/0")
    assert space.intervals(pool) == ((1, (1 << 128) - 1),)
    assert space.block_count(space.intervals(pool)) == 1 << (128 - BLOCK_BITS)


@pytest.mark.parametrize(
    ("network", "edges", "first", "last"),
    [
        ("192.0.2.0/24", "standard", "192.0.2.1", "192.0.2.254"),
        ("192.0.2.0/30", "standard", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.0/31", "standard", "192.0.2.0", "192.0.2.1"),
        ("192.0.2.7/32", "standard", "192.0.2.7", "192.0.2.7"),
        ("0.0.0.0/0", "standard", "0.0.0.1", "255.255.255.254"),
        ("2001:db8::/126", "standard", "2001:db8::1", "2001:db8::3"),
        ("2001:db8::/127", "standard", "2001:db8::", "2001:db8::1"),
        ("2001:db8::5/128", "standard", "2001:db8::5", "2001:db8::5"),
        ("192.0.2.0/24", "all", "192.0.2.0", "192.0.2.255"),
        ("192.0.2.0/30", "inner", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::/126", "inner", "2001:db8::1", "2001:db8::2"),
    ],
)
def test_edges(network, edges, first, last):
    found = space.usable(parse_prefix(network), edges)
    assert found == (parse_address(first).value, parse_address(last).value)


@pytest.mark.parametrize("network", ["192.0.2.0/31", "192.0.2.0/32", "2001:db8::/127"])
def test_inner_refuses_networks_without_inner_addresses(network):
    with pytest.raises(InvalidConfigError, match="net mask is too short"):
        space.intervals(Pool("p", network, edges="inner"))


def test_ends_at_a_forbidden_edge_mean_the_nearest_address():
    pool = Pool("p", "192.0.2.0/24", first="192.0.2.0", last="192.0.2.255")
    assert space.bounds(pool) == space.bounds(Pool("p", "192.0.2.0/24"))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.0.0.9", "is outside 192.0.2.0/24"),
        ("2001:db8::1", "is outside 192.0.2.0/24"),
        ("192.0.2.0", "is the first or last address of 192.0.2.0/24"),
        ("192.0.2.255", "is the first or last address of 192.0.2.0/24"),
        ("192.0.2.1", "is the gateway"),
        ("192.0.2.5", "is outside the pool's range"),
        ("192.0.2.21", "is excluded by 192.0.2.20/30"),
        ("192.0.2.30", "is reserved by 192.0.2.30"),
        ("192.0.2.40", None),
    ],
)
def test_why_not_tells_the_reason(address, why):
    pool = Pool(
        "p",
        "192.0.2.0/24",
        first="192.0.2.10",
        gateway="192.0.2.1",
        exclude=["192.0.2.22/30"],
        reserved=["192.0.2.30"],
    )
    assert space.why_not(pool, parse_address(address)) == why
