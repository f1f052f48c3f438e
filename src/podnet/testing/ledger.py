"""What callers of several nodes were told, and whether it can be true.

The ledger knows the addresses from outside: what was asked, what was answered, and which leases
there are in the stores after every single effect. It decides nothing of what the code under test
decides, and shares no code with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from podnet.errors import AddressUnavailableError, PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.model.lease import Lease, Owner
    from podnet.model.pool import Pool

    Place = tuple[str, str]
    Truth = dict[Place, Lease]


@define(eq=False, kw_only=True)
class Op:
    """One call of one node that is under way.

    Attributes:
        what: ``allocate``, ``release``, ``end``, ``sweep`` or ``tick``.
        node: name of the node.
        pool: where from, if it is about a pool.
        owner: for whom, if it is about one.
        requested: the address asked for.
        lease: the grant to be ended.
        spared: keys of owners whose leases a sweep leaves alone.
        had: what the pod held for certain when it asked.
        free: addresses of the pool that have been free all the time since the call began.
        spent: there was a moment since then at which no address was free.
        mine: addresses of the pool that the pod had, by any container, at some moment since then.
        unsure: a call of before, given up, had an effect on the same pod meanwhile: what this one
            is told may be overtaken.
    """

    what: str
    node: str
    pool: Pool | None = None
    owner: Owner | None = None
    requested: str | None = None
    lease: Lease | None = None
    spared: frozenset[tuple[str, str]] = frozenset()
    had: Lease | None = None
    free: set[str] = field(factory=set)
    spent: bool = False
    mine: set[str] = field(factory=set)
    unsure: bool = False

    @property
    def about(self) -> Owner | None:
        """Whose addresses it is about, if one owner's."""
        return self.lease.owner if self.lease else self.owner

    def __str__(self) -> str:
        pool = self.pool.name if self.pool else ""
        return f"{self.node}: {self.what} {pool} {self.lease or self.owner or ''}"


@define(eq=False)
class Holding:
    """An address that a pod was told it has, and has not begun to give back.

    Attributes:
        lease: as told last.
        keys: containers of the pod that it may be written to: that which was told, and one whose
            question failed.
    """

    lease: Lease
    keys: set[tuple[str, str]]


def place_of(lease: Lease) -> Place:
    """Return collision domain and address."""
    return lease.domain, str(lease.ip)


def pod_of(owner: Owner) -> tuple[str, str]:
    """Return what stays the same when a container is replaced."""
    return owner.pod_uid, owner.ifname


