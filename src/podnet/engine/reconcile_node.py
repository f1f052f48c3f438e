"""What this node knows of owners: its journal, and the network namespaces that there are."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.engine.attached import all_sandboxes, standings
from podnet.engine.reconcile import Testimony
from podnet.errors import (
    NetnsMissingError,
    NotNetnsError,
    PodnetError,
    RecordError,
)
from podnet.model.addresses import parse_prefix
from podnet.model.facts import Probe
from podnet.model.ops import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.engine.house import House
    from podnet.engine.journal import Record
    from podnet.model.addresses import Address
    from podnet.model.lease import Lease

_FOLDERS = ("/run/netns", "/var/run/netns")
"""Where container runtimes and ``ip netns`` keep namespaces."""


@frozen(kw_only=True)
class _Known:
    """What the journal tells.

    Attributes:
        records: container id and interface name to the record of it.
        unreadable: container ids of records that cannot be read.
        blind: a record cannot be read, and whose it is cannot be told.
    """

    records: dict[tuple[str, str], Record] = field(factory=dict)
    unreadable: frozenset[str] = frozenset()
    blind: bool = False


@frozen(kw_only=True)
class _Seen:
    """What the kernel shows.

    Attributes:
        places: address to the namespace that has it.
        missed: namespaces that could not be looked at, with why.
    """

    places: dict[Address, str] = field(factory=dict)
    missed: tuple[str, ...] = ()


class NodeWitness:
    """Knows the owners of this node's leases.

    An owner that podnet attached is known by its record, and lives as long as the namespace of the
    record does. Of an owner that another plugin attached podnet has no record: such a one lives if
    any namespace of this node has the address. Where none has, he may live nevertheless: a device
    in user space (DPDK) has an address that no namespace tells.
    """

    def __init__(
        self,
        house: House,
        *,
        without_record: bool = False,
        folders: tuple[str, ...] = _FOLDERS,
    ) -> None:
        """Look at a node; what it tells is read when first asked for, and once.

        Args:
            house: with the journal and the kernel.
            without_record: whoever has no record, and his address no namespace, is dead for sure.
            folders: where namespaces are looked for, besides those of processes.
        """
        self._house = house
        self._without_record = without_record
        self._folders = folders
        self._namespaces: dict[tuple[str, str], Testimony] = {}

    def testify(self, lease: Lease) -> Testimony | None:
        """Tell whether the lease's owner lives; None if that cannot be found out."""
        told = self.of_journal(lease)
        if told is not None:
            return told
        place = self._kernel.places.get(lease.ip)
        if place is not None:
            return Testimony(True, f"there is no record of it, but {place} has the address")
        if self._kernel.missed:
            missed = ", ".join(self._kernel.missed[:3])
            why = f"there is no record of it, and not all was seen: {missed}"
            return Testimony(True, why, sure=False)
        why = "there is no record of it, and no namespace here has the address"
        return Testimony(False, why, sure=self._without_record)

    def of_journal(self, lease: Lease) -> Testimony | None:
        """Tell what the journal and the namespaces of its records tell; None for no record."""
        owner, known = lease.owner, self._journal
        record = known.records.get(owner.key)
        if record is not None:
            return self._of_record(record)
        if owner.container_id in known.unreadable or known.blind:
            why = "a record of the journal that may be its cannot be read"
            return Testimony(True, why, sure=False)
        return None

    def _of_record(self, record: Record) -> Testimony:
        place = record.netns, record.netns_id
        if place not in self._namespaces:
            self._namespaces[place] = self._of_namespace(record)
        return self._namespaces[place]

    def _of_namespace(self, record: Record) -> Testimony:
        path = record.netns
        if not path:
            return Testimony(True, "its record tells no namespace")
        try:
            with self._house.kernel.open(path, allow_host=True) as sandbox:
                if record.netns_id and sandbox.identity != record.netns_id:
                    return Testimony(False, f"its namespace is gone: {path} is another one now")
        except (NetnsMissingError, NotNetnsError):
            return Testimony(False, f"its namespace {path} is gone")
        except PodnetError as error:
            return Testimony(True, f"its namespace cannot be looked at: {error}", sure=False)
        begun = "" if record.stage == "done" else ", and its ADD was not done"
        return Testimony(True, f"its namespace {path} is there{begun}")

    @cached_property
    def _journal(self) -> _Known:
        records: dict[tuple[str, str], Record] = {}
        unreadable: set[str] = set()
        blind = False
        journal = self._house.journal
        for entry in (*journal.all("interface"), *all_sandboxes(journal)):
            if isinstance(entry, RecordError):
                unreadable.add(entry.place[2])
                blind = blind or not entry.place[2]
            elif entry.role == "interface":
                records[entry.container_id, entry.ifname] = entry
            else:
                for standing in standings(entry):
                    name = standing.attachment.ifname
                    records.setdefault((entry.container_id, name), entry)
        return _Known(records=records, unreadable=frozenset(unreadable), blind=blind)

    @cached_property
    def _kernel(self) -> _Seen:
        places: dict[Address, str] = {}
        missed: list[str] = []
        for path in self._paths(missed):
            try:
                with self._house.kernel.open(path, allow_host=True) as sandbox:
                    links = sandbox.probe(Probe(all_links=frozenset({Place.SANDBOX}))).links
                    have = sandbox.probe(Probe(addresses=frozenset(links)))
            except (NetnsMissingError, NotNetnsError):
                continue  # ended since it was listed, or never was one
            except PodnetError as error:
                missed.append(f"{path}: {error.msg}")
                continue
            for fact in have.addresses:
                places.setdefault(parse_prefix(fact.address).address, path)
        return _Seen(places=places, missed=tuple(missed))

    def _paths(self, missed: list[str]) -> Iterator[str]:
        """Yield a path of each namespace of this node, once; what cannot be seen is noted."""
        seen: set[tuple[int, int]] = set()
        for path in self._candidates(missed):
            try:
                found = os.stat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if not isinstance(error, ProcessLookupError):
                    missed.append(f"{path}: {error.strerror}")
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield path

    def _candidates(self, missed: list[str]) -> Iterator[str]:
        for folder in self._folders:
            try:
                with os.scandir(folder) as entries:
                    yield from sorted(entry.path for entry in entries)
            except FileNotFoundError:
                continue
            except OSError as error:
                missed.append(f"{folder}: {error.strerror}")
        try:
            with os.scandir("/proc") as entries:
                numbers = sorted(int(entry.name) for entry in entries if entry.name.isdigit())
        except OSError as error:
            missed.append(f"/proc: {error.strerror}")
            return
        for number in numbers:
            yield f"/proc/{number}/ns/net"
