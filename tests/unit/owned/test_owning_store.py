"""What a node does with blocks, call by call."""

from __future__ import annotations

import pytest
from attrs import evolve
from owned_lab import MANNER, Counting, Lab, eager, owner

import podnet.testing
from podnet.engine.leases import Ipam
from podnet.engine.owning import Owning
from podnet.errors import PodnetError, PoolExhaustedError, StoreError, TryAgainLaterError
from podnet.ipam.owned import State, state_of
from podnet.model.block import BLOCK_SIZE, block_key
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing import FaultyStore

LARGE = Pool("large", "10.0.0.0/16", mode="owned")
SMALL = Pool("small", "10.1.0.0/30", mode="owned")
KEY = block_key("small", 4, 0x0A010000 >> 9)


class TestOwningAsAStore(podnet.testing.StoreContract):
    """A node that holds nothing has a store like any other."""

    seeks = True

    def open(self):
        return Owning(MemoryStore(), MemoryStore(), node="a-node")


# How many writes


def test_one_write_for_more_than_two_hundred_leases():
    lab = Lab()
    ipam = lab.node("a")
    for number in range(5000):
        ipam.allocate(LARGE, owner(number))
        lab.now += 0.01
        if number % 100 == 99:
            ipam.tick()
    ipam.close()
    assert len(lab.told()) == 5000
    assert lab.shared.writes * 200 <= 5000


def test_a_claim_and_a_publication_for_each_block_filled():
    lab = Lab()
    ipam = lab.node("a")
    for number in range(20 * BLOCK_SIZE):
        ipam.allocate(LARGE, owner(number))
    ipam.publish()
    # The network's first address is never handed out, and its block may be among these.
    assert lab.shared.writes in (40, 42)


def test_no_write_while_nothing_happens():
    lab = Lab()
    ipam = lab.node("a")
    ipam.allocate(LARGE, owner(1))
    ipam.publish()
    before = lab.shared.writes
    for _ in range(50):
        lab.now += 100.0
        ipam.tick()
    assert lab.shared.writes == before


def test_reads_of_a_lease_do_not_grow_with_the_pool():
    """From an empty pool to a full one, a lease costs the same number of calls."""
    lab = Lab()
    ipam = lab.node("a")
    reads = []
    for part in range(8):
        lab.shared.reads = 0
        for number in range(part * 4000, (part + 1) * 4000):
            ipam.allocate(LARGE, owner(number))
        reads.append(lab.shared.reads)
    assert max(reads) <= 1.2 * min(reads) + 4
    assert max(reads) < 4000 / 50


# Telling and giving back


def test_published_no_more_often_than_said_and_no_later():
    lab = Lab()
    ipam = lab.node("a", manner=eager(publish_every=30.0))
    lease = ipam.allocate(LARGE, owner(1))
    for _ in range(29):
        ipam.tick()
        lab.now += 1.0
    assert lab.told() == []
    lab.now += 1.0
    ipam.tick()
    assert lab.told() == [lease]
    other = ipam.allocate(LARGE, owner(2))
    ipam.tick()
    assert lab.told() == [lease]
    ipam.close()
    assert lab.told() == [lease, other]


def test_an_empty_block_is_given_back_after_a_while_and_not_before():
    lab = Lab()
    ipam = lab.node("a", manner=eager(idle_after=300.0))
    ipam.release(ipam.allocate(LARGE, owner(1)))
    for _ in range(9):
        lab.now += 30.0
        ipam.tick()
    assert [block.holder for block in lab.blocks()] == ["a"]
    lab.now += 31.0
    ipam.tick()
    assert [(block.holder, dict(block.leases)) for block in lab.blocks()] == [("", {})]
    assert list(lab.local["a"].keys("")) == []
    # And it can be used again, by anybody.
    assert lab.node("b").allocate(LARGE, owner(2)) is not None


