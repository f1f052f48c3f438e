"""One line that tells how far long work is, where somebody watches."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from podnet.cli.letters import encodable, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds: below that the eye sees no difference, and a terminal at the far end of a line is slow.
_FRAME = 0.1
# What is over sooner needs no line, and a flicker tells nothing.
_PATIENCE = 0.4


class Progress:
    """What is shown of long work, on a terminal; elsewhere nothing is."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        """Begin.

        Args:
            what: the work, for people.
            stream: where; standard error if not given, so that the output stays as it is.
        """
        self._what = what
        self._stream = stream or sys.stderr
        # A dumb terminal cannot take a line away.
        self._watched = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._next = time.monotonic() + _PATIENCE
        self._shown = False

    def step(self, done: int, total: int, note: str = "") -> None:
        """Tell how much is done of how much, and something about it."""
        now = time.monotonic()
        if not self._watched or now < self._next:
            return
        self._next, self._shown = now + _FRAME, True
        share = f"({100 * done // total}%)" if total else ""
        parts = self._what, f"{done} of {total}", share, printable(note)
        line = encodable(" ".join(filter(None, parts)), self._stream.encoding)
        print(f"\r{line}\x1b[K", end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._shown = False


@contextmanager
def progress(what: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """Show how far long work is while it lasts; see ``Progress``."""
    shown = Progress(what, stream)
    try:
        yield shown
    finally:
        shown.clear()
