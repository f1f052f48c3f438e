"""Sets of integers as runs: what is known to be full costs one pair of numbers, however long."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Runs:
    """A set of integers that mostly come in runs; each change costs what its runs count."""

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._lows, value) - 1
        return at >= 0 and value <= self._highs[at]

    def __len__(self) -> int:
        return len(self._lows)

    def add(self, value: int) -> None:
        """Put a number in, joining the runs it touches."""
        at = bisect_right(self._lows, value)
        if at and value <= self._highs[at - 1]:
            return
        joins_left = at > 0 and self._highs[at - 1] == value - 1
        joins_right = at < len(self._lows) and self._lows[at] == value + 1
        if joins_left and joins_right:
            self._highs[at - 1] = self._highs[at]
            del self._lows[at], self._highs[at]
        elif joins_left:
            self._highs[at - 1] = value
        elif joins_right:
            self._lows[at] = value
        else:
            self._lows.insert(at, value)
            self._highs.insert(at, value)

    def discard(self, value: int) -> None:
        """Take a number out, splitting its run."""
        at = bisect_right(self._lows, value) - 1
        if at < 0 or value > self._highs[at]:
            return
        low, high = self._lows[at], self._highs[at]
        left = [(low, value - 1)] if low < value else []
        right = [(value + 1, high)] if value < high else []
        parts = left + right
        self._lows[at : at + 1] = [each[0] for each in parts]
        self._highs[at : at + 1] = [each[1] for each in parts]

    def clear(self) -> None:
        """Take everything out."""
        self._lows.clear()
        self._highs.clear()

    def starting(self, value: int) -> Iterator[tuple[int, int]]:
        """Return the runs that end at ``value`` or above, both ends included, ascending."""
        for at in range(bisect_left(self._highs, value), len(self._lows)):
            yield self._lows[at], self._highs[at]
