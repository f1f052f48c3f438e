"""Free addresses as a picker gets them, from intervals written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Interval = tuple[int, int]


class FreeList:
    """Free addresses as a list of intervals (``podnet.ports.FreeAddresses``)."""

    def __init__(
        self, intervals: Iterable[Interval], known: Iterable[Interval] | None = None
    ) -> None:
        """Take intervals as they are: inclusive, ascending, none overlapping.

        Args:
            intervals: read anew for each pass; a lazy sequence may have very many.
            known: those in blocks that exist; all if not given.
        """
        self._intervals = intervals
        self._known = intervals if known is None else known

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._intervals)

    def after(self, value: int) -> Iterator[Interval]:
        """Return the intervals from the number ``value`` upward."""
        return ((max(low, value), high) for low, high in self._intervals if high >= value)

    def known(self) -> Iterator[Interval]:
        """Return the intervals in blocks that exist."""
        return iter(self._known)
