"""The baton: one task at a time, in the order that is told, whatever they wait for."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import pytest

from podnet.errors import StoreError
from podnet.model.block import Block
from podnet.stores.memory import MemoryStore
from podnet.testing import baton
from podnet.testing.baton import (
    CooperativeCondition,
    CooperativeEvent,
    CooperativeLock,
    CooperativeRLock,
    Killed,
    Task,
    cooperating,
    current,
)
from podnet.testing.sites import BEATEN, FINE, LATE, LOST, REFUSED, TWICE, Gate


def begun(action):
    task = Task("task", action)
    task.begin()
    return task


def test_a_task_runs_from_point_to_point():
    said = []

    def action():
        said.append(current().stop("first"))
        said.append(current().stop("second"))
        return "done"

    task = begun(action)
    assert (task.point, said) == ("first", [])
    task.go_on("a")
    assert (task.point, said) == ("second", ["a"])
    task.go_on("b")
    assert (task.over, task.result, said) == (True, "done", ["a", "b"])
    assert not task.can_go_on
    assert current() is None


def test_what_a_task_raises_is_kept():
    def action():
        raise ValueError("as planned")

    assert str(begun(action).error) == "as planned"


def test_a_killed_task_only_unwinds():
    seen = []

    def action():
        try:
            current().stop("first")
        except BaseException as error:
            seen.append(error)
            current().stop("never seen")

    task = begun(action)
    task.kill()
    assert task.over
    assert isinstance(task.error, Killed)
    assert isinstance(seen[0], Killed)
    task.kill()


@pytest.mark.parametrize("lock", [CooperativeLock, CooperativeRLock])
def test_a_task_waits_for_a_lock(lock):
    mutex, order = lock(), []

    def action(name):
        with mutex:
            order.append(name)
            current().stop(name)

    one, two = begun(lambda: action("one")), begun(lambda: action("two"))
    assert one.can_go_on
    assert not two.can_go_on
    assert two.point is None
    with pytest.raises(AssertionError, match="cannot go on"):
        two.go_on()
    one.go_on()
    two.go_on()
    assert order == ["one", "two"]
    two.go_on()
    assert two.over
    assert not mutex.locked()


def test_a_waiting_task_can_be_killed():
    mutex = CooperativeLock()
    mutex.acquire()
    task = begun(mutex.acquire)
    task.kill()
    assert isinstance(task.error, Killed)


def test_a_lock_may_be_tried():
    mutex = CooperativeLock()
    assert mutex.acquire(blocking=False)
    assert not mutex.acquire(blocking=False)
    mutex.release()
    with pytest.raises(AssertionError, match="nobody holds"):
        mutex.release()


def test_a_lock_of_its_own_may_be_taken_again():
    mutex = CooperativeRLock()
    with mutex, mutex:
        assert mutex.locked()
        task = begun(lambda: mutex.acquire(blocking=False))
        assert task.result is False
    assert not mutex.locked()


def test_events():
    event = CooperativeEvent()
    assert event.wait(timeout=5) is False
    task = begun(event.wait)
    assert not task.can_go_on
    event.set()
    task.go_on()
    assert task.result is True
    event.clear()
    assert not event.is_set()


def test_conditions():
    condition, ready = CooperativeCondition(), []

    def action():
        with condition:
            return condition.wait_for(lambda: ready)

    one, two = begun(action), begun(action)
    with condition:
        condition.notify()
    one.go_on()
    assert not one.over
    ready.append(1)
    with condition:
        condition.notify_all()
    assert not two.over
    one.go_on()
    two.go_on()
    assert one.over
    assert two.over


def test_a_condition_with_a_time_limit_lets_others_go_on_once():
    condition = CooperativeCondition()

    def action():
        with condition:
            return condition.wait(timeout=1)

    task = begun(action)
    assert task.can_go_on
    task.go_on()
    assert task.result is False


def test_modules_get_their_locks_for_a_while():
    module = ModuleType("podnet_somewhere.below")
    module.threading = threading
    sys.modules[module.__name__] = module
    try:
        with cooperating("podnet_somewhere"):
            assert module.threading.Lock is CooperativeLock
            assert module.threading.Thread is threading.Thread
        assert module.threading is threading
        with cooperating("podnet_some"):
            assert module.threading is threading
    finally:
        del sys.modules[module.__name__]


def test_a_task_that_waits_for_another_lock_is_told(monkeypatch):
    monkeypatch.setattr(baton, "_STUCK", 0.05)
    real = threading.Lock()
    with real, pytest.raises(AssertionError, match="stuck"):
        begun(real.acquire)


BLOCK = Block(domain="d", version=4, index=7, sequence=1)


def swap_with(fate, remote=True):
    store, strays = MemoryStore(), []
    gate = Gate("the store", store, strays.append if remote else None)
    task = begun(lambda: gate.swap(BLOCK.key, BLOCK, None))
    assert str(task.point) == "swap 'd/4/000007' of the store"
    assert store.load(BLOCK.key) is None
    task.go_on(fate)
    return task, store, strays


@pytest.mark.parametrize(
    ("fate", "answer", "done", "strays"),
    [
        (FINE, True, True, 0),
        (REFUSED, StoreError, False, 0),
        (BEATEN, False, False, 0),
        (LOST, StoreError, True, 0),
        (LATE, StoreError, False, 1),
        (TWICE, True, True, 1),
    ],
)
def test_fates_of_a_swap(fate, answer, done, strays):
    task, store, under_way = swap_with(fate)
    assert (task.result if task.error is None else type(task.error)) is answer
    assert (store.load(BLOCK.key) is not None) == done
    assert len(under_way) == strays
    for stray in under_way:
        assert stray.arrive() == (fate == LATE)
        assert store.load(BLOCK.key)[0] == BLOCK


def test_a_disk_is_no_network_away():
    task, store, _ = swap_with(LATE, remote=False)
    assert isinstance(task.error, StoreError)
    assert store.load(BLOCK.key) is not None
    assert swap_with(TWICE, remote=False)[0].result is True


@pytest.mark.parametrize("name", ["load", "keys", "seek"])
def test_fates_of_a_look(name):
    gate = Gate("the store", MemoryStore(), None)
    ask = {"load": ("k",), "keys": ("k",), "seek": ("k", None)}[name]
    for fate in (REFUSED, LOST, LATE):
        task = begun(lambda: getattr(gate, name)(*ask))
        task.go_on(fate)
        assert isinstance(task.error, StoreError)


def test_outside_of_tasks_calls_pass():
    gate = Gate("the store", MemoryStore(), None)
    assert gate.swap(BLOCK.key, BLOCK, None)
    assert gate.load(BLOCK.key)[0] == BLOCK
    assert gate.keys("") == [BLOCK.key]
    gate.close()


def test_a_store_without_seek_has_none_behind_a_gate():
    class Unseeking(MemoryStore):
        seek = property()

    assert not hasattr(Gate("the store", Unseeking(), None), "seek")
    assert hasattr(Gate("the store", MemoryStore(), None), "seek")
