"""Range sets: which range an address is of, whose turn it is, and what the result tells."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import AddressUnavailableError
from podnet.ipam import space
from podnet.ipam.want import IpamWant, describe, in_turn, pool_of, share_out
from podnet.model.addresses import Address, parse_address
from podnet.model.lease import Lease, Owner
from podnet.model.pool import ALL, Pool


def pool(first, last, gateway=None, network="10.0.0.0/24", name="0"):
    return Pool(name, network, first=first, last=last, gateway=gateway, domain="net", edges=ALL)


@st.composite
def sets(draw):
    """Ranges of one network that do not overlap, in any order, each with a gateway perhaps."""
    ends = sorted(draw(st.sets(st.integers(0, 40), min_size=2, max_size=8)))
    ranges = [
        (f"10.0.0.{low}", f"10.0.0.{high - 1}")
        for low, high in pairwise(ends)
        if draw(st.booleans()) or low == ends[0]
    ]
    gateway = draw(st.none() | st.integers(0, 40).map("10.0.0.{}".format))
    return [pool(*each, gateway) for each in draw(st.permutations(ranges))]


def walk(pools, last):
    """Return addresses in the order in which host-local's iterator comes by them.

    After plugins v1.9.1, allocator.go, RangeIter.Next, step by step.
    """
    ranges = [(each.first.value, each.last.value) for each in pools]
    at, cur = 0, None
    for n, (low, high) in enumerate(ranges):
        if last is not None and low <= last <= high:
            at, cur = n, last
            break
    found, start = [], None
    while True:
        if cur is None:
            cur = ranges[at][0]
        elif cur == ranges[at][1]:
            at = (at + 1) % len(ranges)
            cur = ranges[at][0]
        else:
            cur += 1
        if start is None:
            start = cur
        elif cur == start:
            return found
        if pools[at].gateway is None or pools[at].gateway.value != cur:
            found.append(cur)


@given(sets(), st.none() | st.integers(0, 42))
def test_turns_are_host_local_s(pools, last):
    last = None if last is None else parse_address(f"10.0.0.{last}")
    order = [
        value
        for each in in_turn(pools, last)
        for low, high in space.intervals(each)
        for value in range(low, high + 1)
    ]
    assert list(dict.fromkeys(order)) == walk(pools, None if last is None else last.value)


def test_turns_keep_name_and_domain():
    pools = [pool("10.0.0.1", "10.0.0.5"), pool("10.0.0.7", "10.0.0.9")]
    turns = in_turn(pools, parse_address("10.0.0.8"))
    assert [(str(each.first), str(each.last)) for each in turns] == [
        ("10.0.0.9", "10.0.0.9"),
        ("10.0.0.1", "10.0.0.5"),
        ("10.0.0.7", "10.0.0.9"),
    ]
    assert {(each.name, each.domain) for each in turns} == {("0", "net")}
    for other in (None, parse_address("10.9.9.9"), parse_address("::1")):
        assert in_turn(pools, other) == tuple(pools)


LOW, HIGH = pool("10.0.0.10", "10.0.0.19"), pool("10.0.0.30", "10.0.0.39")
SIX = pool("fd00::5", "fd00::9", network="fd00::/64", name="1")


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.35", HIGH), ("10.0.0.15", LOW), ("10.0.0.25", LOW), ("10.1.0.0", LOW)],
)
def test_pool_of_an_address(text, found):
    assert pool_of((LOW, HIGH), parse_address(text)) is found


@pytest.mark.parametrize(
    ("requested", "shares"),
    [
        ([], [None, None, None]),
        (["10.0.0.35"], [None, None, "10.0.0.35"]),
        (["10.0.0.35", "10.0.0.15"], ["10.0.0.15", None, "10.0.0.35"]),
        (["fd00::5", "10.0.0.12"], ["10.0.0.12", "fd00::5", None]),
        # Of no range, but of a network: that set will say why not.
        (["10.0.0.200"], ["10.0.0.200", None, None]),
        (["10.0.0.12", "10.0.0.13"], ["10.0.0.12", None, "10.0.0.13"]),
    ],
)
def test_requested_addresses_go_to_the_set_that_may_give_them(requested, shares):
    found = share_out([LOW, (SIX,), [HIGH]], [parse_address(each) for each in requested])
    assert [None if each is None else str(each) for each in found] == shares


@pytest.mark.parametrize("requested", [["10.1.0.1"], ["10.0.0.12", "10.0.0.13", "10.0.0.14"]])
def test_what_no_set_is_left_for_is_refused(requested):
    with pytest.raises(AddressUnavailableError, match="is in no pool that is left"):
        share_out([LOW, SIX, HIGH], [parse_address(each) for each in requested])


def test_result_tells_gateway_and_length_of_the_range_of_each_address():
    other = pool("10.9.0.1", "10.9.0.9", gateway="10.9.0.254", network="10.9.0.0/16")
    want = IpamWant(sets=[(LOW, other), SIX])
    owner = Owner("c", "eth0")
    leases = [
        Lease(domain="net", pool="", ip=parse_address("10.9.0.5"), length=32, owner=owner),
        Lease(domain="net", pool="1", ip=parse_address("fd01::5"), length=48, owner=owner),
    ]
    assert [(ip.address, ip.gateway) for ip in describe(want, leases).ips] == [
        ("10.9.0.5/16", "10.9.0.254"),
        # Of no range any more: what the lease tells of itself.
        ("fd01::5/48", ""),
    ]


def test_single_pools_are_sets_of_one():
    want = IpamWant(sets=[LOW, [SIX]])
    assert want == IpamWant(sets=[(LOW,), (SIX,)])
    assert want.pools == (LOW, SIX)
    assert want.domains == ("net",)
    assert IpamWant().pools == ()
    assert Address(4, 0) not in LOW.network
