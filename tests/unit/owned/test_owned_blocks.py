"""The pure part: a node's record and the shared copy against a history written down in full."""

from __future__ import annotations

from attrs import evolve, field, mutable
from hypothesis import given
from hypothesis import strategies as st

from podnet.ipam import grant, owned
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Owner
from podnet.model.pool import AUTO, OWNED, SHARED, Pool

POOL = Pool("p", "10.0.0.0/8", domain="d")
EMPTY = Block(domain="d", version=4, index=0x0A0000 >> 1)
OFFSETS = st.integers(1, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), OFFSETS),
        st.tuples(st.just("renew"), OFFSETS),
        st.tuples(st.just("free"), OFFSETS),
        st.tuples(st.just("take away"), OFFSETS),
        st.tuples(st.sampled_from(["publish", "merge", "recall"]), st.just(0)),
    ),
    max_size=30,
)


def granted(block, offset, number, node="n"):
    owner = Owner(f"c{number}", "eth1")
    new, _ = grant.grant(
        block, block.first + offset, POOL, owner, node=node, network="", now=float(number)
    )
    return new


def ended(block, offset, now):
    return grant.end(block, block.leases[offset], now=now)[0]


@mutable
class Course:
    """A block held, and, told apart from any code, which grants there still are."""

    shared: Block = field(factory=lambda: owned.claimed(EMPTY, "n", 1))
    record: Block = field(init=False)
    alive: dict = field(factory=dict)
    number: int = 1
    recalled: bool = False

    def __attrs_post_init__(self):
        self.record = owned.opened(self.shared)

    def do(self, what, offset):
        self.number += 1
        mine, there = self.record.leases, self.shared.leases
        match what:
            case "grant" if offset not in mine:
                self.record = granted(self.record, offset, self.number)
                self.alive[offset] = self.record.leases[offset].sequence
            case "renew" if offset in mine:
                owner = Owner(f"c{self.number}", "eth1")
                self.record, lease = grant.renew(
                    self.record, mine[offset], owner, node="n", network=""
                )
                self.alive[offset] = lease.sequence
            case "free" if offset in mine:
                self.record = ended(self.record, offset, float(self.number))
                self.alive.pop(offset, None)
            case "take away" if offset in there:
                if self.alive.get(offset) == there[offset].sequence:
                    del self.alive[offset]
                self.shared = ended(self.shared, offset, float(self.number))
            case "recall":
                self.shared, self.recalled = evolve(self.shared, recalled=True), True
            case "merge":
                self.record, _ = owned.merge(self.record, self.shared, 99.0)
            case "publish" if not self.recalled:
                self.record, _ = owned.merge(self.record, self.shared, 99.0)
                self.shared = self.record


@given(STEPS)
def test_no_grant_is_lost_and_none_comes_back(steps):
    course = Course()
    for what, offset in steps:
        before = course.record.sequence, course.shared.sequence
        course.do(what, offset)
        assert before <= (course.record.sequence, course.shared.sequence)
        assert owned.is_held(course.record, course.shared, "n")
        merged, gone = owned.merge(course.record, course.shared, 99.0)
        assert {n: x.sequence for n, x in merged.leases.items()} == course.alive
        assert {x.ip.value % BLOCK_SIZE for x in gone} == set(course.record.leases) - set(
            course.alive
        )
        assert (merged is course.record) is (gone == ())
        assert not merged.leases.keys() & merged.freed.keys()
        assert course.shared.recalled is course.recalled
        assert course.record.holder == "n"
        assert not course.record.recalled
    back = owned.given_back(owned.merge(course.record, course.shared, 99.0)[0])
    assert {n: x.sequence for n, x in back.leases.items()} == course.alive
    assert (back.holder, back.recalled) == ("", False)
    assert back.sequence >= max((x.sequence for x in back.leases.values()), default=0)


@given(STEPS)
def test_what_is_told_is_told(steps):
    course = Course()
    for what, offset in steps:
        course.do(what, offset)
    merged, _ = owned.merge(course.record, course.shared, 99.0)
    course.shared = merged
    assert owned.is_told(course.record, merged) is (merged is course.record)
    for offset in range(1, 6):
        course.record = merged
        course.do("free" if offset in merged.leases else "grant", offset)
        assert not owned.is_told(course.record, course.shared)


def test_the_time_of_a_release_elsewhere_is_that_of_the_release():
    shared = owned.claimed(granted(EMPTY, 1, 5), "n", 2)
    record = owned.opened(shared)
    assert owned.merge(record, ended(shared, 1, 7.0), 99.0)[0].freed == {1: 7.0}
    forgotten = evolve(ended(shared, 1, 7.0), freed={})
    assert owned.merge(record, forgotten, 99.0)[0].freed == {1: 99.0}


def test_states_of_a_record():
    claim = owned.claimed(EMPTY, "n", 3)
    assert owned.state_of(owned.intent(claim)) is owned.State.CLAIMING
    assert owned.state_of(owned.opened(claim)) is owned.State.OPEN
    assert owned.state_of(owned.closing(claim)) is owned.State.CLOSING