def test_the_last_to_leave_keeps_what_is_in_use_and_gives_back_the_rest():
    lab = Lab()
    ipam = lab.node("a")
    for number in range(BLOCK_SIZE + 1):
        ipam.allocate(LARGE, owner(number))
    ipam.release(owner(BLOCK_SIZE), pool=LARGE)
    ipam.close()
    assert sorted((block.holder, len(block.leases)) for block in lab.blocks()) == [
        ("", 0),
        ("a", BLOCK_SIZE),
    ]


def test_drained_of_all_and_taken_up_again():
    lab = Lab()
    ipam = lab.node("a")
    lease = ipam.allocate(SMALL, owner(1))
    ipam.drain()
    assert lab.block(KEY).holder == ""
    assert lab.told() == [lease]
    # Its own leases are no reason not to take the block again; others' are.
    ipam.allocate(SMALL, owner(2))
    assert lab.block(KEY).holder == "a"


def test_a_block_with_other_nodes_leases_is_not_taken():
    lab = Lab()
    a = lab.node("a")
    a.allocate(SMALL, owner(1))
    a.drain()
    b = lab.node("b")
    b.allocate(SMALL, owner(2))
    assert [block.holder for block in lab.blocks()] == [""]
    assert {lease.node for lease in lab.told()} == {"a", "b"}


def test_what_is_asked_for_is_given_back_at_the_next_look():
    lab = Lab()
    a, b = lab.node("a"), lab.node("b")
    mine = a.allocate(SMALL, owner(1))
    lab.waits = a.tick
    theirs = b.allocate(SMALL, owner(2))
    assert mine.ip != theirs.ip
    assert [block.holder for block in lab.blocks()] == [""]
    with pytest.raises(PoolExhaustedError):
        b.allocate(SMALL, owner(3))


def test_two_who_want_one_block_both_get_their_addresses():
    """What was asked for is not taken again at once, by him who gave it or him who asked."""
    pool = Pool("p", "10.2.0.0/24", mode="owned")
    lab = Lab()
    a, b = lab.node("a"), lab.node("b")
    lab.waits = lambda: (a.tick(), b.tick())
    addresses = set()
    for number in range(40):
        addresses.add(a.allocate(pool, owner(number, "a")).ip)
        addresses.add(b.allocate(pool, owner(number, "b")).ip)
    assert len(addresses) == 80


def test_one_of_many_blocks_is_asked_for_and_not_all():
    pool = Pool("p", "10.2.0.0/19", mode="owned")
    lab = Lab()
    a, b = lab.node("a"), lab.node("b")
    for number in range(16 * BLOCK_SIZE - 2):
        a.allocate(pool, owner(number))
    for number in range(0, 8000, 500):
        a.release(owner(number), pool=pool)
    a.publish()
    lab.waits = a.tick
    assert b.allocate(pool, owner(0, "b")) is not None
    assert sum(block.holder == "" for block in lab.blocks()) <= 4


def test_a_block_full_as_far_as_is_told_may_have_room():
    lab = Lab()
    a, b = lab.node("a"), lab.node("b")
    leases = [a.allocate(SMALL, owner(number)) for number in range(2)]
    a.publish()
    a.release(leases[0])
    lab.waits = a.tick
    assert b.allocate(SMALL, owner(5)).ip == leases[0].ip


def test_an_address_in_a_foreign_block_is_not_refused_on_hearsay():
    lab = Lab()
    a, b = lab.node("a"), lab.node("b")
    leases = [a.allocate(SMALL, owner(number)) for number in range(2)]
    a.publish()
    a.release(leases[0])
    lab.waits = a.tick
    assert b.allocate(SMALL, owner(5), requested=str(leases[0].ip)).ip == leases[0].ip


def test_who_does_not_answer_is_named():
    lab = Lab()
    lab.node("a").allocate(SMALL, owner(1))
    b = lab.node("b")
    with pytest.raises(TryAgainLaterError, match="held by a") as refused:
        b.allocate(SMALL, owner(2))
    assert refused.value.code == 11
    assert lab.block(KEY).recalled


