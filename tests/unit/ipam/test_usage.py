from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.ipam import space
from podnet.ipam.usage import Tally, window
from podnet.ipam.usage_filter import Filter
from podnet.model.addresses import Address, parse_span
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block, block_key
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool

NETWORK = "10.0.0.0/21"
LOW = 0x0A000000


def lease(value, *, node="", claim="", pool="p", since=0.0):
    return Lease(
        domain="d",
        pool=pool,
        ip=Address(4, value),
        length=21,
        owner=Owner(f"c{value}", "eth1", "ns", f"pod-{value}", f"uid-{value}"),
        node=node,
        network="net",
        since=since,
        claim=claim,
    )


def blocks_of(leases, freed=(), holders=()):
    """Return the blocks that hold these leases, in order."""
    found = {}
    for each in leases:
        found.setdefault(each.ip.value >> BLOCK_BITS, {})[each.ip.value % BLOCK_SIZE] = each
    indexes = sorted({*found, *(v >> BLOCK_BITS for v in freed), *dict(holders)})
    return [
        Block(
            domain="d",
            version=4,
            index=index,
            leases=found.get(index, {}),
            freed={v % BLOCK_SIZE: 100.0 for v in freed if v >> BLOCK_BITS == index},
            holder=dict(holders).get(index, ""),
        )
        for index in indexes
    ]


def count(pool, blocks, **options):
    tally = Tally(pool, now=110.0, node="me", **options)
    for block in blocks:
        assert tally.touches(block)
        tally.add(block)
    return tally.done()


def test_a_pool_is_counted():
    pool = Pool("p", NETWORK, exclude=["10.0.1.0/24"], gateway="10.0.0.1", cool_down=60)
    leases = [
        lease(LOW + 2, node="me"),
        lease(LOW + 3, node="other"),
        lease(LOW + 4, claim="ns/claim"),
        lease(LOW + 0x100),  # excluded since
        lease(LOW + 0x200, node="me", pool="another"),
    ]
    usage = count(pool, blocks_of(leases, freed=[LOW + 5, LOW + 0x101]))
    assert (usage.size, usage.closed) == (2048 - 2 - 1 - 256, 2 + 1 + 256)
    assert (usage.used, usage.kept, usage.outside, usage.resting) == (4, 1, 1, 1)
    assert usage.free == usage.size - 4
    assert usage.by_node == {"": 1, "me": 2, "other": 1}
    assert (usage.blocks, usage.holders) == (2, {})
    # .0.5-.0.255, .2.1-.7.254
    assert (usage.free_runs, usage.longest_free) == (2, 0x7FE - 0x200)


def test_blocks_that_nodes_hold_are_counted():
    pool = Pool("p", NETWORK)
    index = LOW >> BLOCK_BITS
    usage = count(
        pool, blocks_of([lease(LOW + 1)], holders={index: "a", index + 1: "b"}.items()), cells=8
    )
    assert usage.holders == {"a": 1, "b": 1}
    assert sum(cell.lent for cell in usage.cells) == 2 * 512 - 2
    assert usage.cells[0].lent == 254
    assert usage.free == 2046 - 1


def test_an_empty_v6_network_costs_nothing():
    usage = count(Pool("six", "2001:db8::/32"), [], cells=64)
    assert usage.size == (1 << 96) - 1
    assert (usage.free_runs, usage.longest_free) == (1, (1 << 96) - 1)
    assert len(usage.cells) == 64
    assert sum(cell.free for cell in usage.cells) == usage.size


def test_a_map_shows_the_part_that_is_in_use():
    pool = Pool("six", "2001:db8::/64")
    first = pool.network.first >> BLOCK_BITS
    assert window(pool, None, 64) == (pool.network.first, pool.network.last)
    low, high = window(pool, (first, first + 3), 64)
    assert (low, high - low + 1) == (pool.network.first, 4 * BLOCK_SIZE)
    small = Pool("p", "10.0.0.0/24", first="10.0.0.20")
    assert window(small, (LOW >> BLOCK_BITS,) * 2, 64) == (LOW + 20, LOW + 255)


VALUES = st.sets(st.integers(LOW, LOW + 2047), max_size=60)