class Ledger:
    """Holdings, calls under way, and the invariants.

    Attributes:
        told: every lease that any caller was ever told, the newest last.
        holdings: pool and pod to what it holds for certain.
    """

    def __init__(self, may: Mapping[str, Iterable[str]], *, strict: bool = True) -> None:
        """Begin without leases.

        Args:
            may: name of a pool to the addresses that it may hand out, worked out by hand.
            strict: a refusal needs a moment at which no address was free; else it is enough that
                no address was free all the time.
        """
        self._may = {pool: tuple(addresses) for pool, addresses in may.items()}
        self._strict = strict
        self._truth: Truth = {}
        self._newest: dict[Place, Lease] = {}
        self.holdings: dict[tuple[str, tuple[str, str]], Holding] = {}
        self.under_way: list[Op] = []
        self.told: list[Lease] = []

    def begin(self, op: Op) -> None:
        """A call begins; what it is to give back is held for certain no longer."""
        self.under_way.append(op)
        if op.what == "allocate":
            assert op.pool is not None
            assert op.owner is not None
            held = self.holdings.get((op.pool.name, pod_of(op.owner)))
            op.had = held.lease if held else None
            op.free = set(self._may[op.pool.name])
            self._watch(op)
        for key, holding in list(self.holdings.items()):
            if self._gives_back(op, holding):
                del self.holdings[key]

    def _gives_back(self, op: Op, holding: Holding) -> bool:
        lease = holding.lease
        if op.what == "release" and op.owner is not None:
            return op.owner.key in holding.keys and (
                op.pool is None or (lease.domain, lease.pool) == (op.pool.domain, op.pool.name)
            )
        if op.what == "end" and op.lease is not None:
            if place_of(lease) != place_of(op.lease):
                return False
            # A call whose answer was lost may have renewed what was told, and that is ended.
            renewed = pod_of(lease.owner) == pod_of(op.lease.owner)
            renewed = renewed and lease.sequence < op.lease.sequence
            return renewed or lease.sequence == op.lease.sequence
        return False

    def overdue(self) -> list[Lease]:
        """Return grants that were told and are over, of addresses that are held anew.

        Those whose owner is the same again come last.
        """
        found: list[tuple[bool, int, Lease]] = []
        for lease in self.told:
            held = self._truth.get(place_of(lease))
            if held is not None and held.sequence != lease.sequence:
                found.append((held.owner.key == lease.owner.key, len(found), lease))
        return [lease for _, _, lease in sorted(found, key=lambda each: each[:2])]

    def forget(self, pod: tuple[str, str]) -> None:
        """A pod is gone, and nobody says so to any node."""
        self.holdings = {key: held for key, held in self.holdings.items() if key[1] != pod}

    def observe(self, leases: Iterable[Lease], strays_of: Iterable[Op] | None = None) -> None:
        """Look at the stores after an effect, and hold them to what was told.

        Args:
            leases: all there are.
            strays_of: the effect was that of a swap long given up, and of one of these calls.
        """
        before, truth = self._truth, {}
        for lease in leases:
            assert place_of(lease) not in truth, f"{lease.ip} is held twice"
            truth[place_of(lease)] = lease
        self._truth = truth
        if truth != before:
            if strays_of is not None:
                self._overtaken(before, list(strays_of))
            self._check_sequences()
            self._check_holdings()
        for op in self.under_way:
            if op.what == "allocate":
                self._watch(op)

    def _watch(self, op: Op) -> None:
        assert op.pool is not None
        domain = op.pool.domain
        now = {x for x in self._may[op.pool.name] if (domain, x) not in self._truth}
        op.free &= now
        op.spent = op.spent or not now
        op.mine |= {
            address
            for (where, address), lease in self._truth.items()
            if (where, lease.pool) == (domain, op.pool.name)
            and op.owner is not None
            and pod_of(lease.owner) == pod_of(op.owner)
        }

    def _overtaken(self, before: Truth, causes: list[Op]) -> None:
        """A stray had an effect: only on pods that its calls were about."""
        for place in before.keys() | self._truth.keys():
            old, new = before.get(place), self._truth.get(place)
            if old == new:
                continue
            pods = {pod_of(lease.owner) for lease in (old, new) if lease is not None}
            for op in self.under_way:
                op.unsure = op.unsure or op.about is None or pod_of(op.about) in pods
            for key, holding in list(self.holdings.items()):
                asked = any(self._may_have_freed(op, holding) for op in causes)
                if place_of(holding.lease) == place and asked:
                    del self.holdings[key]

    def _may_have_freed(self, op: Op, holding: Holding) -> bool:
        lease = holding.lease
        if op.what == "sweep":
            return lease.owner.key not in op.spared and lease.node == op.node
        return op.about is not None and pod_of(op.about) == pod_of(lease.owner)

    def _check_sequences(self) -> None:
        for place, lease in self._truth.items():
            newest = self._newest.get(place)
            if newest is not None:
                assert lease.sequence >= newest.sequence, f"{lease} is older than {newest}"
                same = (lease.owner.key, lease.pool) == (newest.owner.key, newest.pool)
                assert same or lease.sequence > newest.sequence, f"{lease} and {newest}: one number"
            self._newest[place] = lease

    def _check_holdings(self) -> None:
        for holding in self.holdings.values():
            lease = holding.lease
            found = self._truth.get(place_of(lease))
            assert found is not None, f"{lease.ip} was taken from {lease.owner}, who was told it"
            assert pod_of(found.owner) == pod_of(lease.owner), (
                f"{lease.ip} was told to {lease.owner} and is held by {found.owner}"
            )

    def lost(self, op: Op) -> None:
        """A call ended without an answer that says what was done."""
        self.under_way.remove(op)
        if op.what == "allocate" and op.owner is not None and op.pool is not None:
            holding = self.holdings.get((op.pool.name, pod_of(op.owner)))
            if holding is not None:
                holding.keys.add(op.owner.key)

    def refused(self, op: Op, error: Exception) -> None:
        """A call was refused for good."""
        self.under_way.remove(op)
        assert op.what == "allocate", f"{op} was refused: {error!r}"
        assert op.pool is not None
        if isinstance(error, PoolExhaustedError):
            assert op.had is None or op.unsure, f"{op.owner} was refused, and holds {op.had}"
            assert not op.free, f"refused although {sorted(op.free)} were free all the time"
            assert op.spent or not self._strict, "refused although one or another was always free"
        elif isinstance(error, AddressUnavailableError):
            held = op.had is not None and not op.unsure and str(op.had.ip) == op.requested
            assert not held, f"{op.requested} refused to {op.owner}, who holds it"
            # One pod has one address of a pool: another one is refused to it.
            assert op.mine or op.requested not in op.free, (
                f"{op.requested} refused although it was free all the time"
            )

    def answered(self, op: Op, answer: object) -> None:
        """A call was answered."""
        self.under_way.remove(op)
        if op.what == "allocate":
            self._allocated(op, answer)  # type: ignore[arg-type]
        elif op.what in ("release", "end", "sweep"):
            self._freed(op, answer)  # type: ignore[arg-type]

    def _allocated(self, op: Op, lease: Lease) -> None:
        assert op.pool is not None
        assert op.owner is not None
        assert lease.owner == op.owner
        assert (lease.domain, lease.pool) == (op.pool.domain, op.pool.name)
        assert str(lease.ip) in self._may[op.pool.name], f"{lease.ip} is not the pool's"
        assert op.requested in (None, str(lease.ip))
        self.told.append(lease)
        if op.unsure:
            return
        if op.had is not None:
            assert lease.ip == op.had.ip, f"{op.owner} holds {op.had.ip} and was given {lease.ip}"
        self.holdings[op.pool.name, pod_of(op.owner)] = Holding(lease, {op.owner.key})
        self._check_holdings()

    def _freed(self, op: Op, leases: Iterable[Lease]) -> None:
        for lease in leases:
            assert self._is_meant(op, lease), f"{op} took back {lease}"
        left = [lease for lease in self._truth.values() if self._is_meant(op, lease)]
        assert op.unsure or not left, f"{op} was done, and there still are {left}"

    def _is_meant(self, op: Op, lease: Lease) -> bool:
        """Tell whether a lease is one that the call is to take back."""
        if op.what == "sweep":
            return lease.node == op.node and lease.owner.key not in op.spared
        if op.owner is not None:
            pool = None if op.pool is None else (op.pool.domain, op.pool.name)
            return lease.owner.key == op.owner.key and pool in (None, (lease.domain, lease.pool))
        assert op.lease is not None
        return (place_of(lease), lease.sequence) == (place_of(op.lease), op.lease.sequence)
