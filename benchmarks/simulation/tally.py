"""What is counted in a run."""

from __future__ import annotations

from array import array

from attrs import define, field


@define(eq=False)
class Tally:
    """Counts of one run.

    Attributes:
        writes: requests to change an object, whatever came of them.
        reads: requests to read, without ``looks``.
        looks: reads by which nodes find out whether their blocks are asked for.
        conflicts: writes that lost to another writer.
        throttled: writes that were told to come again.
        lost: writes whose answer was lost.
        bytes: written, of whole objects where the store replaces them.
        too_large: writes that the store would not take.
        refused: allocations that gave up, and were tried again by the runtime.
        full: allocations while nothing at all was free.
        short: allocations for which a node that holds blocks had to look at others'.
        recalls: blocks that were asked for back.
        claims: blocks that nodes took for themselves.
        publishes: writes by which nodes told what they had granted.
        untold: leases that only a dead node's own disk knew.
        waits: seconds from a request to its lease.
        most_stranded: addresses free in blocks that nodes hold, at the worst time.
    """

    writes: int = 0
    reads: int = 0
    looks: int = 0
    conflicts: int = 0
    throttled: int = 0
    lost: int = 0
    bytes: int = 0
    too_large: int = 0
    refused: int = 0
    full: int = 0
    short: int = 0
    recalls: int = 0
    claims: int = 0
    publishes: int = 0
    untold: int = 0
    waits: array[float] = field(factory=lambda: array("d"))
    most_stranded: int = 0
    _stranded: int = 0
    _since: float = 0.0
    _area: float = 0.0

    @property
    def leases(self) -> int:
        """How many were granted."""
        return len(self.waits)

    def strand(self, now: float, change: int) -> None:
        """Take note that so many more addresses are free, and in a block that a node holds."""
        self._area += self._stranded * (now - self._since)
        self._since = now
        self._stranded += change
        self.most_stranded = max(self.most_stranded, self._stranded)

    def stranded(self, now: float) -> float:
        """Return how many were on average."""
        self.strand(now, 0)
        return self._area / now if now else 0.0

    def more(self, seconds: float) -> dict[str, int]:
        """Return the counts that are not for each lease, and how long it all took."""
        names = (
            "claims", "publishes", "recalls", "short", "full", "untold", "lost", "throttled",
            "too_large", "looks", "most_stranded",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "seconds": round(seconds)}
