"""Runs against a set, the owner index against a dictionary, and Free against one address a time."""

from __future__ import annotations

import itertools

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.ipam import grant
from podnet.ipam.holders import OwnerIndex
from podnet.ipam.pick import Ask, LongestFree, RoundRobin, Spread, Sticky
from podnet.ipam.runs import Runs
from podnet.ipam.space import Free, subtract
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.testing.strategies import blocks, owners

POOL = Pool("p", "10.0.0.0/22", edges="all")
FIRST = POOL.network.first


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20))), st.integers(-1, 22))
def test_runs_are_a_set(steps, start):
    runs, model = Runs(), set()
    for put, value in steps:
        (runs.add if put else runs.discard)(value)
        (model.add if put else model.discard)(value)
    assert {n for n in range(-1, 23) if n in runs} == model
    found = list(runs.starting(start))
    assert [n for a, b in found for n in range(a, b + 1) if n >= start] == sorted(
        n for n in model if n >= start
    )
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(found))
    assert len(runs) == len(list(runs.starting(0)))


@given(st.data())
def test_owner_index_finds_what_is_there_and_forgets_the_rest(data):
    index, held = OwnerIndex(), {}
    for _ in range(data.draw(st.integers(0, 6))):
        key = data.draw(st.sampled_from("ab"))
        old, new = held.get(key), data.draw(st.none() | blocks())
        if old is not None and new is not None and data.draw(st.booleans()):
            # As grants, renewals and releases make one block of another.
            new = data.draw(_changed(old))
        index.update(key, old, new)
        held[key] = new
    leases = [(k, x) for k, block in held.items() if block for x in block.leases.values()]
    for key, lease in leases:
        assert key in index.seek(lease.owner)
        if lease.owner.pod_uid:
            assert key in index.seek(evolve(lease.owner, container_id="another"))
    for key, block in held.items():
        index.update(key, block, None)
    assert all(index.seek(lease.owner) == () for _, lease in leases)
    assert index._keys == {}


@st.composite
def _changed(draw, block):
    for _ in range(draw(st.integers(0, 4))):
        owner, offset = draw(owners()), draw(st.integers(0, 12))
        held = block.leases.get(offset)
        if held is None:
            pool = Pool("p", "::/0" if block.version == 6 else "0.0.0.0/0", edges="all")
            block, _ = grant.grant(
                block, block.first + offset, pool, owner, node="n", network="", now=1.0
            )
        elif draw(st.booleans()):
            block, _ = grant.renew(block, held, owner, node="m", network="x")
        else:
            block, _ = grant.end(block, held, now=2.0)
    return block


MASKS = st.dictionaries(
    st.integers(FIRST >> BLOCK_BITS, (FIRST >> BLOCK_BITS) + 2),
    st.one_of(st.just((1 << BLOCK_SIZE) - 1), st.integers(0, (1 << BLOCK_SIZE) - 1)),
)
CUTS = st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 60)), max_size=4)


@given(MASKS, CUTS, st.integers(0, 1200), st.booleans())
def test_free_is_what_is_neither_cut_nor_held(taken, cuts, start, remember):
    spans = tuple(
        subtract([(FIRST, FIRST + 1023)], sorted((FIRST + a, FIRST + a + n) for a, n in cuts))
    )
    inside = [n for a, b in spans for n in range(a, b + 1)]
    free = [n for n in inside if not taken.get(n >> BLOCK_BITS, 0) >> (n % BLOCK_SIZE) & 1]
    full = Runs() if remember else None
    for _ in range(2):  # the second time full blocks are passed over
        it = Free(spans, taken, sorted(taken), full)
        assert [n for a, b in it for n in range(a, b + 1)] == free
        after = it.after(FIRST + start)
        assert [n for a, b in after for n in range(a, b + 1)] == [
            n for n in free if n >= FIRST + start
        ]
        assert [n for a, b in it.known() for n in range(a, b + 1)] == [
            n for n in free if n >> BLOCK_BITS in taken
        ]
    for a, b in full.starting(0) if full else ():
        assert not any(a <= n >> BLOCK_BITS <= b for n in free)


def ask(**rest):
    owner = rest.pop("owner", Owner("c", "eth1", "ns", "web-0"))
    return Ask(pool=POOL, owner=owner, **rest)


def free(*held):
    taken = {FIRST >> BLOCK_BITS: sum(1 << n for n in held)}
    return Free([(FIRST, FIRST + 9)], taken, sorted(taken))


def test_round_robin_goes_on_and_round():
    def pick(last):
        return RoundRobin().pick(free(3, 4), ask(last=last and Address(4, FIRST + last))) - FIRST

    assert [pick(n) for n in (None, 1, 2, 4, 9)] == [0, 2, 5, 5, 0]
    assert RoundRobin().pick(free(), ask(last=Address(6, FIRST + 4))) == FIRST


def test_longest_free_takes_the_new_then_the_oldest():
    freed = {FIRST + n: float(100 - n) for n in range(9)}
    assert LongestFree().pick(free(), ask(freed=freed)) == FIRST + 9
    assert LongestFree().pick(free(9), ask(freed=freed)) == FIRST + 8
    assert LongestFree().pick(free(8, 9), ask(freed=freed)) == FIRST + 7


def test_longest_free_reuses_before_it_begins_a_block_in_a_pool_of_many():
    spans = [(FIRST, FIRST + 1023)]
    taken = {FIRST >> BLOCK_BITS: ~1 & (1 << BLOCK_SIZE) - 1}
    both = Free(spans, taken, sorted(taken))
    freed = {FIRST: 1000.0}
    assert LongestFree().pick(both, ask(freed=freed, now=1061.0, blocks=65)) == FIRST
    assert LongestFree().pick(both, ask(freed=freed, now=1059.0, blocks=65)) == FIRST + 512
    assert LongestFree().pick(both, ask(freed=freed, now=1061.0, blocks=64)) == FIRST + 512


def test_spread_differs_by_container_and_sticky_by_pod():
    wide = Free([(FIRST, FIRST + 1023)], {}, [])

    def places(picker, *owners):
        return [picker.pick(wide, ask(owner=owner)) for owner in owners]

    one, two = Owner("a", "eth1", "ns", "web-0"), Owner("b", "eth1", "ns", "web-0")
    assert len(set(places(Spread(), one, two))) == 2
    assert len(set(places(Sticky(), one, two))) == 1
    other = Owner("a", "eth1", "ns", "web-1")
    assert len(set(places(Sticky(), one, other, evolve(one, ifname="eth2")))) == 3
    many = places(Spread(), *(Owner(f"c{n}", "eth1") for n in range(400)))
    assert len(set(many)) > 300
    assert max(many) > FIRST + 900
    assert min(many) < FIRST + 100


def test_resting_addresses_as_bits():
    block = Block(domain="d", version=4, index=1, freed={0: 5.0, 3: 9.0, 4: 10.0})
    assert grant.resting(block, 8.0) == 0b11000
