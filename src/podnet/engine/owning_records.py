"""The protocol by which one node takes a block, tells what it did in it, and gives it back.

Each step is a swap in one of two stores: the node's own, which no other node sees and which its
processes share, or the shared one. A step that was begun is written down first in the node's own,
so that whoever comes to a half-done one, this process or the next, goes on from there. Swaps alone
decide; nothing relies on being the only thread or process of the node.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from attrs import define, field

from podnet.errors import TryAgainLaterError
from podnet.ipam import owned
from podnet.ipam.owned import State, state_of
from podnet.model.block import Block

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.ipam.owned import Conflict
    from podnet.ports import Store

    Entry = tuple[Block, str]

_ATTEMPTS = 100
# Two stores of one node name, which must not be, would give a claim the same number once in so
# many cases.
_STRIDE = 4096
_CONFLICTS = 1000
# A store in which a claim was made so often and was not there then keeps none.
_WINS = 3


@define(eq=False)
class Held:
    """What this process knows of a block that its node holds.

    Attributes:
        looked: when the shared copy was last seen, and named the node; None if never.
        changes: how often the record changed.
        told: how many of these changes the shared copy has.
        since: when the first of the others was made; None if there is none.
        idle: since when the block has no leases; None if it has some.
        used: when it was changed last.
    """

    looked: float | None = field(default=None)
    changes: int = 1
    told: int = 0
    since: float | None = field(default=None)
    idle: float | None = field(default=None)
    used: float = 0.0


class Records:
    """The blocks of one node, in its own store and the shared one.

    Attributes:
        held: key of each block that this process knows its node to hold.
        generation: grows whenever ``held`` has other keys.
        conflicts: leases granted in blocks that others had taken by force; the last ones.
        scarce: what the keys of a domain's blocks begin with to the time when one was asked for.
        keeps: the shared store keeps who holds a block, as far as is known.
    """

    def __init__(
        self,
        shared: Store,
        local: Store,
        *,
        node: str,
        clock: Callable[[], float],
        chance: Callable[[], float],
        trust: float,
    ) -> None:
        """Use two stores.

        Args:
            shared: that of all nodes.
            local: the node's own.
            node: its name.
            clock: seconds since the epoch.
            chance: numbers from 0 to 1.
            trust: seconds after which the shared copy is looked at before a record is used.
        """
        self._shared = shared
        self._local = local
        self._node = node
        self._clock = clock
        self._chance = chance
        self._trust = trust
        self._lock = threading.Lock()
        self._claiming: set[str] = set()
        self._stirred: set[str] = set()
        self.held: dict[str, Held] = {}
        self.generation = 0
        self.conflicts: list[Conflict] = []
        self.scarce: dict[str, float] = {}
        self.keeps = True

    def load(self, key: str) -> Entry | None:
        """Return the record of a block that counts here; None if the shared copy does.

        A record that this process has not compared with the shared copy, or not for long, is
        compared first; what was begun and not ended is brought to its end.

        Raises:
            StoreError: a store is broken.
            TryAgainLaterError: others changed it faster than it could be read.
        """
        for _ in range(_ATTEMPTS):
            entry = self._local.load(key)
            if entry is None:
                self._drop(key)
                return None
            state = state_of(entry[0])
            if state is State.OPEN:
                held = self.held.get(key)
                if held is not None and self._is_trusted(held):
                    return entry
                self.settle(key)
            elif state is State.CLOSING:
                self.finish(key)
            else:
                shared = self._shared.load(key)
                if shared is None or not owned.is_landed(entry[0], shared[0], self._node):
                    return None
                self._open(key, entry, shared[0])
        raise _too_fast(key)

    def _is_trusted(self, held: Held) -> bool:
        return held.looked is not None and abs(self._clock() - held.looked) <= self._trust

    def changed(self, key: str, record: Block) -> None:
        """Take note that a record was changed, or may have been."""
        now = self._clock()
        with self._lock:
            held = self.held.get(key)
            if held is not None:
                held.changes += 1
                held.since = held.since or now
                held.used = now
                held.idle = None if record.leases else held.idle or now

    def claim(self, key: str, empty: Block, fits: Callable[[Block], bool]) -> bool:
        """Take an unclaimed block; return whether the node holds it now.

        Args:
            key: where.
            empty: the block if there is none yet.
            fits: tells whether it is still worth it; asked about the block that is there.

        Raises:
            StoreError: a store is broken; whether the block is held is found out by the next look.
        """
        with self._lock:
            if key in self._claiming:
                return False
            self._claiming.add(key)
        try:
            return self._claim(key, empty, fits)
        finally:
            self._claiming.discard(key)

    def _claim(self, key: str, empty: Block, fits: Callable[[Block], bool]) -> bool:
        wins = 0
        for _ in range(_ATTEMPTS):
            shared = self._shared.load(key)
            entry = self._local.load(key)
            if entry is not None:
                if state_of(entry[0]) is not State.CLAIMING:
                    return state_of(entry[0]) is State.OPEN
                if shared is not None and owned.is_landed(entry[0], shared[0], self._node):
                    self._open(key, entry, shared[0])
                    continue
            there = empty if shared is None else shared[0]
            self.keeps = self.keeps and wins < _WINS
            if there.holder or not fits(there) or not self.keeps:
                if entry is not None:
                    self._withdraw(key)
                return False
            claim = owned.claimed(there, self._node, self._number(there, entry))
            if self._local.swap(key, owned.intent(claim), entry[1] if entry else None):
                wins += self._shared.swap(key, claim, shared[1] if shared else None)
        raise _too_fast(key)

    def _number(self, there: Block, entry: Entry | None) -> int:
        """Return a claim's number: that of an earlier attempt if it may still be under way."""
        if entry is not None and entry[0].sequence > there.sequence:
            return entry[0].sequence
        return there.sequence + 1 + int(self._chance() * (_STRIDE - 1))

    def _open(self, key: str, entry: Entry, shared: Block) -> None:
        if self._local.swap(key, owned.opened(shared), entry[1]):
            self._keep(key, shared, None, changes=0, is_told=True)

    def withdraw(self, key: str) -> None:
        """Bring the claim of an earlier process to an end: it is the node's, or never will be.

        Raises:
            StoreError: a store is broken.
        """
        with self._lock:
            if key in self._claiming:
                return
        self._withdraw(key)

    def _withdraw(self, key: str) -> None:
        for _ in range(_ATTEMPTS):
            shared = self._shared.load(key)
            entry = self._local.load(key)
            if entry is None or state_of(entry[0]) is not State.CLAIMING:
                return
            record, version = entry
            if shared is not None and owned.is_landed(record, shared[0], self._node):
                self._open(key, entry, shared[0])
            elif shared is not None and shared[0].holder:
                # What the claim expects has been replaced: it cannot come true any more.
                self._local.swap(key, None, version)
            else:
                # It may be under way still; whatever replaces what it expects stops it.
                there = _empty(record) if shared is None else shared[0]
                if self._shared.swap(key, there, shared[1] if shared else None):
                    self._local.swap(key, None, version)
        raise _too_fast(key)

    def settle(self, key: str, *, publish: bool = False, give_back: bool = False) -> str | None:
        """Bring a block held and its shared copy together.

        What others took away is taken from the record. A block that is asked for is given back.

        Args:
            key: of the block.
            publish: tell all that the record says.
            give_back: and that the block is nobody's from now on.

        Returns:
            The record's version, when others had taken nothing away that it still had; None if
            the block is not held, or not any more.

        Raises:
            StoreError: a store is broken.
        """
        for _ in range(_ATTEMPTS):
            shared = self._shared.load(key)
            held = self.held.get(key)
            changes = held.changes if held else 0
            entry = self._local.load(key)
            if entry is None or state_of(entry[0]) is not State.OPEN:
                if entry is not None and state_of(entry[0]) is State.CLOSING:
                    self.finish(key)
                return None
            record, version = entry
            if shared is None or not owned.is_held(record, shared[0], self._node):
                self._lose(key, entry, shared)
                continue
            new, gone = owned.merge(record, shared[0], self._clock())
            if shared[0].recalled:
                self.note_scarce(key)
            if give_back or shared[0].recalled:
                if self._local.swap(key, owned.closing(new), version):
                    self.finish(key)
                continue
            if gone:
                if self._local.swap(key, new, version):
                    self.changed(key, new)
                    self._stir(key)
                continue
            is_told = owned.is_told(record, shared[0])
            if publish and not is_told:
                is_told = self._shared.swap(key, record, shared[1])
                if not is_told:
                    continue
            self._keep(key, record, held, changes=changes, is_told=is_told)
            return version
        raise _too_fast(key)

    def finish(self, key: str) -> None:
        """Give back a block of which that has been decided.

        Raises:
            StoreError: a store is broken.
        """
        for _ in range(_ATTEMPTS):
            shared = self._shared.load(key)
            entry = self._local.load(key)
            if entry is None or state_of(entry[0]) is not State.CLOSING:
                return
            if shared is None or not owned.is_held(entry[0], shared[0], self._node):
                self._lose(key, entry, shared)
            else:
                new, _ = owned.merge(entry[0], shared[0], self._clock())
                self._shared.swap(key, owned.given_back(new), shared[1])
        raise _too_fast(key)

    def _lose(self, key: str, entry: Entry, shared: Entry | None) -> None:
        """Drop the record of a block that the node holds no more."""
        found = owned.conflicts(entry[0], shared[0] if shared else None)
        if self._local.swap(key, None, entry[1]):
            self._drop(key)
            with self._lock:
                self.conflicts = [*self.conflicts, *found][-_CONFLICTS:]

    def _keep(
        self, key: str, record: Block, held: Held | None, *, changes: int, is_told: bool
    ) -> None:
        """Take note of a record that was compared with the shared copy just now.

        Args:
            key: of the block.
            record: it.
            held: what was known of the block before it was read; what others make known meanwhile
                may be newer.
            changes: the number of changes known then.
            is_told: the shared copy says the same.
        """
        now = self._clock()
        with self._lock:
            current = self.held.get(key)
            if current is None:
                current = held = self.held[key] = Held()
                self.generation += 1
                changes = 1
            current.looked = now
            if current is held and is_told:
                current.told = max(current.told, changes)
            elif not is_told and current.told >= current.changes:
                current.changes += 1  # by another process of the node
            current.since = None if current.told >= current.changes else current.since or now
            current.idle = None if record.leases else current.idle or now

    def _drop(self, key: str) -> None:
        if key in self.held:
            with self._lock:
                self.held.pop(key, None)
                self.generation += 1
            self._stir(key)

    def note_scarce(self, key: str) -> None:
        """Take note that a block is being asked for."""
        self.scarce[key[: key.rfind("/") + 1]] = self._clock()

    def _stir(self, key: str) -> None:
        with self._lock:
            self._stirred.add(key)

    def take_stirred(self, prefix: str) -> list[str]:
        """Return the keys of blocks that changed otherwise than by a swap of the caller's."""
        if not self._stirred:
            return []
        with self._lock:
            found = [key for key in self._stirred if key.startswith(prefix)]
            self._stirred.difference_update(found)
        return found


def _empty(block: Block) -> Block:
    return Block(domain=block.domain, version=block.version, index=block.index)


def _too_fast(key: str) -> TryAgainLaterError:
    return TryAgainLaterError(f"block {key} changes faster than it can be read")
