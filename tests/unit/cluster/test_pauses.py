"""Pauses between attempts: they grow, they are as long as asked for, and they end in time."""

from __future__ import annotations

import time

import pytest

from podnet.cluster import pauses
from podnet.cluster.pauses import Pauses


@pytest.fixture
def slept(monkeypatch):
    """The seconds of each pause, none of which is slept; time goes on by them."""
    found, real = [], time.monotonic
    monkeypatch.setattr(pauses.time, "sleep", found.append)
    monkeypatch.setattr(pauses.time, "monotonic", lambda: real() + sum(found))
    return found


def in_seconds(seconds):
    return Pauses(pauses.time.monotonic() + seconds)


def test_they_grow_up_to_a_second(slept):
    found = in_seconds(60)
    assert all(found.again() for _ in range(10))
    assert 0.025 <= slept[0] <= 0.05
    assert 0.5 <= slept[-1] <= 1
    assert sum(slept[:3]) < sum(slept[3:6])


def test_what_the_server_asks_for_is_the_least(slept):
    assert in_seconds(60).again(7.0)
    assert slept == [7.0]


def test_there_is_none_beyond_the_end(slept):
    found = in_seconds(3)
    assert not found.again(5.0)
    assert slept == []
    while found.again():
        pass
    assert 1.9 < sum(slept) < 3
    assert found.left > 0
