from __future__ import annotations

from podnet.stores import recent
from podnet.testing import in_threads


def test_what_was_put_there_last_stays():
    cache = {}
    for n in (1, 2, 3, 1, 4):
        recent.remember(cache, f"k{n}", n, 3)
    assert cache == {"k3": 3, "k1": 1, "k4": 4}


def test_threads_keep_it_small():
    cache = {}

    def client(number):
        for turn in range(300):
            recent.remember(cache, f"{number}-{turn}", turn, 8)
            assert len(cache) <= 8 + 8

    in_threads(8, client, shaking="podnet")
    recent.remember(cache, "last", 0, 8)
    assert len(cache) == 8
