"""What can go wrong between a client and the API server, and when it shall."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from attrs import define, frozen

from podnet.testing.kube import replies

if TYPE_CHECKING:
    from podnet.testing.kube.replies import Refusal


@frozen
class Throttle:
    """429 (or 503) with ``Retry-After``; the request is not carried out."""

    seconds: int = 1
    code: int = 429

    def refusal(self) -> Refusal:
        """Return the answer."""
        return replies.throttled(self.seconds, self.code)


@frozen
class Refuse:
    """Any refusal; the request is not carried out."""

    code: int
    reason: str = "InternalError"
    message: str = "planned fault"

    def refusal(self) -> Refusal:
        """Return the answer."""
        return replies.Refusal(self.code, self.reason, self.message)


@frozen
class Drop:
    """The connection is closed without an answer.

    Attributes:
        applied: after the request took effect (a lost reply), or before.
        partial: the answer's head and half of its body are sent first; only if applied.
    """

    applied: bool
    partial: bool = False


@frozen
class Slow:
    """The answer comes late.

    Attributes:
        seconds: how late.
        applied: the request takes effect at once and the answer waits, or the request waits.
    """

    seconds: float
    applied: bool = True


Fault = Throttle | Refuse | Drop | Slow


@define(eq=False)
class Rule:
    """A fault and the requests it strikes.

    Attributes:
        fault: what goes wrong.
        verb: such as ``patch``; empty for every verb.
        resource: plural with group such as ``pods`` or ``ippools.whereabouts.cni.cncf.io``; the
            plural alone is enough; empty for all.
        name: of the object; empty for all.
        skip: matching requests that are spared before the first is struck.
        times: how many are struck; None for no end.
        chance: of being struck, by the emulator's seeded random numbers.
        struck: how many were.
    """

    fault: Fault
    verb: str = ""
    resource: str = ""
    name: str = ""
    skip: int = 0
    times: int | None = 1
    chance: float = 1.0
    struck: int = 0


class Faults:
    """The faults that are planned."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._random = random.Random(seed)  # noqa: S311 - a plan of faults that can be repeated

    def add(self, rule: Rule) -> Rule:
        """Plan a fault; the oldest rule that matches a request strikes it."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._rules.clear()

    def strike(self, verb: str, resource: str, name: str) -> Fault | None:
        """Return the fault that strikes a request, or None."""
        with self._lock:
            for rule in self._rules:
                if not _matches(rule, verb, resource, name):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times == 0 or self._random.random() >= rule.chance:
                    continue
                rule.times = None if rule.times is None else rule.times - 1
                rule.struck += 1
                return rule.fault
        return None


def _matches(rule: Rule, verb: str, resource: str, name: str) -> bool:
    return (
        rule.verb in ("", verb)
        and rule.resource in ("", resource, resource.partition(".")[0])
        and rule.name in ("", name)
    )
