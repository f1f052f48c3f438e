"""Requests of many threads in few swaps, and what each of them is told."""

from __future__ import annotations

import threading
import time

import pytest
from attrs import evolve

from podnet.engine.combining import Combiner
from podnet.engine.leases import Ipam
from podnet.engine.requests import Allocation
from podnet.errors import (
    InvalidConfigError,
    PoolExhaustedError,
    StoreError,
    TryAgainLaterError,
)
from podnet.ipam.pick import Lowest
from podnet.ipam.want import IpamWant
from podnet.model.block import Block
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore

POOL = Pool("p", "10.0.0.0/24", picker="lowest")


def owner(n=0):
    return Owner(f"c{n}", "eth1", "ns", f"pod-{n}", f"uid-{n}")


class Slow(MemoryStore):
    """Every swap takes a while, as on a disk or over a network."""

    def __init__(self, seconds=0.02):
        super().__init__()
        self.seconds = seconds
        self.swaps = 0
        self.loads = 0

    def load(self, key):
        self.loads += 1
        return super().load(key)

    def swap(self, key, new, expected):
        time.sleep(self.seconds)
        self.swaps += 1
        return super().swap(key, new, expected)


def together(count, work):
    """Run ``work(n)`` in threads that start at once; return results or errors in order."""
    answers, start = [None] * count, threading.Barrier(count)

    def run(n):
        start.wait()
        try:
            answers[n] = work(n)
        except Exception as error:  # each is looked at by the test
            answers[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return answers


def test_threads_ride_in_one_swap():
    store = Slow()
    ipam = Ipam(store)
    leases = together(32, lambda n: ipam.allocate(POOL, owner(n)))
    assert sorted(str(x.ip) for x in leases) == sorted(f"10.0.0.{n}" for n in range(1, 33))
    assert {x.owner for x in leases} == {owner(n) for n in range(32)}
    # One for the first, one for those who came meanwhile; a few more if the machine is slow.
    assert store.swaps <= 8
    store.swaps = 0
    gone = together(32, lambda n: ipam.release(owner(n), pool=POOL))
    assert [x[0].owner for x in gone] == [owner(n) for n in range(32)]
    assert store.swaps <= 8
    assert list(ipam.leases()) == []


def test_one_owner_asking_in_many_threads_gets_one_address():
    ipam = Ipam(Slow())
    leases = together(16, lambda _: ipam.allocate(POOL, owner()))
    assert len(set(leases)) == 1
    assert len(list(ipam.leases())) == 1


def test_each_thread_has_its_own_refusal():
    ipam = Ipam(Slow(0.005))
    small = Pool("s", "10.0.0.0/29", picker="lowest")
    answers = together(12, lambda n: ipam.allocate(small, owner(n)))
    refused = [x for x in answers if isinstance(x, PoolExhaustedError)]
    assert len(answers) - len(refused) == 6
    assert len({id(x) for x in refused}) == 6
    assert all("has 6 and all are held" in x.msg for x in refused)


def test_an_unknown_outcome_is_undone_by_everyone_it_happened_to():
    class Lost(Slow):
        broken = True

        def swap(self, key, new, expected):
            won = super().swap(key, new, expected)
            if self.broken:
                self.broken = False
                raise StoreError("the reply was lost")
            return won

    ipam = Ipam(Lost())
    answers = together(8, lambda n: ipam.allocate(POOL, owner(n)))
    lost = [x for x in answers if isinstance(x, StoreError)]
    assert lost
    kept = [x for x in answers if not isinstance(x, StoreError)]
    assert {x.owner for x in ipam.leases()} == {x.owner for x in kept}


def test_a_thread_that_is_interrupted_in_the_swap_leaves_the_others_with_an_error():
    class Interrupted(Slow):
        broken = True

        def swap(self, key, new, expected):
            if self.broken:
                self.broken = False
                time.sleep(0.1)
                raise KeyboardInterrupt
            return super().swap(key, new, expected)

    ipam = Ipam(Interrupted())
    ipam_answers = []

    def first():
        with pytest.raises(KeyboardInterrupt):
            ipam.allocate(POOL, owner())
        ipam_answers.append("interrupted")

    thread = threading.Thread(target=first)
    thread.start()
    thread.join(30)
    assert ipam_answers == ["interrupted"]
    # The lane serves on.
    assert ipam.allocate(POOL, owner(1)).owner == owner(1)


def test_combiner_serves_the_longest_waiting_next_and_everyone_once():
    served = []

    def serve(batch):
        time.sleep(0.002)
        served.append(list(batch))

    combiner = Combiner(serve)
    together(24, lambda n: [combiner.run((n, turn)) for turn in range(5)])
    requests = [request for batch in served for request in batch]
    assert sorted(requests) == [(n, turn) for n in range(24) for turn in range(5)]
    assert len(served) < 60


def test_combiner_survives_a_serve_that_raises():
    def serve(batch):
        if "bad" in batch:
            raise ValueError("bad")

    combiner = Combiner(serve)
    with pytest.raises(ValueError, match="bad"):
        combiner.run("bad")
    answers = together(6, lambda n: combiner.run("bad" if n == 3 else n))
    assert sum(isinstance(x, ValueError) for x in answers) == 1
    combiner.run("good")


def test_released_addresses_rest_unless_nothing_else_is_free():
    now = [1000.0]
    ipam = Ipam(MemoryStore(), clock=lambda: now[0])
    pool = Pool("s", "10.0.0.0/29", picker="lowest", cool_down=30)
    leases = [ipam.allocate(pool, owner(n)) for n in range(4)]
    ipam.release(leases[0])
    assert str(ipam.allocate(pool, owner(10)).ip) == "10.0.0.5"
    now[0] += 31
    assert str(ipam.allocate(pool, owner(11)).ip) == "10.0.0.1"
    ipam.release(leases[2])
    assert str(ipam.allocate(pool, owner(12)).ip) == "10.0.0.6"
    assert str(ipam.allocate(pool, owner(13)).ip) == "10.0.0.3"
    # Whoever asks for it by name does not wait.
    ipam.release(leases[1])
    assert str(ipam.allocate(pool, owner(14), requested="10.0.0.2").ip) == "10.0.0.2"


def test_native_pools_hand_out_what_is_free_longest():
    now = [1000.0]
    ipam = Ipam(MemoryStore(), clock=lambda: now[0])
    pool = Pool("s", "10.0.0.0/29")
    leases = [ipam.allocate(pool, owner(n)) for n in range(6)]
    for n in (3, 1, 2):
        now[0] += 1
        ipam.release(leases[n])
    again = [str(ipam.allocate(pool, owner(n)).ip) for n in (10, 11, 12)]
    assert again == [str(leases[n].ip) for n in (3, 1, 2)]


def test_round_robin_goes_on_where_it_was_also_in_another_process():
    store, now = MemoryStore(), [0.0]

    def clock():
        now[0] += 1
        return now[0]

    pool = Pool("s", "10.0.0.0/29", picker="round-robin")
    ipam = Ipam(store, clock=clock)
    for n in range(3):
        ipam.release(ipam.allocate(pool, owner(n)))
    held = ipam.allocate(pool, owner(3))
    assert str(held.ip) == "10.0.0.4"
    assert str(Ipam(store, clock=clock).allocate(pool, owner(4)).ip) == "10.0.0.5"


def test_a_pool_names_its_picker_and_an_unknown_name_is_refused():
    ipam = Ipam(MemoryStore(), picker=Lowest())
    with pytest.raises(InvalidConfigError, match="picker 'best' is unknown: it is none of lowest"):
        ipam.allocate(Pool("s", "10.0.0.0/29", picker="best"), owner())


def test_of_several_pools_the_first_with_room():
    ipam = Ipam(MemoryStore())
    pools = [
        Pool("0", "10.0.0.0/30", domain="d", picker="lowest"),
        Pool("0", "10.1.0.0/30", domain="d", picker="lowest"),
    ]
    got = [str(ipam.allocate(pools, owner(n)).ip) for n in range(4)]
    assert got == ["10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"]
    assert str(ipam.allocate(pools, owner(3)).ip) == "10.1.0.2"
    with pytest.raises(PoolExhaustedError, match="no range of pool '0' has a free address") as e:
        ipam.allocate(pools, owner(4))
    assert "10.0.0.1 by ns/pod-0 (eth1)" in e.value.details
    ipam.release(owner(2))
    assert str(ipam.allocate(pools, owner(5), requested="10.1.0.1").ip) == "10.1.0.1"


def test_a_claimed_address_outlives_gc_and_ends_with_a_release():
    ipam = Ipam(MemoryStore(), node="n")
    claim = Owner("claim:ns/db", "eth1", "ns")
    lease = ipam.allocate(POOL, claim, network="net", claim="ns/db")
    other = ipam.allocate(POOL, owner(), network="net")
    assert ipam.sweep("net", ()) == (other,)
    assert ipam.allocate(POOL, claim, network="net", claim="ns/db") == lease
    assert ipam.release(claim) == (lease,)


def held_by_node(store, node="b", **rest):
    block = Block(domain="p", version=4, index=0x0A000000 >> 9, holder=node, **rest)
    assert store.swap(block.key, block, None)
    return block.key


def test_nothing_is_taken_out_of_another_nodes_block_and_it_is_asked_for():
    store = MemoryStore()
    key = held_by_node(store)
    ipam = Ipam(store, node="a", sleep=lambda _: None, patience=0.2)
    with pytest.raises(TryAgainLaterError, match="in blocks of other nodes") as raised:
        ipam.allocate(POOL, owner())
    assert "held by b" in str(raised.value.details)
    block, version = store.load(key)
    assert block.recalled
    assert block.leases == {}
    store.swap(key, evolve(block, holder="", recalled=False), version)
    assert str(ipam.allocate(POOL, owner()).ip) == "10.0.0.1"


def test_a_block_given_back_while_one_waits_is_used():
    store = MemoryStore()
    key = held_by_node(store)

    def give_back(_seconds):
        block, version = store.load(key)
        if block.recalled:
            store.swap(key, evolve(block, holder="", recalled=False), version)

    ipam = Ipam(store, node="a", sleep=give_back)
    assert str(ipam.allocate(POOL, owner()).ip) == "10.0.0.1"


def test_leases_in_another_nodes_block_can_be_taken_away():
    store = MemoryStore()
    ipam = Ipam(store, node="a", sleep=lambda _: None)
    lease = ipam.allocate(POOL, owner())
    block, version = store.load("p/4/" + f"{0x0A000000 >> 9:06x}")
    store.swap(block.key, evolve(block, holder="b"), version)
    assert ipam.release(owner()) == (lease,)
    assert store.load(block.key)[0].holder == "b"


def test_large_pools_look_into_few_blocks_and_find_the_last_address():
    store = Slow(0)
    wide = Pool("w", "10.0.0.0/18", first="10.0.0.10", last="10.0.63.250", picker="lowest")
    filler = Ipam(store)
    for n in range(20):
        filler.allocate(wide, owner(n), requested=f"10.0.{2 * n}.10")
    fresh = Ipam(store)
    store.loads = 0
    lease = fresh.allocate(wide, owner(100))
    assert lease.ip.value >> 9 in {(0x0A000000 >> 9) + n for n in range(20)}
    assert store.loads <= 5
    store.loads = 0
    fresh.allocate(wide, owner(101))
    assert store.loads <= 2


def test_a_plan_in_use_hears_of_freed_addresses_whatever_else_is_asked_for():
    ipam = Ipam(MemoryStore())
    wide = Pool("w", "10.0.0.0/20", first="10.0.3.250", last="10.0.4.5", picker="lowest")
    leases = [ipam.allocate(wide, owner(n)) for n in range(12)]
    plan = ipam._serving.plan(wide)
    with pytest.raises(PoolExhaustedError):
        ipam.allocate(wide, owner(99))
    for n in range(300):
        ipam._serving.plan(Pool(f"other {n}", "10.9.0.0/24"))
    ipam.release(leases[3])
    late = Allocation(what="allocate", plan=plan, owner=owner(100), network="", wanted=None)
    ipam._serving.run("w", 4, late)
    assert late.lease.ip == leases[3].ip


def test_patience_counts_all_the_time_that_passes():
    store, now = MemoryStore(), [0.0]
    held_by_node(store)
    load = store.load

    def slow(key):
        now[0] += 1
        return load(key)

    store.load = slow
    ipam = Ipam(store, node="a", sleep=lambda _: None, monotonic=lambda: now[0], patience=5.0)
    with pytest.raises(TryAgainLaterError, match="in blocks of other nodes"):
        ipam.allocate(POOL, owner())
    assert now[0] < 10


def test_a_claims_lease_is_not_taken_back_with_those_of_one_of_its_pods():
    ipam = Ipam(MemoryStore(), node="n")
    full = Pool("full", "fd00::/128")
    ipam.allocate(full, owner())
    claim = Owner("claim:ns/db", "eth1", "ns")
    for keeps, left in (("ns/db", 1), ("", 0)):
        with pytest.raises(PoolExhaustedError):
            ipam.acquire(IpamWant(sets=[POOL, full]), claim, claim=keeps)
        assert len(ipam.release(claim)) == left
