"""Who else may have an address of a pool: overlapping pools, and reservations.

Entries of pools count first: whereabouts' reconciler deletes reservations of living pods, all those
of named networks each night (iploop.go, ``strings.ReplaceAll(ip, "-", ":")``). Reservations count
as well: after a failed write whereabouts may have handed out an address with no other record.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.cluster.answers import UnreachableError
from podnet.errors import StoreError
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS
from podnet.model.lease import Lease
from podnet.stores.whereabouts_details import plain_lease
from podnet.stores.whereabouts_pool import ELSEWHERE, MENDED
from podnet.stores.whereabouts_reservations import Reservation, Reservations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.cluster.door import Cluster
    from podnet.ipam.whereabouts import PoolRef
    from podnet.stores.whereabouts_change import Step
    from podnet.stores.whereabouts_details import Entry
    from podnet.stores.whereabouts_lease import Leading
    from podnet.stores.whereabouts_pool import PoolObject
    from podnet.stores.whereabouts_pools import Pools

MEND_EVERY = 600.0
"""Seconds between two looks for reservations that are missing or left over."""

_MEND_MOST = 1.0
"""Seconds that such a look may take of somebody's ADD; the next one goes on."""


@frozen(eq=False)
class Neighbours:
    """What there is besides one pool.

    Attributes:
        own: the pool itself; None if it does not exist yet.
        others: pools of the network with addresses of it.
    """

    own: PoolObject | None
    others: tuple[PoolObject, ...]

    def has(self, address: Address) -> bool:
        """Tell whether another pool has the address."""
        return any(pool.entry(address) is not None for pool in self.others)


class TakenError(UnreachableError):
    """An address was reserved by somebody else in the last moment (11)."""


