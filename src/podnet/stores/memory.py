"""A store in this process's memory: for tests, demonstrations, simulations and embedding."""

from __future__ import annotations

import itertools
import json
import os
import threading
import weakref
import zlib
from typing import TYPE_CHECKING

from attrs import define

from podnet.errors import InvalidConfigError
from podnet.ipam.holders import OwnerIndex
from podnet.model.block import Block

if TYPE_CHECKING:
    from podnet.model.lease import Owner

# So many blocks stay as they are; the others are kept small until somebody wants them.
_AT_HAND = 32

_named: dict[str, MemoryStore] = {}


@define
class _Entry:
    version: str
    block: Block | None
    packed: bytes = b""


class MemoryStore:
    """Blocks in a dictionary; threads may share it. A lease takes some 350 bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[str, _Entry] = {}
        self._at_hand: dict[str, None] = {}
        self._owners = OwnerIndex()
        # One counter for all keys: a version never comes back, not for a block created anew.
        self._versions = itertools.count(1)
        _made.add(self)

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none."""
        entry = self._blocks.get(key)
        if entry is None:
            return None
        # One read: another thread may pack it meanwhile, and both forms say the same.
        block = entry.block
        if block is not None:
            return block, entry.version
        with self._lock:
            current = self._blocks.get(key)
            return None if current is None else (self._unpack(key, current), current.version)

    def _unpack(self, key: str, entry: _Entry) -> Block:
        if entry.block is None:
            entry.block = Block.from_document(json.loads(zlib.decompress(entry.packed)))
            entry.packed = b""
            self._keep(key)
        return entry.block

    def _keep(self, key: str) -> None:
        self._at_hand.pop(key, None)
        self._at_hand[key] = None
        if len(self._at_hand) > _AT_HAND:
            coldest = next(iter(self._at_hand))
            del self._at_hand[coldest]
            entry = self._blocks.get(coldest)
            if entry is not None and entry.block is not None:
                document = json.dumps(entry.block.to_document(), separators=(",", ":"))
                # Level 1: a third larger than the best, at a tenth of its time.
                packed = zlib.compress(document.encode(), 1)
                self._blocks[coldest] = _Entry(entry.version, None, packed)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``."""
        with self._lock:
            entry = self._blocks.get(key)
            if (entry.version if entry else None) != expected:
                return False
            if new is None and entry is None:
                return True
            self._owners.update(key, None if entry is None else self._unpack(key, entry), new)
            if new is None:
                del self._blocks[key]
                self._at_hand.pop(key, None)
            else:
                self._blocks[key] = _Entry(str(next(self._versions)), new)
                self._keep(key)
            return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order."""
        with self._lock:
            return sorted(key for key in self._blocks if key.startswith(prefix))

    def seek(self, prefix: str, owner: Owner) -> list[str]:
        """Return the keys under ``prefix`` of blocks that may have a lease of the owner."""
        with self._lock:
            return [key for key in self._owners.seek(owner) if key.startswith(prefix)]

    def close(self) -> None:
        """Do nothing: a store of a name outlives its users."""

    def _disown(self) -> None:
        if self._lock.locked():
            # A thread that is not here was in the middle of a swap: what it had done of it is in
            # the blocks or is not, and the owners may be wrong.
            self._lock = threading.Lock()
            self._owners.clear()
            for key, entry in list(self._blocks.items()):
                self._owners.update(key, None, self._unpack(key, entry))


_made: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_made):
        store._disown()


os.register_at_fork(after_in_child=_after_fork)


def open(url: str) -> MemoryStore:  # noqa: A001 - what a store module offers is called open
    """Open ``memory:``, a new store, or ``memory:NAME``, the one of that name in this process.

    Raises:
        InvalidConfigError: it is no such URL.
    """
    scheme, colon, name = url.partition(":")
    if scheme != "memory" or not colon:
        raise InvalidConfigError(f"store {url!r} is not memory: or memory:NAME")
    if not name:
        return MemoryStore()
    return _named.setdefault(name, MemoryStore())
