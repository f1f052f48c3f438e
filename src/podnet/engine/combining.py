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


class Combiner(Generic[R]):
    """Serves requests in batches, in the thread of one of those who wait.

    A lone request is served at once. No thread is started, and none serves more than the batch its
    own request is in: whoever waits longest serves the next.

    A signal may raise an exception between any two steps here. Who leads, whom it serves and who
    waits is therefore told by attributes that change together, in one statement under the lock,
    and a gate says no more than that it is time to look at them.
    """

    def __init__(self, serve: Callable[[list[R]], None]) -> None:
        """Use ``serve`` for each batch; it records outcomes in the requests and raises nothing.

        What it raises nevertheless reaches the thread that served; the other requests of the
        batch stay without an outcome.
        """
        self._serve = serve
        self._lock = threading.Lock()
        self._leader: _Waiter[R] | None = None
        self._batch: list[_Waiter[R]] = []
        self._waiting: list[_Waiter[R]] = []

    def run(self, request: R) -> None:
        """Have the request served, and return when it is."""
        waiter = _Waiter(request)
        try:
            with self._lock:
                if self._leader is None:
                    self._leader = waiter
                else:
                    waiter.gate.acquire()
                    self._waiting.append(waiter)
            if self._leader is not waiter:
                waiter.gate.acquire()
            if self._leader is waiter:
                self._lead(waiter)
        except BaseException:
            self._leave(waiter)
            raise

    def _lead(self, waiter: _Waiter[R]) -> None:
        with self._lock:
            self._batch, self._waiting = [waiter, *self._waiting], []
        self._serve([each.request for each in self._batch])
        self._hand_over(waiter)

    def _hand_over(self, waiter: _Waiter[R]) -> None:
        """Let those who were served go on, and whoever waits longest lead."""
        released: list[_Waiter[R]] = []
        try:
            with self._lock:
                if self._leader is waiter:
                    served = [each for each in self._batch if each is not waiter]
                    successor = self._waiting[0] if self._waiting else None
                    if successor is not None:
                        served.append(successor)
                    released, self._leader, self._batch, self._waiting = (
                        served,
                        successor,
                        [],
                        self._waiting[1:],
                    )
            _open(released)
        except BaseException:
            _open(released)
            raise

    def _leave(self, waiter: _Waiter[R]) -> None:
        """Go, wherever it was interrupted, so that nobody waits for this thread."""
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            leads = waiter is self._leader
            served = waiter in self._batch
        if leads:
            self._hand_over(waiter)
        elif served:  # and its gate is closed still; then it is known what came of it
            waiter.gate.acquire()


def _open(waiters: list[_Waiter[R]]) -> None:
    for each in waiters:
        if each.gate.locked():  # else it was opened before an interruption
            each.gate.release()
