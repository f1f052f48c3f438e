from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.ipam import grant
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.testing import blocks, owners

POOL = Pool("p", "10.0.0.0/24")
EMPTY = Block(domain="p", version=4, index=0x0A0000)


def granted(block, offset, owner, **rest):
    known = {"node": "n", "network": "net", "now": 5.0, **rest}
    return grant.grant(block, block.first + offset, POOL, owner, **known)


@given(blocks(), owners(), st.integers(0, BLOCK_SIZE - 1))
def test_grant_adds_one_lease_and_touches_no_other(block, owner, offset):
    if offset in block.leases:
        return
    new, lease = granted(block, offset, owner)
    assert new.leases[offset] == lease
    assert {n: x for n, x in new.leases.items() if n != offset} == dict(block.leases)
    assert lease.sequence == new.sequence == block.sequence + 1
    assert (lease.owner, lease.node, lease.network, lease.since) == (owner, "n", "net", 5.0)


@given(blocks(), owners(), st.integers(0, BLOCK_SIZE - 1))
def test_revoke_undoes_grant_but_keeps_the_sequence(block, owner, offset):
    free_of_it, _ = grant.revoke(block, owner)
    if offset in free_of_it.leases:
        return
    new, lease = granted(free_of_it, offset, owner)
    back, released = grant.revoke(new, owner)
    assert released == (lease,)
    assert back == evolve(
        free_of_it, sequence=new.sequence, freed={**free_of_it.freed, offset: 0.0}
    )
    assert grant.revoke(back, owner) == (back, ())
    assert grant.revoke(back, owner)[0] is back


def test_find_prefers_the_very_attachment():
    earlier = Owner("old", "eth1", "ns", "pod", "uid")
    owner = Owner("new", "eth1", "ns", "pod", "uid")
    block, first = granted(EMPTY, 1, earlier)
    assert grant.find(block, "p", owner) == first
    block, second = granted(block, 2, owner)
    assert grant.find(block, "p", owner) == second


def test_find_wants_pool_interface_and_more_than_a_name():
    block, _ = granted(EMPTY, 1, Owner("c", "eth1", "ns", "pod"))
    assert grant.find(block, "p", Owner("c", "eth1")) is not None
    assert grant.find(block, "other", Owner("c", "eth1")) is None
    assert grant.find(block, "p", Owner("c", "eth2")) is None
    # Two pods may bear one name after each other, and the first may still run.
    assert grant.find(block, "p", Owner("d", "eth1", "ns", "pod")) is None


def test_renew_hands_the_lease_to_the_new_container():
    block, lease = granted(EMPTY, 1, Owner("old", "eth1", "ns", "pod", "uid"))
    new_owner = Owner("new", "eth1", "ns", "pod", "uid")
    new, renewed = grant.renew(block, lease, new_owner, node="n2", network="net", now=9.0)
    assert (renewed.ip, renewed.since) == (lease.ip, 9.0)
    assert renewed.sequence > lease.sequence
    assert grant.revoke(new, lease.owner) == (new, ())
    assert grant.end(new, lease) == (new, ())
    assert grant.end(new, renewed)[1] == (renewed,)


def test_renew_of_what_is_so_already_changes_nothing():
    owner = Owner("c", "eth1")
    block, lease = granted(EMPTY, 1, owner)
    same, again = grant.renew(block, lease, owner, node="n", network="net", now=9.0)
    assert same is block
    assert again is lease
    anew = grant.renew(block, lease, owner, node="n", network="net", now=9.0, anew=True)[1]
    assert (anew.since, anew.sequence) == (lease.since, lease.sequence + 1)


def test_renew_on_another_node_moves_the_lease():
    owner = Owner("c", "eth1")
    block, lease = granted(EMPTY, 1, owner)
    assert grant.renew(block, lease, owner, node="n2", network="net")[1].node == "n2"
    assert grant.renew(block, lease, owner, node="n", network="other")[1].network == "other"


def test_end_spares_a_later_grant_to_the_same_owner():
    owner = Owner("c", "eth1")
    block, first = granted(EMPTY, 1, owner)
    block, _ = grant.end(block, first)
    block, second = granted(block, 1, owner)
    assert grant.end(block, first) == (block, ())
    assert grant.end(block, second)[1] == (second,)


def test_revoke_may_be_narrowed():
    owner = Owner("c", "eth1")
    block, lease = granted(EMPTY, 1, owner)
    assert grant.revoke(block, owner, pool="other")[1] == ()
    assert grant.revoke(block, owner, network="other")[1] == ()
    assert grant.revoke(block, owner, pool="p", network="net")[1] == (lease,)


def test_sweep_takes_dead_attachments_of_this_node_and_network():
    block = EMPTY
    kept = set()
    for offset, (container, node, network) in enumerate(
        [("dead", "n", "net"), ("live", "n", "net"), ("dead", "m", "net"), ("dead", "n", "other")]
    ):
        block, lease = granted(
            block, offset, Owner(container, f"eth{offset}"), node=node, network=network
        )
        if offset:
            kept.add(lease)
    new, gone = grant.sweep(block, network="net", node="n", valid={("live", "eth1")})
    assert [lease.owner.key for lease in gone] == [("dead", "eth0")]
    assert set(new.leases.values()) == kept


def test_no_lease_is_written_over():
    block, _ = granted(EMPTY, 3, Owner("c1", "eth1"))
    with pytest.raises(ValueError, match="is held"):
        granted(block, 3, Owner("c2", "eth1"))
