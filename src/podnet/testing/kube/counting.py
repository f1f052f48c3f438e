"""What the emulator was asked: a log of requests, and counters for tests."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.testing.kube.api import WRITING_VERBS

if TYPE_CHECKING:
    from podnet.testing.kube.requests import Reply, Request, Target

_LOGGED = 100_000


@frozen
class Logged:
    """One request that was answered, or left unanswered on purpose (code 0).

    Attributes:
        verb: such as ``patch``; ``discover`` for discovery and health.
        resource: plural with its group; empty for discovery.
        namespace: empty for objects of the cluster and all namespaces.
        name: of the object; empty for collections.
        code: HTTP status.
        sent: bytes of the request's body.
        received: bytes of the answer's body; 0 for a watch.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    sent: int
    received: int


class Counting:
    """Counts and logs requests; threads may share it."""

    def __init__(self) -> None:
        self._log: deque[Logged] = deque(maxlen=_LOGGED)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()

    @property
    def writes(self) -> int:
        """Number of writing requests, whether they succeeded or not."""
        with self._counting:
            return sum(n for (verb, _), n in self._counts.items() if verb in WRITING_VERBS)

    def count(self, verb: str = "", resource: str = "") -> int:
        """Return how many requests of a verb and resource there were; empty means any."""
        with self._counting:
            return sum(
                n
                for (each, about), n in self._counts.items()
                if verb in ("", each) and resource in ("", about, about.partition(".")[0])
            )

    def log(self) -> list[Logged]:
        """Return the last requests, oldest first."""
        return list(self._log)

    def forget(self) -> None:
        """Set counters and log to nothing."""
        with self._counting:
            self._counts.clear()
            self._log.clear()

    def note(self, verb: str, target: Target | None, request: Request, reply: Reply) -> None:
        """Take in a request that was answered."""
        entry = Logged(
            verb,
            target.kind.resource if target else "",
            (target.namespace or "") if target else "",
            target.name if target else "",
            reply.code,
            len(request.body),
            len(reply.body),
        )
        with self._counting:
            self._counts[verb, entry.resource] += 1
            self._log.append(entry)
