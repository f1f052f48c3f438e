"""Reserving addresses of blocks that others write to, or have for themselves."""

from __future__ import annotations

import pytest

from podnet.engine.reserving import reserve
from podnet.errors import TryAgainLaterError
from podnet.model.addresses import parse_span
from podnet.model.block import Block
from podnet.stores.memory import MemoryStore

HELD = Block(domain="lan", version=4, index=0x50000, holder="worker-3")
SPAN = parse_span("10.0.0.5")


def test_a_node_that_gives_nothing_back_is_named():
    store, slept = MemoryStore(), []
    store.swap(HELD.key, HELD, None)
    with pytest.raises(TryAgainLaterError, match="node worker-3 does not give back block"):
        reserve(store, "lan", SPAN, "printers", length=24, sleep=slept.append)
    assert sum(slept) == pytest.approx(10, abs=0.2)
    assert store.load(HELD.key)[0].recalled


def test_one_that_is_slow_is_waited_for():
    store, slept = MemoryStore(), []
    store.swap(HELD.key, HELD, None)

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 150:
            block, version = store.load(HELD.key)
            store.swap(HELD.key, Block(domain="lan", version=4, index=block.index), version)

    done = reserve(store, "lan", SPAN, "printers", length=24, patience=20, sleep=sleep)
    assert [str(lease.ip) for lease in done.made] == ["10.0.0.5"]


def test_others_who_win_every_time_are_told_of():
    class Lost(MemoryStore):
        def swap(self, key, new, expected):
            return False

    with pytest.raises(TryAgainLaterError, match="changes faster than it can be written"):
        reserve(Lost(), "lan", SPAN, "printers", length=24)
