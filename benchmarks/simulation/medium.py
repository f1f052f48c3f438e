"""The modelled store: how long a call takes, who wins a swap, and what goes wrong."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from attrs import frozen

from .clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .tally import Tally

_SAMPLES = 4096
_GLANCE = 0.0005


@frozen(kw_only=True)
class Medium:
    """What a store costs. Times are medians in seconds; single ones are log-normal around them.

    Attributes:
        name: for people.
        read: one read.
        write: one write, whether it wins or not.
        spread: sigma of the logarithm of both.
        writes_per_second: the store takes no more; what comes faster waits in line.
        bytes_per_second: objects are decoded, validated and encoded at that rate.
        in_line: so many writes may wait; more are told to come again in a second (HTTP 429).
        lost: share of writes whose answer is lost; found out after ``timeout`` by a look.
        timeout: seconds.
        outage: the store is away from when, and for how long, in seconds.
        head: bytes of an object without leases.
        each: bytes of a lease in it.
        whole: a write replaces the object; else it writes only the leases that change.
        largest: bytes of the largest object it takes; 0 for any.
        seeks: reads that it takes to find an owner's blocks.
        queues: who has lost a swap may wait in line with others who have.
    """

    name: str
    read: float
    write: float
    spread: float = 0.4
    writes_per_second: float
    bytes_per_second: float
    in_line: int = 400
    lost: float = 0.0
    timeout: float = 2.0
    outage: tuple[float, float] = (0.0, 0.0)
    head: int = 600
    each: int = 250
    whole: bool = True
    largest: int = 0
    seeks: int = 0
    queues: bool = False


KUBERNETES = Medium(
    name="kubernetes",
    read=0.002,
    write=0.005,
    writes_per_second=1000.0,
    bytes_per_second=10e6,
    lost=0.0005,
    largest=3 << 19,
)
"""An API server over etcd. 5 ms are the issue's; 10 MB/s make the model of whereabouts take the
0.75 s for a lease that were measured with 10 000 leases in one object; bytes are those of podnet's
IPBlock objects."""

POSTGRESQL = Medium(
    name="postgresql",
    read=0.0004,
    write=0.0012,
    writes_per_second=5000.0,
    bytes_per_second=100e6,
    head=300,
    each=300,
    whole=False,
    seeks=1,
    queues=True,
)
"""One primary with a synchronous commit for each write."""

DISK = Medium(
    name="disk",
    read=0.00005,
    write=0.001,
    writes_per_second=0.0,
    bytes_per_second=200e6,
    head=300,
    each=330,
    seeks=0,
)
"""A node's own file store: two synchronisations of an SSD for each write."""

MEDIA = {medium.name: medium for medium in (KUBERNETES, POSTGRESQL)}


class Object:
    """What is swapped as a whole: it has a version, and nothing else that the store knows."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0


class Line:
    """Those who wait for a turn, first come, first served."""

    def __init__(self) -> None:
        self._tickets: list[object] = []

    def wait(self) -> Generator[float, None, object]:
        """Wait for a turn; return the ticket to be given to ``leave``."""
        ticket = object()
        self._tickets.append(ticket)
        while self._tickets[0] is not ticket:
            yield _GLANCE
        return ticket

    def leave(self, ticket: object) -> None:
        """End a turn."""
        self._tickets.remove(ticket)


class ModelStore:
    """Objects with versions, for all nodes.

    Attributes:
        medium: what it costs.
        line: where those wait who have lost a swap, if it has one.
    """

    def __init__(self, clock: Clock, medium: Medium, chance: Random, tally: Tally) -> None:
        self.medium = medium
        self.line = Line()
        self._clock = clock
        self._tally = tally
        self._chance = chance.random
        spread = medium.spread
        self._samples = [chance.lognormvariate(0.0, spread) for _ in range(_SAMPLES)]
        self._gap = 1.0 / medium.writes_per_second if medium.writes_per_second else 0.0
        self._free_at = 0.0
        self._back = sum(medium.outage)

    def _sample(self, median: float) -> float:
        return median * self._samples[int(self._chance() * _SAMPLES)]

    def _outage(self) -> float:
        """Return the seconds until the store is there; whoever waits comes spread over two."""
        if self._clock.now < self._back and self._clock.now >= self.medium.outage[0]:
            return self._back - self._clock.now + 2.0 * self._chance()
        return 0.0

    def read(self, leases: int = 0) -> Generator[float, None, None]:
        """Read an object of so many leases; the answer is what is there when this ends."""
        medium = self.medium
        while away := self._outage():
            yield away
        self._tally.reads += 1
        size = medium.head + medium.each * leases
        yield self._sample(medium.read) + size / medium.bytes_per_second

    def write(
        self,
        thing: Object,
        expected: int,
        leases: int,
        changes: int,
        apply: Callable[[], None],
    ) -> Generator[float, None, bool]:
        """Replace an object if it is at the expected version; ``apply`` is called if it was.

        Args:
            thing: the object.
            expected: version that the writer read; 0 if it did not exist.
            leases: how many it has.
            changes: how many of them are written anew.
            apply: does what the write does.
        """
        medium, tally = self.medium, self._tally
        size = medium.head + medium.each * (leases if medium.whole else changes)
        if medium.largest and size > medium.largest:
            tally.too_large += 1
            return False
        while True:
            while away := self._outage():
                yield away
            now = self._clock.now
            waits = max(0.0, self._free_at - now)
            tally.writes += 1
            if self._gap and waits > medium.in_line * self._gap:
                tally.throttled += 1
                yield self._sample(medium.read) + 1.0 + self._chance()
                continue
            break
        self._free_at = now + waits + self._gap
        tally.bytes += size
        yield waits + self._sample(medium.write) + size / medium.bytes_per_second
        won = thing.version == expected
        if won:
            thing.version += 1
            apply()
        else:
            tally.conflicts += 1
        if medium.lost and self._chance() < medium.lost:
            # The same write again loses to itself; a look tells that it was done.
            tally.lost += 1
            tally.writes += 1
            tally.reads += 1
            yield medium.timeout + self._sample(medium.write) + self._sample(medium.read)
        return won
