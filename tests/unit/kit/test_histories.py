"""Histories of stores and of address management: what can be is accepted, what cannot is not."""

from __future__ import annotations

import itertools

import pytest

from podnet.engine.leases import Ipam
from podnet.errors import StoreError
from podnet.model.lease import Owner
from podnet.stores.memory import MemoryStore
from podnet.testing import (
    UNKNOWN,
    FaultyStore,
    NotLinearizableError,
    Operation,
    in_processes,
    ipam_history,
    store_history,
)
from podnet.testing.allocating_contract import POOLS
from podnet.testing.ipam_history import Allocate, End, RecordedIpam, Release, check_ipam
from podnet.testing.store_history import Keys, Load, RecordedStore, Swap, check_store
from podnet.testing.together import in_threads

A, B = ("A", "1"), ("B", "2")


def told(*rows):
    """Operations of (call, answer, start, end)."""
    return [
        Operation(who=f"w{n}", call=row[0], answer=row[1], start=row[2], end=row[3])
        for n, row in enumerate(rows)
    ]


STORES = {
    "lost update": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), A, 2, 3),
        (Swap("k", "B", "1"), True, 4, 7),
        (Swap("k", "C", "1"), True, 5, 8),
    ],
    "stale read": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), A, 2, 3),
        (Swap("k", "B", "1"), True, 4, 5),
        (Load("k"), A, 6, 7),
    ],
    "dirty failure": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), A, 2, 3),
        (Swap("k", "B", "1"), False, 4, 5),
        (Load("k"), B, 6, 7),
    ],
    "a win that nobody sees": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), None, 2, 3),
    ],
    "two create": [(Swap("k", "A", None), True, 0, 1), (Swap("k", "B", None), True, 0, 1)],
    "nobody creates": [(Swap("k", "A", None), False, 0, 1), (Swap("k", "B", None), False, 0, 1)],
    "a version of two contents": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), A, 2, 3),
        (Swap("k", "B", "1"), True, 4, 5),
        (Load("k"), ("B", "1"), 6, 7),
    ],
    "a content in two versions": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), A, 2, 3),
        (Load("k"), ("A", "2"), 4, 5),
    ],
    "a key that was not listed": [
        (Swap("k", "A", None), True, 0, 1),
        (Keys(""), frozenset(), 2, 3),
    ],
    "a key that is listed too early": [
        (Keys(""), frozenset({"k"}), 0, 1),
        (Swap("k", "A", None), True, 2, 3),
    ],
    "a delete by a stale version": [
        (Swap("k", "A", None), True, 0, 1),
        (Load("k"), A, 2, 3),
        (Swap("k", "B", "1"), True, 4, 5),
        (Swap("k", None, "1"), True, 6, 7),
    ],
}


@pytest.mark.parametrize("name", STORES)
def test_what_no_store_may_answer(name):
    with pytest.raises(NotLinearizableError):
        check_store(told(*STORES[name]))


def test_what_a_store_may_answer():
    check_store(
        told(
            (Swap("k", "A", None), UNKNOWN, 0, 1),
            (Load("k"), None, 2, 3),
            (Keys("k"), frozenset({"k"}), 3, 9),
            (Keys("x"), frozenset(), 9.2, 9.5),
            (Keys(""), UNKNOWN, 3, 4),
            (Load("k"), A, 8, 9),
            (Swap("k", "B", "1"), True, 10, 20),
            (Swap("k", "C", "1"), False, 10, 20),
            (Swap("k", None, "never seen"), False, 10, 20),
            (Load("k"), B, 21, 22),
            (Swap("k", None, "2"), True, 23, 24),
            (Swap("k", None, None), True, 25, 26),
            (Load("k"), None, 27, 28),
            (Load("other"), None, 0, 1),
        )
    )


