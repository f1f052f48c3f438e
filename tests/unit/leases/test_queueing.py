"""Who has lost a swap waits in the store's queue, where it has one."""

from __future__ import annotations

from contextlib import contextmanager

import podnet
from podnet.stores.memory import MemoryStore

POOL = podnet.Pool("storage", "10.0.0.0/24")


class Busy(MemoryStore):
    """Lets others win as often as it is told to; tells what happened in which order."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        self.seen = []

    def load(self, key):
        self.seen.append("load")
        return super().load(key)

    def swap(self, key, new, expected):
        if self.losses:
            self.losses -= 1
            self.seen.append("lost")
            return False
        self.seen.append("won")
        return super().swap(key, new, expected)


class Queueing(Busy):
    @contextmanager
    def queue(self, prefix):
        self.seen.append(f"in {prefix}")
        yield
        self.seen.append("out")


def allocate(store, times=1):
    pauses = []
    with podnet.Ipam(store, jitter=lambda: 1.0, sleep=pauses.append) as ipam:
        for number in range(times):
            ipam.allocate(POOL, podnet.Owner(f"c{number}", "eth1"))
    return pauses


def test_nobody_queues_who_has_not_lost():
    store = Queueing(0)
    assert allocate(store, 2) == []
    assert store.seen == ["load", "won"] * 2


def test_who_has_lost_loads_decides_and_swaps_in_the_queue():
    store = Queueing(2)
    assert allocate(store) == []
    turn = "in storage/4/"
    assert store.seen == ["load", "lost", turn, "load", "lost", "out", turn, "load", "won", "out"]


def test_who_has_lost_once_queues_for_some_time_and_not_for_ever():
    store = Queueing(1)
    allocate(store, 100)
    assert store.seen.count("in storage/4/") == 64
    assert store.seen[-2:] == ["load", "won"]


def test_without_a_queue_pauses_grow():
    store = Busy(4)
    pauses = allocate(store)
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == 3
