"""The part of the store contract about several who use one store: threads, handles, processes."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from attrs import evolve

from podnet.testing.ground_contract import (
    StoreGround,
    contract_block,
    contract_key,
    loaded,
    package_of,
    put,
    version_of,
)
from podnet.testing.store_history import check_store, work
from podnet.testing.together import in_processes, in_threads, until_killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.ports import Store
    from podnet.testing.linearizability import Operation

KEY = contract_key(0)
KEYS = [contract_key(n) for n in range(3)]


class SharingContract(StoreGround):
    """Part of ``StoreContract``."""

    def test_one_of_many_threads_creates(self) -> None:
        """Exactly one wins, and it is the one whose block is there."""
        with self.opened() as store:
            for number in range(5):
                self._one_creates(store, contract_key(number))

    def _one_creates(self, store: Store, key: str) -> None:
        blocks = [contract_block(key, number) for number in range(self.threads)]
        won = in_threads(
            self.threads,
            lambda number: store.swap(key, blocks[number], None),
            shaking=package_of(store),
        )
        assert won.count(True) == 1
        assert loaded(store, key)[0] == blocks[won.index(True)]

    def test_threads_lose_no_update(self) -> None:
        """Each win adds one, and nothing else does."""
        with self.opened() as store:
            won = in_threads(
                self.threads, lambda _: _count_up(store, 20), shaking=package_of(store)
            )
            assert won == [20] * self.threads
            assert loaded(store, KEY)[0].sequence == 20 * self.threads

    def test_threads_are_linearizable(self) -> None:
        """Each call of each thread seems to happen at one moment between its start and its end."""
        with self.opened() as store:
            histories = in_threads(
                self.threads,
                lambda n: work(store, f"thread-{n}", keys=KEYS, steps=30),
                shaking=package_of(store),
            )
            check_store(itertools.chain(*histories))

    def test_processes_are_linearizable(self) -> None:
        """So does each call of each process."""
        self.needs("multi_process")
        with self.opened() as store:

            def child(number: int) -> list[Operation]:
                return work(self.reopen(store), f"process-{number}", keys=KEYS, steps=30)

            histories = in_processes(4, child)
            check_store(itertools.chain(*(each or () for each in histories)))

    def test_blocks_outlive_the_store(self) -> None:
        """A store opened again has the blocks, and versions go on."""
        self.needs("durable")
        first = self.open()
        put(first, contract_block(KEY, 1))
        entry = first.load(KEY)
        second = self.reopen(first)
        first.close()
        assert second.load(KEY) == entry
        assert list(second.keys("")) == [KEY]
        second.close()

    def test_handles_see_each_other(self) -> None:
        """Neither a kept copy nor a kept version survives another handle's swap."""
        self.needs("multi_process")
        with self.opened() as one, contextlib.closing(self.reopen(one)) as two:
            put(one, contract_block(KEY, 1))
            for turn in range(2, 30, 2):
                stale = version_of(one, KEY)
                put(two, contract_block(KEY, turn))
                assert loaded(one, KEY)[0] == contract_block(KEY, turn)
                assert one.swap(KEY, contract_block(KEY, 99), stale) is False
                assert one.swap(KEY, None, version_of(one, KEY)) is True
                assert two.load(KEY) is None
                assert two.swap(KEY, contract_block(KEY, turn + 1), None) is True
                assert list(one.keys("")) == [KEY]

    def test_processes_lose_no_update(self) -> None:
        """Each win of each process adds one; forked from one that has used the store."""
        self.needs("multi_process")
        with self.opened() as store:
            assert _count_up(store, 1) == 1

            def child(number: int) -> None:
                # Half of them open the store themselves, half go on with the one they inherited.
                mine = store if number % 2 else self.reopen(store)
                assert _count_up(mine, 25) == 25

            in_processes(4, child)
            assert loaded(store, KEY)[0].sequence == 101

    def test_killed_processes_leave_whole_blocks(self) -> None:
        """What was told stays; what was not is done or not done; nobody is kept waiting."""
        self.needs("durable")
        self.needs("multi_process")
        with self.opened() as store:

            def work(tell: Callable[[int], None]) -> None:
                mine = self.reopen(store)
                while True:
                    _count_up(mine, 1)
                    tell(loaded(mine, KEY)[0].sequence)

            for turn in range(12):
                told = until_killed(work, 0.003 * turn)
                block = loaded(store, KEY)[0]
                assert told[-1] <= block.sequence <= told[-1] + 1
                assert block == evolve(contract_block(KEY), sequence=block.sequence)
            assert _count_up(store, 1) == 1


def _count_up(store: Store, times: int) -> int:
    """Add one to a block's sequence as often as asked; return the number of wins."""
    wins = 0
    while wins < times:
        entry = store.load(KEY)
        block, version = entry or (contract_block(KEY), None)
        wins += store.swap(KEY, evolve(block, sequence=block.sequence + 1), version)
    return wins
