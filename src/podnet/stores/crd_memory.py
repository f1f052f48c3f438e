"""What one process remembers of blocks, so that what did not change is not read and decoded."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podnet.stores.crd_object import Known
    from podnet.stores.crd_seeking import Seeking

_LEASES_KEPT = 1 << 14
"""Leases of remembered blocks, about 1 KB each; 32 full blocks."""


class Memory:
    """What one process knows; a forked one starts with nothing, its parent's locks included."""

    def __init__(self, seeking: Seeking) -> None:
        """Begin with no blocks.

        Args:
            seeking: what this process knows of owners.
        """
        self.pid = os.getpid()
        self.seeking = seeking
        self.lock = threading.Lock()
        self.blocks: OrderedDict[str, Known] = OrderedDict()
        self.leases = 0

    def recall(self, key: str) -> Known | None:
        """Return the version of a block that was read or written last."""
        with self.lock:
            known = self.blocks.get(key)
            if known is not None:
                self.blocks.move_to_end(key)
            return known

    def keep(self, known: Known) -> None:
        """Remember a version; what was not used longest is forgotten when it gets too much."""
        with self.lock:
            self._drop(known.key)
            self.blocks[known.key] = known
            self.leases += len(known.kept)
            while self.leases > _LEASES_KEPT and len(self.blocks) > 1:
                self._drop(next(iter(self.blocks)))

    def forget(self, key: str) -> None:
        """Forget a block."""
        with self.lock:
            self._drop(key)

    def _drop(self, key: str) -> None:
        known = self.blocks.pop(key, None)
        if known is not None:
            self.leases -= len(known.kept)