@given(
    held=VALUES,
    freed=VALUES,
    excludes=st.lists(st.tuples(st.integers(0, 2040), st.integers(0, 300)), max_size=4),
    cells=st.integers(1, 3000),
    edges=st.sampled_from(["standard", "all"]),
    held_by=st.sets(st.integers(0, 3), max_size=2),
)
def test_counts_agree_with_a_set(held, freed, excludes, cells, edges, held_by):
    spans = [parse_span(f"{Address(4, LOW + a)}-{Address(4, min(LOW + a + n, LOW + 2047))}")
             for a, n in excludes]  # fmt: skip
    pool = Pool("p", NETWORK, exclude=spans, edges=edges, cool_down=60)
    leases = [
        lease(v, node="me" if v % 3 else "you", claim="c" if v % 7 == 0 else "") for v in held
    ]
    index = LOW >> BLOCK_BITS
    holders = {index + n: "node" for n in held_by}
    usage = count(pool, blocks_of(leases, freed - held, holders.items()), cells=cells)
    may = {v for low, high in space.intervals(pool) for v in range(low, high + 1)}
    taken, free = may & held, may - held
    assert usage.size == len(may)
    assert usage.used == len(taken)
    assert usage.kept == sum(v % 7 == 0 for v in taken)
    assert usage.resting == len(free & freed)
    assert usage.outside == len(held - may)
    runs = [v for v in free if v - 1 not in free]
    longest = max((next(n for n in range(3000) if v + n not in free) for v in runs), default=0)
    assert (usage.free_runs, usage.longest_free) == (len(runs), longest)
    assert [usage.cells[0].first, usage.cells[-1].last] == [LOW, LOW + 2047]
    for cell, after in zip(usage.cells, usage.cells[1:], strict=False):
        assert after.first == cell.last + 1
    for cell in usage.cells:
        here = set(range(cell.first, cell.last + 1))
        lent = {v for v in free & here - freed if v >> BLOCK_BITS in holders}
        assert cell.closed == len(here - may)
        assert cell.kept == sum(v % 7 == 0 for v in taken & here)
        assert cell.mine == sum(v % 3 > 0 and v % 7 > 0 for v in taken & here)
        assert cell.held == len(taken & here)
        assert cell.resting == len(free & freed & here)
        assert cell.lent == len(lent)
        assert cell.free == len(free & here) - cell.resting - cell.lent


ONE = lease(LOW + 7, node="n1", claim="", since=50.0)


@pytest.mark.parametrize(
    ("fits", "not_"),
    [
        ({"pool": "p"}, {"pool": "q"}),
        ({"domain": "d"}, {"domain": "e"}),
        ({"network": "net"}, {"network": ""}),
        ({"node": "n1"}, {"node": ""}),
        ({"namespace": "ns"}, {"namespace": "default"}),
        ({"pod": f"pod-{LOW + 7}"}, {"pod": "pod"}),
        ({"container": "c16"}, {"container": "16"}),
        ({"interface": "eth1"}, {"interface": "eth"}),
        ({"claim": ""}, {"claim": "x"}),
        ({"addresses": parse_span("10.0.0.0/29")}, {"addresses": parse_span("10.0.0.8/29")}),
        ({"before": 50.5}, {"before": 50.0}),
    ],
)
def test_filters(fits, not_):
    assert Filter(**fits).takes(ONE)
    assert not Filter(**not_).takes(ONE)
    assert not Filter(**{**fits, **not_}).takes(ONE)
    assert Filter().takes(ONE)


def test_filters_read_only_blocks_that_may_fit():
    key = block_key("d", 4, (LOW + 600) >> BLOCK_BITS)
    assert Filter(domain="d").prefix == "d/"
    assert Filter().prefix == ""
    assert Filter(addresses=parse_span("10.0.2.0-10.0.2.9")).may_be_at(key)
    assert not Filter(addresses=parse_span("10.0.4.0")).may_be_at(key)
    assert not Filter(addresses=parse_span("::1")).may_be_at(key)
    assert Filter(addresses=parse_span("::1")).may_be_at("no/block's key")
