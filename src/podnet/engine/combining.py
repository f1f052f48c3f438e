"""Group commit: requests that threads hand in while one is being served are served together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


@define(eq=False)
class _Waiter(Generic[R]):
    request: R
    # Looked up late: the simulation of several nodes puts locks of its own there.
    gate: threading.Lock = field(factory=lambda: threading.Lock())  # noqa: PLW0108 - see above
    served: bool = False


class Combiner(Generic[R]):
    """Serves requests in batches, in the thread of one of those who wait.

    A lone request is served at once. No thread is started, and none serves more than the batch its
    own request is in: whoever waits longest serves the next.
    """

    def __init__(self, serve: Callable[[list[R]], None]) -> None:
        """Use ``serve`` for each batch; it records outcomes in the requests and raises nothing.

        What it raises nevertheless reaches the thread that served; the other requests of the
        batch stay without an outcome.
        """
        self._serve = serve
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: list[_Waiter[R]] = []

    def run(self, request: R) -> None:
        """Have the request served, and return when it is."""
        with self._lock:
            alone = not self._busy
            self._busy = True
            waiter = _Waiter(request)
            if not alone:
                waiter.gate.acquire()
                self._waiting.append(waiter)
        if not alone:
            self._wait(waiter)
        if not waiter.served:
            self._lead(waiter)

    def _wait(self, waiter: _Waiter[R]) -> None:
        try:
            waiter.gate.acquire()
        except BaseException:
            with self._lock:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                    raise
            # It is being served, or it is its turn to serve: nobody else would.
            waiter.gate.acquire()
            if not waiter.served:
                self._lead(waiter)
            raise

    def _lead(self, waiter: _Waiter[R]) -> None:
        with self._lock:
            batch = [waiter, *self._waiting]
            self._waiting = []
        try:
            self._serve([each.request for each in batch])
        finally:
            with self._lock:
                successor = self._waiting.pop(0) if self._waiting else None
                self._busy = successor is not None
            for each in batch:
                each.served = True
                if each is not waiter:
                    each.gate.release()
            if successor is not None:
                successor.gate.release()
