"""Blocks of the model: which addresses are free is counted, not spelled out.

``take`` gives what ``podnet.ipam.pick.LongestFree`` picks: what was never held, from the lowest up,
and then what was released longest ago. A test holds it to that.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .medium import Object

if TYPE_CHECKING:
    from .owned import OwnedNode


class Block(Object):
    """One block as it counts, wherever its truth is.

    Attributes:
        index: its place in the pool.
        size: addresses.
        fresh: lowest offset that was never held.
        freed: time of release and offset of those that were held and are free.
        holder: node that holds it, or None.
        recalled: it is asked for.
        told: leases in the shared copy.
        since: when the first change was made that the shared copy does not have; None if it has
            all. Only where it is held.
        users: nodes to the number of their leases.
    """

    __slots__ = ("freed", "fresh", "holder", "index", "recalled", "since", "size", "told", "users")

    def __init__(self, index: int, size: int) -> None:
        super().__init__()
        self.index = index
        self.size = size
        self.fresh = 0
        self.freed: deque[tuple[float, int]] = deque()
        self.holder: OwnedNode | None = None
        self.recalled = False
        self.since: float | None = None
        self.told = 0
        self.users: dict[object, int] = {}

    @property
    def free(self) -> int:
        """How many addresses are."""
        return self.size - self.fresh + len(self.freed)

    @property
    def used(self) -> int:
        """How many addresses are held."""
        return self.fresh - len(self.freed)

    def count(self, user: object, change: int) -> None:
        """Take note of how many more leases a node has in it."""
        self.users[user] = self.users.get(user, 0) + change
        if not self.users[user]:
            del self.users[user]

    def take(self) -> int:
        """Hand out the offset that is free longest."""
        if self.fresh < self.size:
            self.fresh += 1
            return self.fresh - 1
        return self.freed.popleft()[1]

    def put(self, offset: int, now: float) -> None:
        """Take an offset back."""
        self.freed.append((now, offset))


class Ground:
    """The pool: its blocks come into being when first touched."""

    def __init__(self, blocks: int, size: int) -> None:
        self.count = blocks
        self.size = size
        self.blocks = [Block(index, size) for index in range(blocks)]

    @property
    def objects(self) -> int:
        """How many blocks exist."""
        return sum(block.version > 0 for block in self.blocks)