def test_a_node_that_never_holds_blocks_asks_for_them_too():
    lab = Lab()
    a = lab.node("a")
    mine = a.allocate(SMALL, owner(1))
    plain = Ipam(lab.shared, node="plain", sleep=lambda _: a.tick(), clock=lambda: lab.now)
    lab.now += MANNER.look_every
    assert plain.allocate(SMALL, owner(2)).ip != mine.ip


def test_a_claims_lease_is_told_at_once():
    """Its owner comes back on another node, and has to be found."""
    lab = Lab()
    a, b = lab.node("a"), lab.node("b")
    keeper = owner(1)
    mine = a.allocate(LARGE, keeper, claim="ns/kept")
    assert lab.told() == [mine]
    lab.waits = a.tick
    again = b.allocate(LARGE, keeper, claim="ns/kept")
    assert (again.ip, again.node) == (mine.ip, "b")


def test_a_claims_lease_that_could_not_be_told_is_none():
    lab = Lab(FaultyStore(Counting()))
    ipam = lab.node("a")
    ipam.allocate(LARGE, owner(1))
    lab.shared.plan(["fine", "fine", "refused", "refused", "refused"])
    with pytest.raises(StoreError):
        ipam.allocate(LARGE, owner(2), claim="ns/kept")
    lab.shared.plan(())
    assert [lease.owner for lease in ipam.leases(LARGE)] == [owner(1)]


# Several processes of one node


def test_a_process_that_does_not_stay_takes_no_block():
    lab = Lab()
    lab.node("a", resident=False).allocate(LARGE, owner(1))
    assert [block.holder for block in lab.blocks()] == [""]


def test_a_process_that_does_not_stay_uses_and_tells_what_its_node_holds():
    lab = Lab()
    a = lab.node("a")
    leases = [a.allocate(SMALL, owner(1))]
    short = lab.node("a", resident=False)
    assert short.release(owner(1), pool=SMALL) == (leases[0],)
    lease = short.allocate(SMALL, owner(2))
    assert lab.told() == []
    short.close()
    assert lab.told() == [lease]
    assert lab.block(KEY).holder == "a"
    assert [x.owner for x in a.leases(SMALL)] == [owner(2)]


def test_a_process_that_does_not_stay_finds_out_what_was_asked_for():
    lab = Lab()
    lab.node("a").allocate(SMALL, owner(1))
    lab.shared.swap(KEY, evolve(lab.block(KEY), recalled=True), lab.shared.load(KEY)[1])
    short = lab.node("a", resident=False)
    short.allocate(SMALL, owner(2))
    short.close()
    assert lab.block(KEY).holder == ""
    assert len(lab.told()) == 2


def test_what_a_node_holds_is_given_back_once_nobody_stays_on_it():
    lab = Lab()
    lab.node("a").allocate(LARGE, owner(1))
    short = lab.node("a", resident=False, abandoned=lambda: True)
    short.allocate(SMALL, owner(2))
    short.close()
    assert [block.holder for block in lab.blocks()] == ["", ""]
    assert list(lab.local["a"].keys("")) == []


# What must not be


def test_two_own_stores_of_one_node_name_share_no_address():
    lab = Lab()
    one = lab.node("a", local=MemoryStore())
    other = lab.node("a", local=MemoryStore(), chance=0.5)
    first = one.allocate(SMALL, owner(1))
    with pytest.raises(TryAgainLaterError, match=r"held by a \(elsewhere\)"):
        other.allocate(SMALL, owner(2))
    lab.waits = one.tick
    assert other.allocate(SMALL, owner(2)).ip != first.ip


