"""Is a history of concurrent calls one that calls made one after the other could have had?

A history is *linearizable* (Herlihy and Wing, 1990) if each call can be given one moment between
its start and its end such that the calls, in the order of these moments, are what a sequential
model permits. The search is Wing and Gong's (1993) with Lowe's memory (2017) of the sets of calls
and states that led nowhere. A call whose outcome nobody learned may have had its moment at any
time after its start, or never.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from attrs import field, frozen

from podnet.errors import PodnetError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

T = TypeVar("T")


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"

    def __reduce__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()
"""The answer of a call that failed in a way that leaves open whether it had an effect."""


@frozen(kw_only=True)
class Operation:
    """One call of a history.

    Attributes:
        who: thread or process that called; for people.
        call: what was asked; the model understands it.
        answer: what came back, or ``UNKNOWN``.
        start: when it began, in any unit.
        end: when the answer was there; two calls of which neither ended before the other began
            may have had their effects in any order.
    """

    who: str
    call: object
    answer: object
    start: float
    end: float = field(default=math.inf)

    def __str__(self) -> str:
        return f"{self.who}: {self.call} → {self.answer}  [{self.start}, {self.end}]"


class Recorder:
    """Notes what one thread or process calls; each has a recorder of its own.

    The clock is the machine's: histories of several processes can be put together.
    """

    def __init__(self, who: str, clock: Callable[[], float] = time.monotonic_ns) -> None:
        self.who = who
        self.history: list[Operation] = []
        self._clock = clock

    def record(
        self, call: object, action: Callable[[], T], seen: Callable[[T], object] = lambda it: it
    ) -> T:
        """Do ``action`` and note it as ``call``.

        Args:
            call: what the model is told.
            action: does it.
            seen: turns what came back into what the model is told.

        Raises:
            PodnetError: from ``action``; what it did is then unknown.
        """
        start = self.now()
        try:
            answer = action()
        except PodnetError:
            self.note(call, UNKNOWN, start)
            raise
        end = self.now()
        self.note(call, seen(answer), start, end)
        return answer

    def now(self) -> float:
        """Return the time."""
        return self._clock()

    def note(self, call: object, answer: object, start: float, end: float = math.inf) -> None:
        """Note a call."""
        op = Operation(who=self.who, call=call, answer=answer, start=start, end=end)
        self.history.append(op)


class Model(Protocol):
    """What calls do when they are made one after the other."""

    @property
    def initial(self) -> Hashable:
        """State at the beginning."""
        ...

    def following(self, state: Hashable, call: object, answer: object) -> Iterable[Hashable]:
        """Return the states that the call may lead to if it is answered so.

        None at all if it cannot be answered so in this state. For ``UNKNOWN``, those that it may
        lead to by having its effect.
        """
        ...


class NotLinearizableError(AssertionError):
    """No order of the calls explains their answers; tells how far the search came."""


def check_history(history: Iterable[Operation], model: Model) -> tuple[Operation, ...]:
    """Return an order of the calls that explains the history.

    Raises:
        NotLinearizableError: there is none.
    """
    return _Search(sorted(history, key=lambda op: (op.start, op.end)), model).run()


def is_linearizable(history: Iterable[Operation], model: Model) -> bool:
    """Tell whether an order of the calls explains the history."""
    try:
        check_history(history, model)
    except NotLinearizableError:
        return False
    return True


class _Search:
    """Depth first: which call may have been next, and where does that lead?"""

    def __init__(self, history: Sequence[Operation], model: Model) -> None:
        self._history = history
        self._model = model
        # Sets of calls are bits of an integer: the lowest is the first of the history.
        self._known = sum(1 << n for n, op in enumerate(history) if op.answer is not UNKNOWN)
        self._seen: set[tuple[int, Hashable]] = set()
        self._best: tuple[int, Hashable, tuple[int, ...]] = (0, model.initial, ())

    def run(self) -> tuple[Operation, ...]:
        done, state = 0, self._model.initial
        path: list[int] = []
        trail = [self._moves(done, state)]
        while done & self._known != self._known:
            move = next(trail[-1], None)
            if move is None:
                trail.pop()
                if not trail:
                    raise NotLinearizableError(self._explain())
                done &= ~(1 << path.pop())
                continue
            number, state = move
            if (done | 1 << number, state) in self._seen:
                continue
            done |= 1 << number
            self._seen.add((done, state))
            path.append(number)
            trail.append(self._moves(done, state))
            if (done & self._known).bit_count() > (self._best[0] & self._known).bit_count():
                self._best = (done, state, tuple(path))
        return tuple(self._history[number] for number in path)

    def _moves(self, done: int, state: Hashable) -> Iterator[tuple[int, Hashable]]:
        for number in self._candidates(done):
            op = self._history[number]
            for following in self._model.following(state, op.call, op.answer):
                yield number, following

    def _candidates(self, done: int) -> list[int]:
        """Return the calls that no call ended before that is still to come."""
        earliest_end, found = math.inf, []
        first = (~done & (done + 1)).bit_length() - 1
        for number in range(first, len(self._history)):
            if done >> number & 1:
                continue
            op = self._history[number]
            if op.start > earliest_end:
                break
            found.append(number)
            if op.answer is not UNKNOWN:
                earliest_end = min(earliest_end, op.end)
        return found

    def _explain(self) -> str:
        done, state, path = self._best
        before = "\n".join(f"  {self._history[number]}" for number in path[-8:])
        stuck = "\n".join(f"  {self._history[number]}" for number in self._candidates(done))
        return (
            f"no order explains the answers; the best one has {len(path)} of "
            f"{len(self._history)} calls, lastly\n{before}\nand leads to the state {state}, in "
            f"which none of these can come next:\n{stuck}"
        )
