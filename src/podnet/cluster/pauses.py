"""Pauses between attempts of one call, which grow, and end with its time."""

from __future__ import annotations

import random
import time

_FIRST = 0.05
_LONGEST = 1.0


class Pauses:
    """Pauses of one call; each is about twice as long as the one before, up to a second."""

    def __init__(self, ends: float) -> None:
        """Begin; ``ends`` is when the call's time is up, by ``time.monotonic``."""
        self.ends = ends
        self._next = _FIRST

    @property
    def left(self) -> float:
        """Seconds until the time is up; below 0 once it is."""
        return self.ends - time.monotonic()

    def again(self, least: float = 0.0) -> bool:
        """Sleep before another attempt, and return True; False at once if there is no time for it.

        Args:
            least: seconds that the API server asked for.
        """
        wait = max(self._next * (0.5 + random.random() / 2), least)  # noqa: S311 - spreads retries
        if self.left < wait:
            return False
        time.sleep(wait)
        self._next = min(2 * self._next, _LONGEST)
        return True
