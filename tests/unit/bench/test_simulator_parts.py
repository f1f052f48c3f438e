"""The simulator's parts: time, the modelled store, blocks, and what is counted."""

from __future__ import annotations

from collections import deque
from random import Random
from statistics import median

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from simulation.blocks import Block
from simulation.clock import Clock
from simulation.medium import KUBERNETES, ModelStore, Object
from simulation.tally import Tally

from podnet.ipam import pick, space
from podnet.ipam.pick import Ask
from podnet.model.lease import Owner
from podnet.model.pool import ALL, Pool

EXACT = evolve(KUBERNETES, spread=0.0, lost=0.0, bytes_per_second=1e15)


def play(*processes, clock=None):
    clock = clock or Clock()
    for process in processes:
        clock.start(process)
    clock.run(lambda: True)
    return clock


class TestClock:
    def test_what_is_due_happens_in_order_of_time_and_then_of_request(self):
        clock, seen = Clock(), []
        clock.after(2.0, seen.append, "late")
        clock.after(1.0, seen.append, "first")
        clock.after(1.0, seen.append, "second")
        clock.run(lambda: True)
        assert seen == ["first", "second", "late"]
        assert clock.now == 2.0

    def test_a_process_goes_on_when_its_time_has_come(self):
        clock, seen = Clock(), []

        def process(name, pause):
            for _ in range(3):
                yield pause
                seen.append((name, clock.now))

        play(process("a", 2.0), process("b", 3.0), clock=clock)
        assert seen == [("a", 2), ("b", 3), ("a", 4), ("b", 6), ("a", 6), ("b", 9)]

    def test_it_ends_when_the_looker_says_so(self):
        clock = Clock()

        def for_ever():
            while True:
                yield 1.0

        clock.start(for_ever())
        clock.run(lambda: clock.now < 5000)
        assert 5000 <= clock.now <= 7000


class Rig:
    def __init__(self, medium=EXACT):
        self.clock, self.tally = Clock(), Tally()
        self.store = ModelStore(self.clock, medium, Random(1), self.tally)
        self.won = []

    def writer(self, thing, expected, pause=0.0, leases=0):
        applied = []
        yield pause
        won = yield from self.store.write(thing, expected, leases, 1, lambda: applied.append(1))
        self.won.append((won, bool(applied), round(self.clock.now, 6)))


class TestStore:
    def test_of_two_who_write_one_version_one_wins(self):
        rig, thing = Rig(), Object()
        play(rig.writer(thing, 0), rig.writer(thing, 0, 0.001), clock=rig.clock)
        assert [(won, applied) for won, applied, _ in rig.won] == [(True, True), (False, False)]
        assert (thing.version, rig.tally.writes, rig.tally.conflicts) == (1, 2, 1)

    def test_writes_wait_in_line(self):
        rig = Rig(evolve(EXACT, writes_per_second=10.0))
        play(*(rig.writer(Object(), 0) for _ in range(3)), clock=rig.clock)
        assert [when for _, _, when in rig.won] == [0.005, 0.105, 0.205]

    def test_what_is_too_much_is_told_to_come_again(self):
        rig = Rig(evolve(EXACT, writes_per_second=10.0, in_line=2))
        play(*(rig.writer(Object(), 0) for _ in range(6)), clock=rig.clock)
        assert rig.tally.throttled == 3
        assert [won for won, _, _ in rig.won] == [True] * 6
        assert rig.tally.writes == 9
        assert rig.won[-1][2] > 1.0

    def test_a_lost_answer_is_found_out_about(self):
        rig, thing = Rig(evolve(EXACT, lost=1.0)), Object()
        play(rig.writer(thing, 0), rig.writer(thing, 0, 0.001), clock=rig.clock)
        assert sorted(rig.won)[1][:2] == (True, True)
        assert thing.version == 1
        assert rig.tally.writes == 4
        assert all(when > EXACT.timeout for _, _, when in rig.won)

    def test_nothing_is_done_while_it_is_away(self):
        rig = Rig(evolve(EXACT, outage=(0.0, 10.0)))
        play(rig.writer(Object(), 0), clock=rig.clock)
        assert 10.0 < rig.won[0][2] < 12.1

    def test_an_object_that_is_too_large_is_not_taken(self):
        rig = Rig()
        play(rig.writer(Object(), 0, leases=10_000), clock=rig.clock)
        assert rig.won[0][:2] == (False, False)
        assert rig.tally.too_large == 1

    def test_times_are_spread_around_the_median(self):
        rig = Rig(evolve(EXACT, spread=0.4))
        times = []

        def reader():
            for _ in range(2000):
                begin = rig.clock.now
                yield from rig.store.read()
                times.append(rig.clock.now - begin)

        play(reader(), clock=rig.clock)
        assert median(times) == pytest.approx(KUBERNETES.read, rel=0.05)
        assert max(times) > 2 * KUBERNETES.read

    def test_a_whole_object_is_written_or_what_changes(self):
        sizes = []
        for whole in (True, False):
            rig = Rig(evolve(EXACT, whole=whole))
            play(rig.writer(Object(), 0, leases=100), clock=rig.clock)
            sizes.append(rig.tally.bytes)
        assert sizes == [600 + 100 * 250, 600 + 250]


@given(st.lists(st.integers(0, 15), max_size=80))
def test_a_block_of_the_model_hands_out_what_podnet_picks(releases):
    """A number releases the one of the held addresses that is so far from the lowest."""
    size = 16
    pool = Pool("pool", "10.0.0.0/28", edges=ALL)
    block, held, freed, now = Block(0, size), {}, {}, 1.0
    for release in [*releases, *[15] * size]:
        now += 1.0
        if release < len(held):
            offset = sorted(held)[release]
            del held[offset]
            freed[pool.network.first + offset] = now
            block.put(offset, now)
        elif block.free:
            taken = sum(1 << (offset + pool.network.first % 512) for offset in held)
            index = pool.network.first >> 9
            free = space.Free(space.intervals(pool), {index: taken}, [index])
            ask = Ask(pool=pool, owner=Owner("c", "eth1"), freed=freed, now=now)
            wanted = pick.LongestFree().pick(free, ask)
            offset = block.take()
            assert pool.network.first + offset == wanted
            freed.pop(wanted, None)
            held[offset] = None
        assert block.used == len(held)
        assert block.free == size - len(held)


class TestTally:
    def test_stranded_is_an_average_over_time(self):
        tally = Tally()
        tally.strand(10.0, 100)
        tally.strand(20.0, -50)
        assert tally.stranded(40.0) == (100 * 10 + 50 * 20) / 40
        assert tally.most_stranded == 100

    def test_users_of_a_block_are_forgotten_with_their_last_lease(self):
        block = Block(0, 4)
        block.count("a", 2)
        block.count("b", 1)
        block.count("a", -2)
        assert block.users == {"b": 1}
        assert block.freed == deque()
