"""The contract of the Store seam, for any store.

A store of your own is held to it with a subclass::

    class TestMyStore(podnet.testing.StoreContract):
        def open(self):
            return MyStore()
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from typing import TYPE_CHECKING, TypeVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.testing.machines import StoreMachine, run_machine
from podnet.testing.strategies import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.ports import Store

T = TypeVar("T")

ODD_KEYS = (
    "a",
    "a/b",
    "a/b/c",
    "a/c",
    "A/b",
    "ab",
    "a_b",
    "a%b",
    "a//b",
    "/",
    "//",
    "a/",
    "/a",
    ".",
    "..",
    "../a",
    ".hidden",
    "a/.",
    "a/..",
    "a/.lock",
    ".lock",
    "%",
    "%%",
    "%2F",
    "a%2Fb",
    "*",
    "a*",
    "?",
    "[a]",
    "\\",
    "a b",
    " a",
    "'; DROP TABLE blocks; --",
    '"',
    "ä",
    "a\u0308",
    "日本/語",
    "😀",
    "x" * 300,
    "x" * 299 + "y",
    "x" * 300 + "/" + "y" * 300,
    "4/0000ff",
)


def _block(sequence: int = 0, domain: str = "contract") -> Block:
    return Block(domain=domain, version=4, index=0xC0A83C, sequence=sequence)


class StoreContract:
    """Subclass it as ``Test…`` and return a new, empty store from ``open``.

    Attributes:
        durable: what was swapped in is there when the store is opened again; needs ``reopen``.
        multi_process: several processes may use the same blocks at once; needs ``reopen``.
        threads: threads of the concurrency tests.
    """

    durable = False
    multi_process = False
    threads = 8

    def open(self) -> Store:
        """Return a new store without blocks; called many times in one test."""
        raise TypeError("open() has to be overridden")

    def reopen(self, store: Store) -> Store:
        """Return another handle on the blocks of ``store``, as a second process would get it."""
        raise TypeError("reopen(store) has to be overridden where durable or multi_process is True")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Store]:
        store = self.open()
        try:
            yield store
        finally:
            store.close()

    def _version(self, store: Store, key: str) -> str | None:
        entry = store.load(key)
        return None if entry is None else entry[1]

    def test_is_empty_when_new(self) -> None:
        """There are no keys, and loading any gives None."""
        with self._opened() as store:
            assert list(store.keys("")) == []
            assert store.load("a/b") is None

    def test_creates(self) -> None:
        """None is replaced by a block."""
        with self._opened() as store:
            assert store.swap("a/b", _block(1), None) is True
            block, version = _loaded(store, "a/b")
            assert block == _block(1)
            assert isinstance(version, str)
            assert version

    def test_does_not_create_twice(self) -> None:
        """Who expects nothing where a block is loses, and changes nothing."""
        with self._opened() as store:
            store.swap("a/b", _block(1), None)
            before = store.load("a/b")
            assert store.swap("a/b", _block(2), None) is False
            assert store.swap("a/b", None, None) is False
            assert store.load("a/b") == before

    def test_replaces_the_version_that_was_loaded(self) -> None:
        """The loaded version wins once."""
        with self._opened() as store:
            store.swap("a/b", _block(1), None)
            version = self._version(store, "a/b")
            assert store.swap("a/b", _block(2), version) is True
            assert _loaded(store, "a/b")[0] == _block(2)
            assert self._version(store, "a/b") != version
            assert store.swap("a/b", _block(3), version) is False
            assert _loaded(store, "a/b")[0] == _block(2)

    def test_does_not_replace_what_is_gone(self) -> None:
        """Who expects a version where nothing is loses, and creates nothing."""
        with self._opened() as store:
            store.swap("a/b", _block(1), None)
            version = self._version(store, "a/b")
            store.swap("a/b", None, version)
            assert store.swap("a/b", _block(2), version) is False
            assert store.swap("never", _block(2), version) is False
            assert store.load("a/b") is None
            assert store.load("never") is None
            assert list(store.keys("")) == []

    def test_deletes_the_version_that_was_loaded(self) -> None:
        """A stale version deletes nothing; deleting nothing where nothing is succeeds."""
        with self._opened() as store:
            store.swap("a/b", _block(1), None)
            stale = self._version(store, "a/b")
            store.swap("a/b", _block(2), stale)
            assert store.swap("a/b", None, stale) is False
            assert store.load("a/b") is not None
            assert store.swap("a/b", None, self._version(store, "a/b")) is True
            assert store.load("a/b") is None
            assert store.swap("a/b", None, None) is True

    def test_versions_never_come_back(self) -> None:
        """Not with the same content, nor for a block created anew (ABA)."""
        with self._opened() as store:
            seen: set[str] = set()
            for turn in range(12):
                expected = self._version(store, "a/b")
                assert store.swap("a/b", _block(turn % 2), expected) is True
                version = _loaded(store, "a/b")[1]
                assert version not in seen, "a version came back"
                seen.add(version)
                if turn % 3 == 0:
                    assert store.swap("a/b", None, version) is True
            for old in seen - {self._version(store, "a/b")}:
                assert store.swap("a/b", _block(9), old) is False

    def test_replacing_by_the_same_content_is_a_replacement(self) -> None:
        """Of two who expect the same version one wins, even if both bring what is there."""
        with self._opened() as store:
            store.swap("a/b", _block(1), None)
            version = self._version(store, "a/b")
            assert store.swap("a/b", _block(1), version) is True
            assert store.swap("a/b", _block(1), version) is False

    def test_keeps_keys_apart(self) -> None:
        """Any printable text is a key of its own; case, dots and wildcards count."""
        with self._opened() as store:
            for n, key in enumerate(ODD_KEYS):
                assert store.swap(key, _block(n), None) is True, key
            for n, key in enumerate(ODD_KEYS):
                assert _loaded(store, key)[0] == _block(n), key
            assert list(store.keys("")) == sorted(ODD_KEYS)
            for n, key in enumerate(ODD_KEYS):
                assert store.swap(key, None, self._version(store, key)) is True, key
                assert list(store.keys("")) == sorted(ODD_KEYS[n + 1 :])

    @pytest.mark.parametrize(
        "prefix", ["a", "a/", "a/b", "a_", "a%", "A", "*", "x" * 300, "ä", "z"]
    )
    def test_keys_start_with_the_prefix(self, prefix: str) -> None:
        """A prefix is text, not a path nor a pattern; keys come in order."""
        with self._opened() as store:
            for key in ODD_KEYS:
                store.swap(key, _block(), None)
            assert list(store.keys(prefix)) == sorted(k for k in ODD_KEYS if k.startswith(prefix))

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(block=blocks())
    def test_keeps_every_value(self, block: Block) -> None:
        """What is loaded equals what was swapped in: numbers of any size, names of any script."""
        with self._opened() as store:
            assert store.swap(block.key, block, None) is True
            assert _loaded(store, block.key)[0] == block

    def test_keeps_a_full_block(self) -> None:
        """256 leases fit."""
        owner = Owner("c" * 64, "eth1", "namespace", "pod" * 20, "u" * 36)
        leases = {
            n: Lease(
                domain="contract",
                pool="pool",
                ip=Address(4, (0xC0A83C << 8) + n),
                length=16,
                owner=owner,
                since=1.7e9 + n / 7,
                sequence=n,
            )
            for n in range(BLOCK_SIZE)
        }
        full = evolve(_block(BLOCK_SIZE), leases=leases)
        with self._opened() as store:
            assert store.swap(full.key, full, None) is True
            assert _loaded(store, full.key)[0] == full

    def test_values_cannot_be_changed_from_outside(self) -> None:
        """Neither through what was given nor through what was loaded."""
        with self._opened() as store:
            leases: dict[int, Lease] = {}
            store.swap("a/b", evolve(_block(1), leases=leases), None)
            leases[0] = Lease(
                domain="contract",
                pool="pool",
                ip=Address(4, 0xC0A83C00),
                length=24,
                owner=Owner("c", "eth1"),
            )
            loaded = _loaded(store, "a/b")[0]
            assert not loaded.leases
            with pytest.raises((TypeError, AttributeError)):
                loaded.leases[0] = leases[0]  # type: ignore[index]

    def test_agrees_with_a_dictionary(self) -> None:
        """Whatever the order of calls, answers are those of a dictionary with versions."""
        run_machine(lambda: StoreMachine(self.open), examples=30, steps=30)

    def test_one_of_many_threads_creates(self) -> None:
        """Exactly one wins, and it is the one whose block is there."""
        with self._opened() as store:
            won = _in_threads(self.threads, lambda n: store.swap("a/b", _block(n), None))
            assert won.count(True) == 1
            assert _loaded(store, "a/b")[0] == _block(won.index(True))

    def test_threads_lose_no_update(self) -> None:
        """Each win adds one, and nothing else does."""
        with self._opened() as store:
            won = _in_threads(self.threads, lambda _: _count_up(store, 20))
            assert won == [20] * self.threads
            assert _loaded(store, "count")[0].sequence == 20 * self.threads

    def test_closing_twice_is_allowed(self) -> None:
        """The second close does nothing."""
        store = self.open()
        store.close()
        store.close()

    def test_blocks_outlive_the_store(self) -> None:
        """A store opened again has the blocks, and versions go on."""
        if not self.durable:
            pytest.skip("the store does not claim to be durable")
        first = self.open()
        first.swap("a/b", _block(1), None)
        entry = first.load("a/b")
        second = self.reopen(first)
        first.close()
        assert second.load("a/b") == entry
        assert list(second.keys("a/")) == ["a/b"]
        second.close()

    def test_handles_see_each_other(self) -> None:
        """Neither a kept copy nor a kept version survives another handle's swap."""
        if not self.multi_process:
            pytest.skip("the store does not claim to be for several processes")
        with self._opened() as one, contextlib.closing(self.reopen(one)) as two:
            one.swap("a/b", _block(1), None)
            for turn in range(2, 30, 2):
                stale = self._version(one, "a/b")
                assert two.swap("a/b", _block(turn), self._version(two, "a/b")) is True
                assert _loaded(one, "a/b")[0] == _block(turn)
                assert one.swap("a/b", _block(99), stale) is False
                assert one.swap("a/b", None, self._version(one, "a/b")) is True
                assert two.load("a/b") is None
                assert two.swap("a/b", _block(turn + 1), None) is True
                assert list(one.keys("")) == ["a/b"]

    def test_processes_lose_no_update(self) -> None:
        """Each win of each process adds one; forked from one that has used the store."""
        if not self.multi_process:
            pytest.skip("the store does not claim to be for several processes")
        with self._opened() as store:
            assert _count_up(store, 1) == 1

            def child(number: int) -> None:
                # Half of them open the store themselves, half go on with the one they inherited.
                mine = store if number % 2 else self.reopen(store)
                assert _count_up(mine, 25) == 25

            in_processes(4, child)
            assert _loaded(store, "count")[0].sequence == 101


