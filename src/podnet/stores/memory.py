"""A store in this process's memory: for tests, demonstrations and simulations."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError

if TYPE_CHECKING:
    from podnet.model.block import Block

_named: dict[str, MemoryStore] = {}
_naming = threading.Lock()


class MemoryStore:
    """Blocks in a dictionary; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[str, tuple[Block, str]] = {}
        # One counter for all keys: a version never comes back, not for a block created anew.
        self._versions = itertools.count(1)

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none."""
        return self._blocks.get(key)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``."""
        with self._lock:
            current = self._blocks.get(key)
            if (current[1] if current else None) != expected:
                return False
            if new is not None:
                self._blocks[key] = (new, str(next(self._versions)))
            elif current is not None:
                del self._blocks[key]
            return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order."""
        with self._lock:
            return sorted(key for key in self._blocks if key.startswith(prefix))

    def close(self) -> None:
        """Do nothing: a store of a name outlives its users."""


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
    with _naming:
        return _named.setdefault(name, MemoryStore())
