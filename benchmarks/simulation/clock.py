"""Virtual time: processes are generators that yield the seconds they wait."""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heappop, heappush

Process = Generator[float, None, None]
"""Yields seconds to wait; whoever it waits with does ``yield from``."""

_BETWEEN_LOOKS = 1000


class Clock:
    """Runs what is due, in order of time and, at one time, in order of request."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0

    def at(self, when: float, action: Callable[..., None], *what: object) -> None:
        """Call ``action`` at a time that is not over yet."""
        self._order += 1
        heappush(self._due, (when, self._order, action, what))

    def after(self, seconds: float, action: Callable[..., None], *what: object) -> None:
        """Call ``action`` in so many seconds."""
        self._order += 1
        heappush(self._due, (self.now + seconds, self._order, action, what))

    def start(self, process: Process) -> None:
        """Run a process up to where it waits, and from there on when its time has come."""
        for seconds in process:
            self._order += 1
            heappush(self._due, (self.now + seconds, self._order, self.start, (process,)))
            return

    def run(self, look: Callable[[], bool]) -> None:
        """Run until nothing is due, or ``look``, asked now and then, returns False."""
        due = self._due
        while due:
            for _ in range(_BETWEEN_LOOKS):
                if not due:
                    break
                self.now, _, action, what = heappop(due)
                action(*what)
            if not look():
                return
