"""Several threads of which one runs at a time, and somebody outside says which.

Each task is a thread that stops at points of its own, such as calls of a store, and goes on when
it is told to. Nothing else decides the order: the same choices give the same run, so that
Hypothesis can choose, repeat and shrink it. Locks that the tasks meet at have to be those of
``Baton.threading``: a task that waits for one is then known to wait.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType, TracebackType

# A task that stops nowhere for so long waits for something that only another task can give.
_STUCK = 30.0


class Killed(BaseException):
    """The process of a task has died: nothing it does has an effect any more."""


class Task:
    """One call in a thread of its own.

    Attributes:
        name: for people.
        point: what it is about to do; None while it waits for a lock and when it is over.
        over: it has returned or raised.
        result: what it returned.
        error: what it raised.
        dead: it was killed.
    """

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self.name = name
        self.point: object = None
        self.over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.dead = False
        self._ready: Callable[[], bool] | None = None
        self._order: object = None
        self._action = action
        self._go, self._stopped = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._stopped.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def can_go_on(self) -> bool:
        """It is not over, and waits for nothing."""
        return not self.over and (self._ready is None or self.dead or self._ready())

    def begin(self) -> None:
        """Start it; it runs to its first point."""
        self._thread.start()
        self._await_stop()

    def go_on(self, order: object = None) -> None:
        """Let it run to its next point or its end.

        Args:
            order: what ``stop`` returns in the task.
        """
        assert self.can_go_on, f"{self.name} cannot go on"
        self._order, self.point = order, None
        self._go.release()
        self._await_stop()

    def kill(self) -> None:
        """End it: from the point where it is, it only unwinds."""
        self.dead = True
        if not self.over:
            self.go_on()

    def stop(self, point: object, ready: Callable[[], bool] | None = None) -> object:
        """Called in the task: stop here until ``go_on``; return its order.

        Raises:
            Killed: instead, if it was killed.
        """
        if not self.dead:
            self.point, self._ready = point, ready
            self._stopped.release()
            self._go.acquire()
            self._ready = None
        if self.dead:
            raise Killed
        return self._order

    def _run(self) -> None:
        _here.task = self
        try:
            self.result = self._action()
        except BaseException as error:
            self.error = error
        self.over = True
        self._stopped.release()

    def _await_stop(self) -> None:
        if not self._stopped.acquire(timeout=_STUCK):
            raise AssertionError(f"{self.name} is stuck: it waits for what is no lock of the baton")


class _Here(threading.local):
    task: Task | None = None


_here = _Here()


def current() -> Task | None:
    """Return the task that this thread is; None outside of tasks."""
    return _here.task


def wait_until(ready: Callable[[], bool]) -> None:
    """Stop a task until something is so."""
    if ready():
        return
    task = current()
    assert task is not None, "only another task could help, and none can run"
    task.stop(None, ready)


class CooperativeLock:
    """A lock between tasks, like ``threading.Lock``; outside of tasks nobody is to hold it."""

    def __init__(self) -> None:
        self._held = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: ARG002
        """Take it, and wait for it if need be; time-outs never pass."""
        if self._held and not blocking:
            return False
        wait_until(lambda: not self._held)
        self._held = True
        return True

    def release(self) -> None:
        """Give it back; any task may."""
        assert self._held, "a lock is released that nobody holds"
        self._held = False

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class CooperativeRLock(CooperativeLock):
    """A lock that its task may take again, like ``threading.RLock``."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: Task | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, once more if it is one's own."""
        if not (self._held and self._owner is current()) and not super().acquire(blocking, timeout):
            return False
        self._owner = current()
        self._depth += 1
        return True

    def release(self) -> None:
        """Give it back as often as it was taken."""
        self._depth -= 1
        if not self._depth:
            super().release()


class CooperativeEvent:
    """An event between tasks, like ``threading.Event``."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        return self._set

    def set(self) -> None:
        """Let it happen."""
        self._set = True

    def clear(self) -> None:
        """Let it not have happened."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; with a time limit, return at once: its time passes in no time."""
        if timeout is None:
            wait_until(self.is_set)
        return self._set


class CooperativeCondition:
    """A condition between tasks, like ``threading.Condition``."""

    def __init__(self, lock: CooperativeLock | None = None) -> None:
        self._lock = lock or CooperativeLock()
        self._waiting: list[CooperativeEvent] = []
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock away until notified; with a time limit, let others have it once."""
        mine = CooperativeEvent()
        self._waiting.append(mine)
        self._lock.release()
        try:
            if timeout is None:
                mine.wait()
            elif (task := current()) is not None:
                task.stop("a condition with a time limit")
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            self._lock.acquire()
        return mine.is_set()

    def wait_for(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something is so."""
        while not ready():
            if not self.wait(timeout) and timeout is not None:
                return ready()
        return True

    def notify(self, n: int = 1) -> None:
        """Wake some of those who wait."""
        for event in self._waiting[:n]:
            event.set()
            self._waiting.remove(event)

    def notify_all(self) -> None:
        """Wake all who wait."""
        self.notify(len(self._waiting))


class _Threading:
    """Stands for the module ``threading`` where tasks meet."""

    Lock = CooperativeLock
    RLock = CooperativeRLock
    Event = CooperativeEvent
    Condition = CooperativeCondition

    def __getattr__(self, name: str) -> object:
        return getattr(threading, name)


@contextlib.contextmanager
def cooperating(*packages: str) -> Iterator[None]:
    """Give the modules of packages locks of the baton instead of ``threading``'s.

    Only what a module looks up as ``threading.Lock`` while this lasts is another one.
    """
    changed: list[ModuleType] = []
    for name, module in list(sys.modules.items()):
        mine = any(name == each or name.startswith(each + ".") for each in packages)
        if mine and getattr(module, "threading", None) is threading:
            module.threading = _Threading()  # type: ignore[attr-defined]
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            module.threading = threading  # type: ignore[attr-defined]