def test_a_claim_that_another_own_store_of_that_name_made_is_not_ones_own():
    lab = Lab(FaultyStore(Counting()))
    mine = MemoryStore()
    lab.shared.plan(["fine", "fine", "refused"])
    with pytest.raises(StoreError):
        lab.node("a", local=mine).allocate(SMALL, owner(1))
    lab.shared.plan(())
    assert [state_of(mine.load(key)[0]) for key in mine.keys("")] == [State.CLAIMING]
    other = lab.node("a", local=MemoryStore(), chance=0.5)
    theirs = other.allocate(SMALL, owner(2))
    lab.waits = other.tick
    assert lab.node("a", local=mine).allocate(SMALL, owner(1)).ip != theirs.ip


class Forgetful(Counting):
    """A format that has no place for who holds a block."""

    def swap(self, key, new, expected):
        return super().swap(key, new and evolve(new, holder="", recalled=False), expected)


def test_a_store_that_keeps_no_holder_is_shared():
    lab = Lab(Forgetful())
    a, b = lab.node("a"), lab.node("b")
    addresses = {
        ipam.allocate(LARGE, owner(n, ipam._node)).ip for n in range(20) for ipam in (a, b)
    }
    assert len(addresses) == 40
    assert len(lab.told()) == 40
    writes = lab.shared.writes
    a.allocate(LARGE, owner(99))
    assert lab.shared.writes == writes + 1


def test_a_block_held_is_not_deleted():
    lab = Lab()
    ipam = lab.node("a")
    ipam.allocate(SMALL, owner(1))
    store = ipam._owning
    with pytest.raises(StoreError, match="held by a"):
        store.swap(KEY, None, store.load(KEY)[1])


def test_shared_pools_take_no_blocks():
    lab = Lab()
    ipam = lab.node("a")
    ipam.allocate(evolve(LARGE, mode="shared"), owner(1))
    ipam.allocate(Pool("auto", "10.3.0.0/20", mode="auto"), owner(1))
    assert {block.holder for block in lab.blocks()} == {""}
    ipam.allocate(Pool("more", "10.4.0.0/19", mode="auto"), owner(1))
    assert sorted(block.holder for block in lab.blocks()) == ["", "", "a"]


def test_cool_down_holds_in_own_blocks_and_across_them():
    pool = Pool("p", "10.5.0.0/16", mode="owned", cool_down=100.0)
    lab = Lab()
    ipam = lab.node("a")
    gone = [ipam.allocate(pool, owner(n)) for n in range(BLOCK_SIZE - 2)]
    for lease in gone:
        ipam.release(lease)
    resting = {lease.ip for lease in gone}
    fresh = {ipam.allocate(pool, owner(n, "d")).ip for n in range(BLOCK_SIZE)}
    assert not fresh & resting
    lab.now += 101.0
    again = {ipam.allocate(pool, owner(n, "e")).ip for n in range(20)}
    assert len(again & resting) > 10
    assert len(lab.blocks()) == 2


def test_an_address_that_rests_is_better_than_none():
    pool = evolve(SMALL, cool_down=100.0)
    lab = Lab()
    ipam = lab.node("a")
    for number in range(6):
        ipam.release(ipam.allocate(pool, owner(number)))


# Dead nodes


def test_reclaimed_blocks_are_everybodys_and_the_dead_nodes_leases_are_over():
    lab = Lab()
    dead, other = lab.node("dead"), lab.node("other")
    leases = [dead.allocate(LARGE, owner(number)) for number in range(3)]
    kept = dead.allocate(LARGE, owner(9), claim="ns/kept")
    dead.publish()
    unpublished = dead.allocate(LARGE, owner(10))
    elsewhere = Ipam(lab.shared, node="dead").allocate(Pool("x", "10.9.0.0/24"), owner(1))
    told = other.reclaim("dead")
    assert told.blocks == (block_key("large", 4, leases[0].ip.value >> 9),)
    assert set(told.leases) == {*leases, elsewhere}
    assert lab.told() == [kept]
    assert {block.holder for block in lab.blocks()} == {""}
    assert other.reclaim("dead").blocks == ()
    # The node is not dead: it finds out, and says which of its leases are in danger.
    lab.now += MANNER.look_every
    dead.tick()
    assert {x.lease.ip for x in dead.conflicts} == {x.ip for x in (*leases, unpublished)}
    again = dead.allocate(LARGE, owner(20), requested=str(unpublished.ip))
    assert again.sequence > unpublished.sequence


