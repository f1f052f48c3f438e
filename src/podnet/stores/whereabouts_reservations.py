"""OverlappingRangeIPReservation objects: one for each address that a network has handed out.

With them whereabouts keeps addresses unique across pools whose ranges overlap. They are second
hand: the entry in an IPPool is the truth. Those of podnet's say in an annotation which pool's entry
they are of, so that one whose entry is gone is known for what it is: left over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.cluster.answers import (
    ConflictError,
    ExistsError,
    MissingError,
    UnknownOutcomeError,
    UnreachableError,
)
from podnet.cluster.pauses import Pauses
from podnet.cluster.resource import PODS, custom
from podnet.errors import PodnetError
from podnet.ipam.whereabouts import reservation_name, reserved_address
from podnet.stores.whereabouts_pool import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.cluster.door import Cluster
    from podnet.model.addresses import Address
    from podnet.stores.whereabouts_details import Entry

Document = dict[str, Any]

RESERVATIONS = custom(
    "whereabouts.cni.cncf.io",
    "v1alpha1",
    "overlappingrangeipreservations",
    "OverlappingRangeIPReservation",
    namespaced=True,
)
POOL = PREFIX + "pool"

_FEW = 8
_TRIED_FOR = 3.0
"""Seconds for which a write without a reply is repeated."""


@frozen
class Reservation:
    """One reservation as it was read.

    Attributes:
        address: which.
        podref: whose; empty for no pod's.
        ifname: which interface; empty where whereabouts was older than 0.8.
        container: container id; only podnet tells it.
        pool: name of the IPPool with its entry; only podnet tells it.
        document: the object.
    """

    address: Address
    podref: str
    ifname: str
    container: str
    pool: str
    document: Document

    def is_for(self, entry: Entry) -> bool:
        """Tell whether it is the one of an entry."""
        podref, ifname = entry.get("podref") or "", entry.get("ifname") or ""
        if self.podref:
            return self.podref == podref and self.ifname in ("", ifname)
        return not podref and bool(self.container) and self.container == entry.get("id")

    def tells(self, wanted: Document) -> bool:
        """Tell whether it is as an object that podnet wanted to create."""
        told = {"podref": self.podref, "ifname": self.ifname, "containerid": self.container}
        notes = wanted["metadata"]["annotations"]
        return (told, self.pool) == (wanted["spec"], notes[POOL])

    def __str__(self) -> str:
        return f"{self.podref or 'no pod'} ({self.ifname})"


class Reservations:
    """The reservations of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Use a connection."""
        self._cluster = cluster
        self._namespace = namespace

    def of(self, network_name: str, addresses: Iterable[Address]) -> dict[Address, Reservation]:
        """Return the reservations of some addresses of a network."""
        wanted = set(addresses)
        if len(wanted) > _FEW:
            return {a: r for a, r in self.all(network_name).items() if a in wanted}
        found = (self.get(network_name, address) for address in wanted)
        return {one.address: one for one in found if one is not None}

    def get(self, network_name: str, address: Address) -> Reservation | None:
        """Return the reservation of an address; None if there is none."""
        name = reservation_name(address, network_name)
        document = self._cluster.get(RESERVATIONS, name, self._namespace)
        return None if document is None else _read(address, document)

    def all(self, network_name: str) -> dict[Address, Reservation]:
        """Return all reservations of a network."""
        found = {}
        for document in self._cluster.list_all(RESERVATIONS, self._namespace).items:
            address = reserved_address(document["metadata"]["name"], network_name)
            if address is not None:
                found[address] = _read(address, document)
        return found

    def create(
        self, network_name: str, address: Address, entry: Entry, pool: str
    ) -> tuple[Reservation, bool]:
        """Reserve an address for an entry of a pool.

        Returns:
            The reservation that there is then, and whether it was made here; if it was not, it may
            be somebody else's.

        Raises:
            StoreError: the API server cannot be reached or refuses.
        """
        document = {
            "metadata": {
                "name": reservation_name(address, network_name),
                "annotations": {POOL: pool},
            },
            "spec": {
                "podref": entry.get("podref") or "",
                "ifname": entry.get("ifname") or "",
                "containerid": entry.get("id") or "",
            },
        }
        pauses, lost, after = Pauses(time.monotonic() + _TRIED_FOR), False, 0.0
        while True:
            try:
                made = self._cluster.create(RESERVATIONS, document, self._namespace)
            except ExistsError:
                found = self.get(network_name, address)
                if found is not None:
                    return found, lost and found.tells(document)
            except UnknownOutcomeError as error:
                lost, after = True, error.again_after  # the next one finds what this one made
            else:
                return _read(address, made), True
            if not pauses.again(after):
                break
        raise UnreachableError(f"cannot reserve {address}", "no reply, or others come and go")

    def delete(self, reservation: Reservation) -> bool:
        """Delete a reservation if it still is this very one; tell whether it is gone.

        Raises:
            StoreError: the API server cannot be reached or refuses.
        """
        meta = reservation.document["metadata"]
        pauses = Pauses(time.monotonic() + _TRIED_FOR)
        while True:
            try:
                self._cluster.delete(
                    RESERVATIONS,
                    meta["name"],
                    self._namespace,
                    uid=meta["uid"],
                    version=meta["resourceVersion"],
                )
            except UnknownOutcomeError as error:
                if not pauses.again(error.again_after):
                    return False
            except MissingError:
                return True
            except ConflictError:
                return False
            else:
                return True

    def has_pod(self, podref: str) -> bool:
        """Tell whether there is a pod, as far as we may know: where we may not, there is."""
        namespace, _, name = podref.partition("/")
        if not namespace or not name:
            return True
        try:
            return self._cluster.get(PODS, name, namespace, meta_only=True) is not None
        except PodnetError:
            return True


def _read(address: Address, document: Document) -> Reservation:
    spec, notes = document.get("spec") or {}, document["metadata"].get("annotations") or {}
    podref, ifname, container = (
        str(spec.get(name) or "") for name in ("podref", "ifname", "containerid")
    )
    return Reservation(address, podref, ifname, container, notes.get(POOL, ""), document)