OWNERS = [Owner(f"c{n}", "eth1", "ns", f"p{n}", f"u{n}") for n in range(3)]
NEXT = Owner("c0'", "eth1", "ns", "p0", "u0")
MAY = {"p": ["a", "b"], "q": ["b", "c"]}
IPAMS = {
    "two owners": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Allocate("p", OWNERS[1]), ("a", 2), 0, 1),
    ],
    "two pools": [
        (Allocate("p", OWNERS[0]), ("b", 1), 0, 1),
        (Allocate("q", OWNERS[1]), ("b", 2), 0, 1),
    ],
    "not the pool's": [(Allocate("p", OWNERS[0]), ("c", 1), 0, 1)],
    "refused while free": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Allocate("p", OWNERS[1]), None, 2, 3),
    ],
    "refused while one or the other is free": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Allocate("p", OWNERS[2]), None, 2, 7),
        (Release("p", OWNERS[0]), frozenset({("a", 1)}), 3, 4),
        (Allocate("p", OWNERS[1]), ("b", 1), 5, 6),
    ],
    "requested and refused": [(Allocate("p", OWNERS[0], "a"), None, 0, 1)],
    "another than requested": [(Allocate("p", OWNERS[0], "a"), ("b", 1), 0, 1)],
    "another the second time": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Allocate("p", NEXT), ("b", 2), 2, 3),
    ],
    "a number twice": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Release("p", OWNERS[0]), frozenset({("a", 1)}), 2, 3),
        (Allocate("p", OWNERS[1]), ("a", 1), 4, 5),
    ],
    "a late release": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Release("p", OWNERS[0]), frozenset({("a", 1)}), 2, 3),
        (Allocate("p", OWNERS[1]), ("a", 2), 4, 5),
        (End("a", 1), frozenset({("a", 2)}), 6, 7),
    ],
    "a lost lease": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Release("p", OWNERS[0]), frozenset(), 2, 3),
    ],
    "released and still held": [
        (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
        (Allocate("p", OWNERS[1]), ("b", 1), 0, 1),
        (Release("p", OWNERS[0]), frozenset({("a", 1)}), 2, 3),
        (Allocate("p", OWNERS[2]), None, 4, 5),
    ],
}


@pytest.mark.parametrize("name", IPAMS)
def test_what_no_address_management_may_answer(name):
    with pytest.raises(NotLinearizableError):
        check_ipam(told(*IPAMS[name]), MAY)


def test_what_address_management_may_answer():
    check_ipam(
        told(
            (Allocate("p", OWNERS[0]), ("a", 1), 0, 1),
            (Allocate("p", OWNERS[0]), ("a", 1), 2, 3),
            (Allocate("p", NEXT), ("a", 2), 4, 5),
            (Release("p", OWNERS[0]), frozenset(), 6, 7),
            (End("a", 1), frozenset(), 6, 7),
            (Allocate("p", OWNERS[1]), UNKNOWN, 8, 9),
            (Allocate("p", OWNERS[2]), None, 10, 11),
            (Release("p", OWNERS[1]), frozenset({("b", 7)}), 12, 13),
            (Allocate("q", OWNERS[2], "b"), ("b", 8), 14, 15),
            (Allocate("q", OWNERS[2], "c"), None, 16, 17),
            (End("a", 2), frozenset({("a", 2)}), 18, 19),
        ),
        MAY,
    )


def test_failures_are_of_unknown_outcome():
    store = FaultyStore(MemoryStore())
    recorded = RecordedIpam(Ipam(store, sleep=lambda _: None), "me")
    store.plan(["fine", "lost", "refused"])
    with pytest.raises(StoreError):
        recorded.allocate(POOLS[1], OWNERS[0])
    history = recorded.recorder.history
    assert [(type(op.call), op.answer) for op in history] == [
        (Allocate, UNKNOWN),
        (Release, UNKNOWN),
    ]
    over_store = RecordedStore(store, "me")
    store.plan(["refused"])
    with pytest.raises(StoreError):
        over_store.load("k")
    assert over_store.recorder.history[0].answer is UNKNOWN


def test_what_is_recorded_under_faults_is_explained():
    """Wrong answers of the network make an outcome unknown, not the history impossible."""
    inner = MemoryStore()

    def user(number):
        store = FaultyStore(inner)
        faults = itertools.cycle(["fine"] * (5 + number) + ["lost"] + ["fine"] * 4 + ["refused"])
        store.plan(itertools.islice(faults, 500))
        ipam = Ipam(store, sleep=lambda _: None, attempts=1000)
        return ipam_history.work(ipam, f"user-{number}", pools=POOLS, steps=15)

    may = {"border": ["10.0.1.254", "10.0.1.255", "10.0.2.0", "10.0.2.1"]}
    histories = in_threads(4, user, shaking="podnet")
    assert any(op.answer is UNKNOWN for op in itertools.chain(*histories))
    check_ipam(itertools.chain(*histories), {**may, "beyond": ["10.0.2.1", "10.0.2.2"]})


def test_processes_tell_what_they_did():
    histories = in_processes(
        2, lambda n: store_history.work(MemoryStore(), f"p{n}", keys=["k"], steps=40)
    )
    assert [{op.who for op in history} for history in histories] == [{"p0"}, {"p1"}]
    # They had a store each: together it is no history of one.
    with pytest.raises(NotLinearizableError):
        check_store(itertools.chain(*histories))