def _loaded(store: Store, key: str) -> tuple[Block, str]:
    entry = store.load(key)
    assert entry is not None, f"{key!r} is missing"
    return entry


def _count_up(store: Store, times: int) -> int:
    """Add one to a block's sequence as often as asked; return the number of wins."""
    wins = 0
    while wins < times:
        entry = store.load("count")
        block, version = entry or (_block(), None)
        wins += store.swap("count", evolve(block, sequence=block.sequence + 1), version)
    return wins


def _in_threads(count: int, action: Callable[[int], T]) -> list[T]:
    results: dict[int, T] = {}
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait()
            results[number] = action(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure
    return [results[number] for number in range(count)]


def in_processes(count: int, action: Callable[[int], object]) -> None:
    """Run an action in that many forked processes at once; one that fails, fails the test.

    Args:
        count: how many processes.
        action: gets the number of its process, from 0.
    """
    children = []
    for number in range(count):
        with warnings.catch_warnings():
            # Test runners have threads of their own; the child uses none of what they hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_child(action, number)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [0] * count, f"exit codes of the processes: {codes}"


def _be_child(action: Callable[[int], object], number: int) -> None:
    code = 1
    try:
        action(number)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # Not sys.exit: what the test runner registered for its own exit is not the child's.
        os._exit(code)
