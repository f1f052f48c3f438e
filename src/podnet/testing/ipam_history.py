"""Histories of concurrent calls of address management, and whether they are linearizable.

The model is one set: which address of a domain is held by whom. An allocation adds one, of a
pool's free ones; a release takes away all that an owner has in a pool; a refusal needs a moment
at which nothing was free. Grants of one address bear growing numbers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from podnet.errors import AddressUnavailableError, PodnetError, PoolExhaustedError
from podnet.model.lease import Lease, Owner
from podnet.testing.linearizability import UNKNOWN, Operation, Recorder, check_history
from podnet.testing.machines import is_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from podnet.engine.leases import Ipam
    from podnet.model.pool import Pool


@frozen
class Allocate:
    """Answered by address and sequence, or by None: nothing to be had."""

    pool: str
    owner: Owner
    requested: str | None = None


@frozen
class Release:
    """An owner's leases of a pool; answered by the set of addresses and sequences."""

    pool: str
    owner: Owner


@frozen
class End:
    """One grant is over; answered by the set of it, or the empty set."""

    address: str
    sequence: int


@frozen
class Held:
    """One address in the model.

    Attributes:
        sequence: None if the grant's number was never told.
    """

    address: str
    pool: str
    owner: Owner
    sequence: int | None


class RecordedIpam:
    """Address management whose calls by one user are noted."""

    def __init__(self, ipam: Ipam, who: str) -> None:
        self._ipam = ipam
        self.recorder = Recorder(who)

    def allocate(self, pool: Pool, owner: Owner, *, requested: str | None = None) -> Lease:
        """Pass on."""
        call, log, start = Allocate(pool.name, owner, requested), self.recorder, self.recorder.now()
        try:
            lease = self._ipam.allocate(pool, owner, network="net", requested=requested)
        except (PoolExhaustedError, AddressUnavailableError):
            log.note(call, None, start, log.now())
            raise
        except PodnetError:
            # It may be held, and podnet may have given it back as well, now or later.
            log.note(call, UNKNOWN, start)
            log.note(Release(pool.name, owner), UNKNOWN, start)
            raise
        end = log.now()
        log.note(call, (str(lease.ip), lease.sequence), start, end)
        return lease

    def release(self, pool: Pool, owner: Owner) -> tuple[Lease, ...]:
        """Pass on."""
        call = Release(pool.name, owner)
        return self.recorder.record(call, lambda: self._ipam.release(owner, pool=pool), _told)

    def end(self, lease: Lease) -> tuple[Lease, ...]:
        """Pass on, as the release of one grant."""
        call = End(str(lease.ip), lease.sequence)
        return self.recorder.record(call, lambda: self._ipam.release(lease), _told)


def _told(leases: tuple[Lease, ...]) -> frozenset[tuple[str, int]]:
    return frozenset((str(lease.ip), lease.sequence) for lease in leases)


def work(ipam: Ipam, who: str, *, pools: Sequence[Pool], steps: int) -> list[Operation]:
    """Allocate and release at random for a few owners of ``who``'s own; return the history.

    Args:
        ipam: address management, or a handle of it.
        who: name of this user; the same name does the same.
        pools: of one domain; the fewer addresses, the more conflicts.
        steps: how many calls.
    """
    mine, chance = RecordedIpam(ipam, who), random.Random(who)  # noqa: S311 - no secret
    owners = [Owner(f"{who}-{n}", "eth1", "ns", f"{who}-{n}", f"uid-{who}-{n}") for n in range(2)]
    former: list[Lease] = []
    for _ in range(steps):
        pool, owner = chance.choice(pools), chance.choice(owners)
        what = chance.choices(["allocate", "again", "request", "release", "late"], [5, 1, 2, 4, 1])
        try:
            match what[0]:
                case "release":
                    former += mine.release(pool, owner)
                case "late" if former:
                    mine.end(chance.choice(former))
                case "request" if former:
                    wanted = chance.choice(
                        [str(x.ip) for x in former if x.pool == pool.name] or [None]
                    )
                    mine.allocate(pool, owner, requested=wanted)
                case "again":
                    # The container was replaced: its successor asks.
                    number = owners.index(owner)
                    owners[number] = evolve(owner, container_id=owner.container_id + "'")
                    mine.allocate(pool, owners[number])
                case _:
                    mine.allocate(pool, owner)
        except PodnetError:
            continue
    return mine.recorder.history


def check_ipam(history: Iterable[Operation], pools: Mapping[str, Iterable[str]]) -> None:
    """Hold a history of one domain, empty at first, to what address management promises.

    Args:
        history: calls of ``RecordedIpam``.
        pools: name of a pool to the addresses that it may hand out.

    Raises:
        NotLinearizableError: no order of the calls explains their answers.
    """
    check_history(
        history, _Domain({name: frozenset(addresses) for name, addresses in pools.items()})
    )


@frozen
class _State:
    """Which addresses are held, and the highest number that a grant of each has had."""

    held: frozenset[Held] = frozenset()
    numbers: frozenset[tuple[str, int]] = frozenset()


@frozen
class _Domain:
    pools: dict[str, frozenset[str]]
    initial: Hashable = field(factory=_State)

    def following(self, state: Hashable, call: object, answer: object) -> Iterable[Hashable]:
        assert isinstance(state, _State)
        match call:
            case Allocate() if answer is UNKNOWN:
                return [
                    self._granted(state, call, address, None)
                    for address in sorted(self._to_be_had(state, call))
                ]
            case Allocate():
                return self._allocated(state, call, answer)
            case Release(pool, owner):
                gone = {x for x in state.held if x.pool == pool and x.owner.key == owner.key}
            case End(address, sequence):
                one = (address, sequence)
                gone = {x for x in state.held if (x.address, x.sequence or sequence) == one}
        told = {(x.address, x.sequence) for x in gone}
        if answer is not UNKNOWN and not _agree(told, answer):
            return []
        return [evolve(state, held=state.held - gone)]

    def _to_be_had(self, state: _State, call: Allocate) -> set[str]:
        mine = {x.address for x in state.held if x.pool == call.pool and is_of(x.owner, call.owner)}
        free = mine or self.pools[call.pool] - {x.address for x in state.held}
        return {x for x in free if call.requested in (None, x)}

    def _allocated(self, state: _State, call: Allocate, answer: object) -> list[_State]:
        may = self._to_be_had(state, call)
        if not isinstance(answer, tuple):
            return [] if may else [state]
        address, sequence = answer
        if address not in may:
            return []
        after = self._granted(state, call, address, sequence)
        if after.held == state.held:
            return [state]
        numbers = dict(state.numbers)
        if sequence <= numbers.get(address, 0):
            return []
        numbers[address] = sequence
        return [evolve(after, numbers=frozenset(numbers.items()))]

    def _granted(self, state: _State, call: Allocate, address: str, sequence: int | None) -> _State:
        others = frozenset(x for x in state.held if x.address != address)
        return evolve(state, held=others | {Held(address, call.pool, call.owner, sequence)})


def _agree(gone: set[tuple[str, int | None]], told: object) -> bool:
    """Tell whether an answer is what is gone, of which some numbers may not be known."""
    assert isinstance(told, frozenset)
    return {x[0] for x in gone} == {x[0] for x in told} and all(
        x[1] is None or x in told for x in gone
    )
