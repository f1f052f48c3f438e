"""A store that fails on demand, around any other store."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from podnet.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.ports import Seeker, Store

FINE = "fine"
REFUSED = "refused"
LOST = "lost"
BEATEN = "beaten"
FAULTS = (FINE, REFUSED, LOST, BEATEN)


class FaultyStore:
    """Passes calls on to a store, and goes wrong where it was told to.

    Each call of ``load``, ``swap`` and ``seek`` takes the next fault of the plan; an empty plan
    means no fault. ``refused``: the call fails and did nothing. ``lost``: a swap is done, but the
    answer is lost and the caller sees a failure. ``beaten``: a swap is told that somebody else
    won, though nobody did. For what only reads, ``lost`` is ``refused`` and ``beaten`` is
    ``fine``. It has ``seek`` if the store has it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        if hasattr(store, "seek"):
            self.seek = self._seek
        self._plan: deque[str] = deque()
        self._before_swap: deque[Callable[[], object]] = deque()

    def plan(self, faults: Iterable[str]) -> None:
        """Replace the plan."""
        self._plan = deque(faults)

    def interfere(self, action: Callable[[], object]) -> None:
        """Do ``action`` once, between the loads before the next swap and the swap itself."""
        self._before_swap.append(action)

    def load(self, key: str) -> tuple[Block, str] | None:
        """Load, or fail as planned."""
        if self._next() in (REFUSED, LOST):
            raise StoreError(f"planned fault: load of {key!r}")
        return self._store.load(key)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Swap, or go wrong as planned."""
        while self._before_swap:
            self._before_swap.popleft()()
        fault = self._next()
        if fault == REFUSED:
            raise StoreError(f"planned fault: swap of {key!r}")
        if fault == BEATEN:
            return False
        won = self._store.swap(key, new, expected)
        if fault == LOST:
            raise StoreError(f"planned fault: answer to swap of {key!r} lost")
        return won

    def keys(self, prefix: str) -> Iterable[str]:
        """Pass on."""
        return self._store.keys(prefix)

    def _seek(self, prefix: str, owner: Owner) -> Iterable[str]:
        if self._next() in (REFUSED, LOST):
            raise StoreError(f"planned fault: seek under {prefix!r}")
        return cast("Seeker", self._store).seek(prefix, owner)

    def close(self) -> None:
        """Pass on."""
        self._store.close()

    def _next(self) -> str:
        return self._plan.popleft() if self._plan else FINE
