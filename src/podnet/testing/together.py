"""Running one action in several threads or processes at once."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

T = TypeVar("T")

_WIDTH = 8


def in_threads(count: int, action: Callable[[int], T], *, shaking: str = "") -> list[T]:
    """Run an action in that many threads at once; the first failure is raised again.

    Args:
        count: how many threads; they start together.
        action: gets the number of its thread, from 0.
        shaking: package in whose code threads take turns at any line; without it a thread leaves
            off in the middle of something seldom only, and races stay unseen.

    Returns:
        What each returned, by its number.
    """
    results: dict[int, T] = {}
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait()
            with _shaken(shaking, number):
                results[number] = action(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    # As is, a thread has 5 ms to itself: many a test would be over before another thread's turn.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for failure in failures:
        raise failure
    return [results[number] for number in range(count)]


@contextlib.contextmanager
def _shaken(package: str, seed: int) -> Iterator[None]:
    """Let other threads go on at about every fifth line of a package's code in this thread."""
    chance = random.Random(seed)  # noqa: S311 - no secret

    def at_line(_frame: FrameType, _event: str, _arg: Any) -> Any:
        if chance.random() < 0.2:
            time.sleep(0)
        return at_line

    def at_call(frame: FrameType, _event: str, _arg: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        mine = name.partition(".")[0] == package and not name.startswith("podnet.testing")
        return at_line if mine else None

    before = sys.gettrace()
    if package:
        sys.settrace(at_call)
    try:
        yield
    finally:
        if package:
            sys.settrace(before)


def in_processes(count: int, action: Callable[[int], T]) -> list[T | None]:
    """Run an action in that many forked processes at once; one that fails, fails the test.

    Args:
        count: how many processes.
        action: gets the number of its process, from 0; what it returns has to be picklable.

    Returns:
        What each returned, by its number; None for one that ended its process itself.
    """
    children = []
    # They begin when the last of them is there: then this pipe is closed.
    wait, begin = os.pipe()
    for number in range(count):
        out, into = os.pipe()
        with warnings.catch_warnings():
            # Test runners have threads of their own; the child uses none of what they hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(begin)
            os.close(out)
            os.read(wait, 1)
            _be_child(action, number, into)
        # Before the next fork: a copy in another child would keep the pipe open.
        os.close(into)
        children.append((pid, out))
    os.close(begin)
    os.close(wait)
    answers = []
    for _, out in children:
        with open(out, "rb") as file:
            answers.append(file.read())
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    assert codes == [0] * count, f"exit codes of the processes: {codes}"
    # The child's own pickle: it is this very program, one fork away.
    return [pickle.loads(answer) if answer else None for answer in answers]  # noqa: S301


def until_killed(action: Callable[[Callable[[int], None]], object], seconds: float) -> list[int]:
    """Run an action in a forked process and kill it; return the numbers it told before.

    Args:
        action: gets a function that tells a number, and goes on for ever.
        seconds: from its first number to its end.
    """
    out, into = os.pipe()

    def tell(number: int) -> None:
        os.write(into, number.to_bytes(_WIDTH))  # so few bytes go into a pipe at once or not at all

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(out)
        _be_child(lambda _: action(tell), 0, into)
    os.close(into)
    with open(out, "rb") as file:
        told = file.read(_WIDTH)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        told += file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == -signal.SIGKILL, f"it did not wait to be killed: exit code {code}"
    return [int.from_bytes(told[start : start + _WIDTH]) for start in range(0, len(told), _WIDTH)]


def _be_child(action: Callable[[int], object], number: int, into: int) -> None:
    code = 1
    try:
        answer = action(number)
        with open(into, "wb") as file:
            pickle.dump(answer, file)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # Not sys.exit: what the test runner registered for its own exit is not the child's.
        os._exit(code)