def test_a_node_that_lives_is_not_reclaimed_by_itself():
    lab = Lab()
    ipam = lab.node("a")
    ipam.allocate(LARGE, owner(1))
    with pytest.raises(PodnetError, match="this very node"):
        ipam.reclaim("a")
    with pytest.raises(PodnetError, match="without a name"):
        ipam.reclaim("")


def test_a_node_without_its_store_takes_nothing_for_its_own_until_it_is_told():
    lab = Lab()
    old = lab.node("a")
    lost = old.allocate(SMALL, owner(1))
    old.publish()
    lab.local.clear()
    new = lab.node("a")
    with pytest.raises(TryAgainLaterError, match="held by a"):
        new.allocate(SMALL, owner(2))
    mine = new.allocate(LARGE, owner(2))
    told = new.reclaim("a", lost=True)
    assert told.leases == (lost,)
    assert told.blocks == (KEY,)
    # What it holds by now is not what was lost.
    assert new.holds(owner(2), LARGE) == mine
    assert new.conflicts == ()
    assert new.allocate(SMALL, owner(3)) is not None


def test_a_node_cut_off_for_long_makes_sure_before_it_hands_out():
    lab = Lab()
    a, b = lab.node("a", manner=eager(trust=3600.0)), lab.node("b")
    mine = a.allocate(SMALL, owner(1))
    b.reclaim("a")
    theirs = b.allocate(SMALL, owner(2))
    lab.now += 3601.0
    lab.waits = b.tick
    assert a.allocate(SMALL, owner(3)).ip != theirs.ip
    assert [x.lease for x in a.conflicts] == [mine]


def test_a_shared_store_that_was_emptied_has_taken_all():
    lab = Lab()
    ipam = lab.node("a")
    mine = ipam.allocate(SMALL, owner(1))
    lab.shared.swap(KEY, None, lab.shared.load(KEY)[1])
    lab.now += MANNER.look_every
    ipam.tick()
    assert [(x.lease, x.holder) for x in ipam.conflicts] == [(mine, None)]


# Faults


def test_a_tick_sees_to_all_blocks_whatever_happens_to_one():
    lab = Lab(FaultyStore(Counting()))
    ipam = lab.node("a", manner=eager(publish_every=1.0))
    leases = [ipam.allocate(pool, owner(1)) for pool in (LARGE, SMALL)]
    lab.now += 2.0
    lab.shared.plan(["refused"])
    with pytest.raises(StoreError):
        ipam.tick()
    assert len(lab.told()) == 1
    ipam.tick()
    assert sorted(lab.told(), key=str) == sorted(leases, key=str)


def test_close_does_not_fail_and_the_next_process_tells():
    lab = Lab(FaultyStore(Counting()))
    ipam = lab.node("a")
    lease = ipam.allocate(LARGE, owner(1))
    lab.shared.plan(["refused"] * 4)
    ipam.close()
    lab.shared.plan(())
    assert lab.told() == []
    lab.node("a").tick()
    after = lab.node("a")
    after.tick()
    lab.now += MANNER.publish_every
    after.tick()
    assert lab.told() == [lease]


def test_addresses_are_handed_out_while_the_shared_store_takes_no_writes():
    lab = Lab(FaultyStore(Counting()))
    ipam = lab.node("a")
    ipam.allocate(LARGE, owner(0))
    swap, lab.shared.swap = lab.shared.swap, None
    leases = [ipam.allocate(LARGE, owner(n)) for n in range(1, 100)]
    ipam.release(leases[3])
    lab.shared.swap = swap
    ipam.publish()
    assert len(lab.told()) == 99