class Rivals:
    """Keeps the addresses of one namespace unique across pools."""

    def __init__(self, cluster: Cluster, pools: Pools) -> None:
        """Use a connection."""
        self.reservations = Reservations(cluster, pools.namespace)
        self._pools = pools

    def around(self, ref: PoolRef, own: PoolObject | None) -> Neighbours:
        """Look at what there is besides a pool now."""
        return Neighbours(own, tuple(self._pools.overlapping(ref)))

    def overlay(self, ref: PoolRef, own: PoolObject | None, index: int) -> dict[int, Lease]:
        """Return leases, by offset, for addresses of a block that are handed out elsewhere.

        They are looked for only where there was a conflict before: then what is free has to be
        known before an address is chosen.
        """
        known = self._pools.memory.rivals.get(ref.domain)
        if not known or not any(address.value >> BLOCK_BITS == index for address in known):
            return {}
        found = self._elsewhere(ref, self.around(ref, own), index)
        self._remember(ref, found, index)
        return {address.value % (1 << BLOCK_BITS): lease for address, lease in found.items()}

    def learn(self, ref: PoolRef, around: Neighbours, index: int) -> None:
        """Take note of what is handed out elsewhere of a block in which a conflict was met."""
        self._remember(ref, self._elsewhere(ref, around, index, everything=True), index)

    def _remember(self, ref: PoolRef, found: Mapping[Address, Lease], index: int) -> None:
        rivals = self._pools.memory.rivals
        before = rivals.get(ref.domain, {})
        rest = {a: lease for a, lease in before.items() if a.value >> BLOCK_BITS != index}
        rivals[ref.domain] = {**rest, **found}

    def _elsewhere(
        self, ref: PoolRef, around: Neighbours, index: int, *, everything: bool = False
    ) -> dict[Address, Lease]:
        found: dict[Address, Lease] = {}
        for pool in around.others:
            for offset in pool.places.get(index, ()):
                address = Address(ref.network.version, (index << BLOCK_BITS) + offset)
                entry = pool.entry(address)
                if entry is not None and address in ref.network:
                    found[address] = _elsewhere(ref, address, entry)
        if everything:
            reserved = self.reservations.all(ref.network_name)
        else:
            known = self._pools.memory.rivals.get(ref.domain, {})
            wanted = [a for a in known if a.value >> BLOCK_BITS == index and a not in found]
            reserved = self.reservations.of(ref.network_name, wanted)
        for address, one in reserved.items():
            here = address in ref.network and address.value >> BLOCK_BITS == index
            if here and not _has(around.own, address) and not self.is_left_over(one, around):
                entry = {"id": one.container, "podref": one.podref, "ifname": one.ifname}
                found.setdefault(address, _elsewhere(ref, address, entry))
        return {a: lease for a, lease in found.items() if not _has(around.own, a)}

    def is_left_over(self, one: Reservation, around: Neighbours) -> bool:
        """Tell whether a reservation is podnet's own and the entry that it was made for is gone.

        Entries are written before and removed before their reservations, so that a kill leaves
        this behind and nothing else.
        """
        if not one.pool or around.has(one.address) or _has(around.own, one.address):
            return False
        if one.pool in {pool.name for pool in (around.own, *around.others) if pool is not None}:
            return True
        pool = self._pools.fresh(one.pool)
        return pool is None or pool.entry(one.address) is None

    def is_current(self, ref: PoolRef, own: PoolObject | None) -> bool:
        """Tell whether a pool still is as it was seen."""
        now = self._pools.fresh(ref.name)
        if own is None or now is None:
            return own is now
        return (now.uid, now.version) == (own.uid, own.version)

    def has_taken(
        self, ref: PoolRef, around: Neighbours, steps: tuple[Step, ...], held: Leading
    ) -> bool:
        """Tell whether one of the addresses that shall be handed out is handed out elsewhere.

        What is left over of an address is deleted. Where the pool is not as it was seen any more,
        the answer is no: writing it will fail, and then the question comes again.
        """
        come = {step.address: step.new for step in steps if step.old is None and step.new}
        if any(around.has(address) for address in come):
            return True
        for address, one in self.reservations.of(ref.network_name, come).items():
            if one.is_for(come[address]):
                continue
            if not self.is_current(ref, around.own):
                return False
            held.keep()
            if not (self.is_left_over(one, around) and self.reservations.delete(one)):
                return True
        return False

    def reserve(
        self, ref: PoolRef, steps: tuple[Step, ...], held: Leading
    ) -> tuple[Reservation, ...]:
        """Make the reservations agree with addresses that came, or changed hands.

        Returns:
            Those that were made.

        Raises:
            TakenError: somebody else reserved one meanwhile; none that was made is left.
            StoreError: the API server cannot be reached or refuses; none that could be taken back
                is left.
        """
        made: list[Reservation] = []
        try:
            for step in steps:
                if step.new is None:
                    continue
                held.keep()
                if step.old is None:
                    one, new = self._reserved(ref, step.address, step.new)
                    if new:
                        made.append(one)
                    elif not one.is_for(step.new):
                        raise TakenError(f"{step.address} is reserved by {one}")
                else:
                    self._passed_on(ref, step)
        except BaseException:
            self.take_back(made)
            raise
        return tuple(made)

    def _reserved(self, ref: PoolRef, address: Address, entry: Entry) -> tuple[Reservation, bool]:
        return self.reservations.create(ref.network_name, address, entry, ref.name)

    def _passed_on(self, ref: PoolRef, step: Step) -> None:
        """Let a reservation follow its entry to another pod."""
        assert step.old is not None
        assert step.new is not None
        one = self.reservations.get(ref.network_name, step.address)
        if one is not None and one.is_for(step.old) and not one.is_for(step.new):
            self.reservations.delete(one)
            one = None
        if one is None:
            self._reserved(ref, step.address, step.new)

    def take_back(self, made: list[Reservation] | tuple[Reservation, ...]) -> None:
        """Delete reservations that were made for nothing."""
        for one in made:
            try:
                self.reservations.delete(one)
            except StoreError:
                continue  # it is left over, and known as such

    def free(self, ref: PoolRef, steps: tuple[Step, ...], held: Leading) -> None:
        """Delete the reservations of addresses that are free now, if they were of their holders.

        What fails is left over, and known as such: the addresses are free already.
        """
        for step in steps:
            if step.new is not None or step.old is None:
                continue
            try:
                held.keep()
                one = self.reservations.get(ref.network_name, step.address)
                if one is not None and (one.is_for(step.old) or one.pool == ref.name):
                    self.reservations.delete(one)
            except StoreError:
                continue

    # --- mending

    def is_due(self, ref: PoolRef, own: PoolObject | None, now: float) -> bool:
        """Tell whether it is time to mend a pool, and it is as it was seen."""
        if own is None:
            return False
        told = _number(own.annotations.get(MENDED, ""))
        return not 0 <= now - told < MEND_EVERY and self.is_current(ref, own)

    def mend(self, ref: PoolRef, around: Neighbours, held: Leading) -> bool:
        """Make the reservations agree with the entries of a pool, as far as that is safe.

        - An entry without a reservation, which no other pool has, gets one again.
        - A reservation of another pod that is gone, or of podnet's whose entry is gone, is replaced
          by one for the entry: it would keep whereabouts from ever answering the entry's pod.
        - One without any entry, of podnet's, is deleted. Of whereabouts' it is left: it may be the
          only record of an address that is in use.

        Returns:
            False if time ran out before all was looked at.

        Raises:
            StoreError: the API server cannot be reached or refuses.
        """
        ends = time.monotonic() + _MEND_MOST
        own = around.own
        assert own is not None
        reserved = self.reservations.all(ref.network_name)
        for address in own.addresses():
            entry, one = own.entry(address), reserved.pop(address, None)
            if entry is None or (one is not None and one.is_for(entry)) or around.has(address):
                continue
            if time.monotonic() > ends:
                return False
            held.keep()
            if one is None or (self._is_nobodys(one) and self.reservations.delete(one)):
                self._reserved(ref, address, entry)
        for address, one in reserved.items():
            if address in ref.network and self.is_left_over(one, around):
                if time.monotonic() > ends:
                    return False
                held.keep()
                self.reservations.delete(one)
        return True

    def _is_nobodys(self, one: Reservation) -> bool:
        """Tell whether the reservation of an address whose entry is another pod's protects none."""
        return bool(one.pool) or (bool(one.podref) and not self.reservations.has_pod(one.podref))


def _has(pool: PoolObject | None, address: Address) -> bool:
    return pool is not None and pool.entry(address) is not None


def _elsewhere(ref: PoolRef, address: Address, entry: Entry) -> Lease:
    plain = plain_lease(ref.domain, address, ref.network.length, entry)
    # Nobody's container id: it is not released here.
    owner = evolve(plain.owner, container_id=ELSEWHERE)
    return evolve(plain, pool=ELSEWHERE, owner=owner, claim=ELSEWHERE)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
