"""What a signal or a mistake in a picker leaves behind: others are served as if nothing was."""

from __future__ import annotations

import inspect
import sys
import threading
from itertools import count, takewhile

import pytest

from podnet.engine import combining
from podnet.engine.combining import Combiner
from podnet.engine.leases import Ipam
from podnet.errors import StoreError
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore

POOL = Pool("p", "10.0.0.0/24")
SOURCE = inspect.getsource(combining).splitlines()


class Interrupting:
    """Raises KeyboardInterrupt at one line of the module, as a signal does in the main thread.

    The end of a ``with`` block is left out: the interpreter looks for signals after calls, so
    that none comes between the last statement and the release of the lock.
    """

    def __init__(self, number):
        self.number = number
        self.hit = False
        self._opened = set()

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != combining.__file__:
            return None
        if event == "line" and not self._is_end(frame):
            self.number -= 1
            if self.number == 0:
                sys.settrace(None)
                self.hit = True
                raise KeyboardInterrupt
        return self

    def _is_end(self, frame):
        if not SOURCE[frame.f_lineno - 1].strip().startswith("with "):
            return False
        place = (id(frame), frame.f_lineno)
        self._opened ^= {place}
        return place not in self._opened


def run_interrupted(combiner, number):
    """Return whether the line was reached."""
    signal = Interrupting(number)
    sys.settrace(signal)
    try:
        combiner.run("interrupted")
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return signal.hit


def in_threads(combiner, *requests):
    threads = [
        threading.Thread(target=combiner.run, args=(each,), daemon=True) for each in requests
    ]
    for thread in threads:
        thread.start()
    return threads


def wait_until(true):
    for _ in range(10000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it does not happen")


def assert_end(threads):
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def leader_interrupted_at(number):
    served, others = [], []

    def serve(batch):
        if batch == ["interrupted"]:
            # They come while it serves: one of them is to lead next.
            others.extend(in_threads(combiner, "a", "b"))
            wait_until(lambda: len(combiner._waiting) == 2)
        served.extend(batch)

    combiner = Combiner(serve)
    hit = run_interrupted(combiner, number)
    assert_end(others)
    assert_end(in_threads(combiner, "later"))
    assert {"later", *(("a", "b") if others else ())} <= {*served}
    return hit


def test_a_leader_that_is_interrupted_anywhere_hands_over():
    assert sum(1 for _ in takewhile(leader_interrupted_at, count(1))) > 10


def waiter_interrupted_at(number, before):
    """Interrupt one who comes after ``before``, who come while another is served."""
    served, others, go = [], [], threading.Event()

    def serve(batch):
        served.extend(batch)
        if batch == ["first"]:
            others.extend(in_threads(combiner, *before))
            wait_until(lambda: len(combiner._waiting) == len(before))
            go.set()
            for _ in range(20):  # until the other has joined, if it ever does
                if len(combiner._waiting) > len(before):
                    break
                threading.Event().wait(0.001)

    combiner = Combiner(serve)
    others.extend(in_threads(combiner, "first"))
    assert go.wait(10)
    hit = run_interrupted(combiner, number)
    assert_end(others)
    assert_end(in_threads(combiner, "later"))
    assert served[-1] == "later"
    assert served.count("interrupted") <= 1
    assert hit or "interrupted" in served
    return hit


@pytest.mark.parametrize("before", [(), ("before",)], ids=["next to lead", "in a batch"])
def test_one_who_waits_and_is_interrupted_anywhere_is_in_nobodys_way(before):
    at = takewhile(lambda number: waiter_interrupted_at(number, before), count(1))
    assert sum(1 for _ in at) > 5


class Failing:
    """A picker that takes the lowest, and raises when it is told to."""

    fails = False

    def pick(self, free, _):
        if self.fails:
            self.fails = False
            raise KeyError("a mistake in a picker")
        return next((low for low, _ in free), None)


def owner(n):
    return Owner(f"c{n}", "eth1")


def test_what_an_interrupted_batch_had_decided_is_not_taken_for_done():
    store, picker, batches = MemoryStore(), Failing(), []
    ipam = Ipam(store, picker=picker)
    held = ipam.allocate(POOL, owner(0))
    loading, go, load = threading.Event(), threading.Event(), store.load

    def slow(key):
        loading.set()
        assert go.wait(10)
        return load(key)

    def run(work):
        try:
            batches.append(work())
        except (KeyError, StoreError) as error:
            batches.append(error)

    store.load = slow
    works = [
        lambda: ipam.release(owner(9), pool=POOL),
        lambda: ipam.release(held),
        lambda: ipam.allocate(POOL, owner(1)),
    ]
    threads = []
    combiner = ipam._serving._lanes["p", 4][1]
    for n, work in enumerate(works):
        threads.append(threading.Thread(target=run, args=(work,)))
        threads[-1].start()
        wait_until(lambda n=n: loading.is_set() and len(combiner._waiting) == n)
    picker.fails = True
    go.set()
    assert_end(threads)
    assert sorted(type(each).__name__ for each in batches) == ["KeyError", "StoreError", "tuple"]
    assert list(ipam.leases()) == [held]
    assert ipam.allocate(POOL, owner(2)).ip != held.ip
    assert held in ipam.leases()