def test_a_claim_has_landed_if_name_and_number_are_its():
    claim = owned.claimed(EMPTY, "n", 3)
    record = owned.intent(claim)
    assert owned.is_landed(record, claim, "n")
    assert owned.is_landed(record, evolve(claim, recalled=True), "n")
    assert not owned.is_landed(record, None, "n")
    assert not owned.is_landed(record, EMPTY, "n")
    assert not owned.is_landed(record, evolve(claim, holder="m"), "n")
    # Another own store of one node name.
    assert not owned.is_landed(record, evolve(claim, sequence=4), "n")


def test_who_holds_no_more_is_told_by_name_and_number():
    shared = owned.claimed(EMPTY, "n", 3)
    record = granted(owned.opened(shared), 1, 1)
    assert owned.is_held(record, shared, "n")
    assert not owned.is_held(record, None, "n")
    assert not owned.is_held(record, owned.given_back(record), "n")
    again = owned.claimed(owned.given_back(record), "n", record.sequence + 1)
    assert not owned.is_held(record, again, "n")
    taken, _ = owned.reclaimed(shared, "n", 9.0)
    assert not owned.is_held(record, owned.claimed(taken, "n", taken.sequence + 1), "n")


@given(st.integers(0, 1 << 31), st.sets(OFFSETS), st.sets(OFFSETS))
def test_reclaim_takes_a_dead_nodes_part_and_no_other(untold, dead, others):
    block = EMPTY
    for offset in dead | others:
        block = granted(block, offset, offset, "other" if offset in others else "dead")
    if dead - others:
        kept = min(dead - others)
        lease = evolve(block.leases[kept], claim="ns/kept")
        block = evolve(block, leases={**block.leases, kept: lease})
        others = others | {kept}
    for holder in ("", "dead", "other"):
        held = evolve(block, holder=holder, recalled=bool(holder))
        new, gone = owned.reclaimed(held, "dead", 50.0)
        assert set(new.leases) == others
        assert {x.ip.value % BLOCK_SIZE for x in gone} == dead - others
        if holder == "dead":
            assert (new.holder, new.recalled) == ("", False)
            # Whatever it granted without telling has a lower number, and rests.
            assert new.sequence > held.sequence + untold
            assert new.freed == dict.fromkeys(set(range(BLOCK_SIZE)) - others, 50.0)
        elif not dead - others:
            assert new is held
        else:
            assert (new.holder, new.recalled) == (holder, bool(holder))
            assert new.sequence == held.sequence
            assert new.freed == dict.fromkeys(dead - others, 50.0)


def test_a_node_whose_block_was_taken_is_told_which_leases_are_in_conflict():
    shared = owned.claimed(granted(granted(EMPTY, 1, 1), 2, 2, "other"), "n", 3)
    record = granted(owned.opened(shared), 3, 3)
    taken, _ = owned.reclaimed(shared, "n", 50.0)
    taken = granted(taken, 3, 60, "other")
    found = owned.conflicts(record, taken)
    assert [(x.lease, x.holder) for x in found] == [
        (record.leases[1], None),
        (record.leases[3], taken.leases[3]),
    ]
    assert str(found[0]) == "10.0.0.1 of c1 (eth1) is free for others now"
    assert str(found[1]) == "10.0.0.3 of c3 (eth1) is held by c60 (eth1) now"
    assert owned.conflicts(owned.closing(record), taken) == found
    assert len(owned.conflicts(record, None)) == 3


def test_a_block_given_back_in_good_order_has_no_conflicts():
    shared = owned.claimed(granted(EMPTY, 1, 1), "n", 3)
    record = owned.closing(granted(owned.opened(shared), 3, 3))
    back = ended(owned.given_back(record), 1, 9.0)
    assert owned.conflicts(record, granted(back, 1, 10, "other")) == ()


def test_mode_follows_from_the_number_of_blocks():
    small = [(0x0A000000, 0x0A000000 + 512 * 15 - 1)]
    large = [(0x0A000000, 0x0A000000 + 512 * 16 - 1)]
    for mode, few, many in ((AUTO, False, True), (OWNED, True, True), (SHARED, False, False)):
        pool = evolve(POOL, mode=mode)
        assert owned.is_owned(pool, small) is few
        assert owned.is_owned(pool, large) is many


@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 900)), max_size=6))
def test_block_runs_are_the_blocks_that_intervals_touch(parts):
    spans, start = [], 0
    for skip, length in parts:
        spans.append((start + skip, start + skip + length))
        start += skip + length + 1
    runs = owned.block_runs(spans)
    touched = {value >> 9 for low, high in spans for value in (*range(low, high, 512), low, high)}
    assert [n for low, high in runs for n in range(low, high + 1)] == sorted(touched)
    assert all(runs[n][1] + 1 < runs[n + 1][0] for n in range(len(runs) - 1))
    for index in touched:
        inside = owned.inside(spans, index)
        want = [x for low, high in spans for x in range(low, high + 1) if x >> 9 == index]
        assert [x for low, high in inside for x in range(low, high + 1)] == want
