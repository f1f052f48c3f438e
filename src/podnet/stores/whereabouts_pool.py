"""IPPool objects as blocks, and what has to be written to change a block."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from podnet.errors import DecodingError, PoolExhaustedError, StoreError
from podnet.ipam.whereabouts import key_address, offset_key
from podnet.model.addresses import Address, Prefix, parse_prefix
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.stores import whereabouts_details as details

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.model.lease import Lease
    from podnet.stores.whereabouts_details import Details, Entry

Document = dict[str, Any]

PREFIX = "ipam.podnet.dev/"
DOMAIN = PREFIX + "domain"
KEY = PREFIX + "key"
MENDED = PREFIX + "mended"
_BLOCK = PREFIX + "block-"
_NAMED = re.compile(re.escape(_BLOCK) + "([0-9a-f]{1,30})")

DETAILS_MOST = 208 << 10
"""Bytes that all annotations of an object may take with details of leases."""

ANNOTATIONS_MOST = 248 << 10
"""Bytes that all may take in any case: 256 KiB is the API server's limit (k8s.io/apimachinery,
TotalAnnotationSizeLimitB), and others have some, too."""

OBJECT_MOST = 1_400_000
"""Bytes of JSON up to which podnet adds to an object. etcd takes 1.5 MiB in one request, and
whereabouts must be able to write it as well."""

_ADVICE = (
    "use ranges of at most a /20 each, or move the pool to a store without this limit: podnet ipam "
    "migrate"
)
_COUNTED_FROM = 1000
_ENTRY_BESIDES = 64
"""What ``managedFields`` tells of an entry, in bytes."""

ELSEWHERE = "(elsewhere)"
"""Pool of a lease that is no entry of the pool: another pool or a reservation has the address."""

_read_details = lru_cache(maxsize=256)(details.read)


class PoolFullError(PoolExhaustedError, StoreError):
    """An IPPool has grown nearly as large as an object can be (code 100); nothing was changed."""


class NoRangeError(StoreError):
    """The range of an IPPool cannot be understood (code 106)."""


@frozen
class Step:
    """What a change does to one address, as far as reservations are concerned.

    Attributes:
        address: which.
        old: the entry before; None if it was free.
        new: the entry after; None if it is free.
    """

    address: Address
    old: Entry | None
    new: Entry | None


@frozen
class Change:
    """What makes a pool's block another one.

    Attributes:
        entries: key of the allocation map to its new value; None takes it out.
        annotations: to be set; None takes one out.
        steps: changes of addresses that come, go, or change their pod or interface.
    """

    entries: Mapping[str, Entry | None]
    annotations: Mapping[str, str | None]
    steps: tuple[Step, ...] = ()


@frozen(eq=False)
class PoolObject:
    """One IPPool as it was read.

    Attributes:
        document: as the API server gave it.
        base: literal address of ``spec.range``; keys count from it.
        network: ``spec.range`` without host bits.
        places: index of a block to offset in it to the keys that mean the address.
    """

    document: Document
    base: Address
    network: Prefix
    places: Mapping[int, Mapping[int, list[str]]] = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> PoolObject:
        """Read an object.

        Raises:
            NoRangeError: its range cannot be understood; whereabouts' reconciler stops at it.
        """
        name, text = document["metadata"]["name"], (document.get("spec") or {}).get("range")
        try:
            literal = parse_prefix(str(text))
        except ValueError as error:
            raise NoRangeError(
                f"IPPool {name!r} has no range: {error}",
                "neither podnet nor whereabouts can use it; its reconciler stops at it in any "
                "namespace. Delete it or mend spec.range",
            ) from None
        places: dict[int, dict[int, list[str]]] = {}
        base, version = literal.address, literal.version
        for key in document["spec"].get("allocations") or ():
            value = key_address(base, key)
            if value is None:
                continue  # kept as it is: whereabouts may drop it, podnet does not
            keys = places.setdefault(value >> BLOCK_BITS, {}).setdefault(value % BLOCK_SIZE, [])
            # The usual spelling goes first: another one may be there besides.
            keys.insert(0 if offset_key(base, Address(version, value)) == key else len(keys), key)
        return cls(document, base, literal.masked, places)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document["metadata"]["name"])

    @property
    def version(self) -> str:
        """Its resourceVersion."""
        return str(self.document["metadata"]["resourceVersion"])

    @property
    def uid(self) -> str:
        """Its UID."""
        return str(self.document["metadata"]["uid"])

    @property
    def entries(self) -> dict[str, Entry]:
        """The allocation map."""
        return self.document["spec"].get("allocations") or {}

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations."""
        return self.document["metadata"].get("annotations") or {}

    def entry(self, address: Address) -> Entry | None:
        """Return the entry of an address; None if it has none."""
        here = self.places.get(address.value >> BLOCK_BITS, {})
        keys = here.get(address.value % BLOCK_SIZE) if address.version == self.base.version else ()
        return self.entries[keys[0]] if keys else None

    def addresses(self) -> Iterator[Address]:
        """Yield the addresses that have an entry."""
        for index, offsets in self.places.items():
            for offset in offsets:
                yield Address(self.base.version, (index << BLOCK_BITS) + offset)

    def indexes(self) -> set[int]:
        """Return the indexes of the blocks that there are."""
        told = {int(found[1], 16) for name in self.annotations if (found := _NAMED.fullmatch(name))}
        return told | self.places.keys()

    def tag(self, index: int) -> str | None:
        """Return the version of a block; None where there is none.

        It changes with each write of podnet's, and with whatever others do to the entries.
        """
        tokens, here = self.tokens(index), self.places.get(index, {})
        if not tokens and not here:
            return None
        entries = self.entries
        told = sorted((key, details.stamp(entries[key])) for keys in here.values() for key in keys)
        digest = blake2b(repr(told).encode(), digest_size=8).hexdigest()
        return f"{self.uid[:8]}.{tokens[0] if tokens else '-'}.{digest}"

    def tokens(self, index: int) -> tuple[str, ...]:
        """Return the tokens of the writes that led to a block, the newest first."""
        text = self.annotations.get(block_annotation(index))
        if text is None:
            return ()
        try:
            return details.tokens_of(text)
        except DecodingError as error:
            raise self._damaged(index, error) from error

    def block(self, domain: str, index: int) -> Block:
        """Return a block as entries and annotation tell it.

        Raises:
            StoreError: the annotation is damaged, or a later podnet's.
        """
        known = self.details(index)
        leases = {
            offset: self._lease(domain, index, offset, keys[0], known)
            for offset, keys in sorted(self.places.get(index, {}).items())
        }
        if known is None:
            return Block(domain=domain, version=self.base.version, index=index, leases=leases)
        return Block(
            domain=domain,
            version=self.base.version,
            index=index,
            leases=leases,
            sequence=known.sequence,
            freed={offset: when for offset, when in known.freed.items() if offset not in leases},
            holder=known.holder,
            recalled=known.recalled,
        )

    def details(self, index: int) -> Details | None:
        """Return what the annotation of a block tells; None if there is none."""
        text = self.annotations.get(block_annotation(index))
        try:
            return None if text is None else _read_details(text)
        except DecodingError as error:
            raise self._damaged(index, error) from error

    def _lease(
        self, domain: str, index: int, offset: int, key: str, known: Details | None
    ) -> Lease:
        entry = self.entries[key]
        plain = self.plain(domain, index, offset, entry)
        return plain if known is None else known.lease(offset, entry, plain)

    def plain(self, domain: str, index: int, offset: int, entry: Entry) -> Lease:
        """Return what an entry alone tells of a lease."""
        ip = Address(self.base.version, (index << BLOCK_BITS) + offset)
        return details.plain_lease(domain, ip, self.network.length, entry)

    def _damaged(self, index: int, error: DecodingError) -> StoreError:
        return StoreError(
            f"IPPool {self.name!r}: its annotation {block_annotation(index)} is damaged: {error}",
            "the allocations tell who has which address: remove the annotation; UIDs, times and "
            "names of networks and nodes of the leases in it are lost then",
        )

    def change(self, index: int, block: Block | None, token: str) -> Change:
        """Return what makes a block the given one; None takes it out.

        Args:
            index: which.
            block: without leases that are elsewhere.
            token: of this write.

        Raises:
            StoreError: the allocation map has no room for an address.
            PoolFullError: the object, or its annotations, would become too large.
        """
        leases = {} if block is None else block.leases
        entries: dict[str, Entry | None] = {}
        final: dict[int, Entry] = {}
        steps = []
        for offset, keys in self.places.get(index, {}).items():
            lease, entry = leases.get(offset), self.entries[keys[0]]
            address = Address(self.base.version, (index << BLOCK_BITS) + offset)
            if lease is None:
                # Of several spellings only those of the same holder.
                same = [k for k in keys if details.stamp(self.entries[k]) == details.stamp(entry)]
                entries |= dict.fromkeys(same)
                steps.append(Step(address, entry, None))
                continue
            final[offset] = self._renewed(lease, index, offset, entry)
            if final[offset] is not entry:
                entries[keys[0]] = final[offset]
                if _reserved_for(final[offset]) != _reserved_for(entry):
                    steps.append(Step(address, entry, final[offset]))
        for offset, lease in leases.items():
            if offset not in final:
                final[offset] = entries[self.key(lease.ip)] = details.entry_of(lease.owner)
                steps.append(Step(lease.ip, None, final[offset]))
        annotation = None if block is None else self._annotation(index, block, final, token)
        change = Change(entries, {block_annotation(index): annotation}, tuple(steps))
        if any(step.old is None for step in steps):
            self._check_size(change)
        return change

    def _renewed(self, lease: Lease, index: int, offset: int, entry: Entry) -> Entry:
        """Return the entry that tells a lease: the one that is there, if it does."""
        new = details.entry_of(lease.owner)
        if details.stamp(new) == details.stamp(entry):
            return entry
        # An entry that podnet would have written in other words is left alone all the same.
        known = self.details(index)
        plain = self.plain(lease.domain, index, offset, entry)
        before = plain if known is None else known.lease(offset, entry, plain)
        return entry if before.owner == lease.owner else new

    def key(self, address: Address) -> str:
        """Return the key of an address.

        Raises:
            StoreError: there is no room for one.
        """
        key = offset_key(self.base, address)
        if key is None or address not in self.network:
            where = f"IPPool {self.name!r} with the range {self.document['spec']['range']}"
            raise StoreError(f"{address} has no key in {where}")
        return key

    def _annotation(
        self, index: int, block: Block, entries: Mapping[int, Entry], token: str
    ) -> str:
        name = block_annotation(index)
        others = sum(len(k) + len(v.encode()) for k, v in self.annotations.items() if k != name)
        told = {
            offset: (entry, self.plain(block.domain, index, offset, entry))
            for offset, entry in entries.items()
        }
        before = self.tokens(index)
        for level in (details.FULL, details.UNFREED, details.BARE):
            text = details.write((token, *before), block, told, level)
            if others + len(name) + len(text) <= DETAILS_MOST:
                return text
        if others + len(name) + len(text) > ANNOTATIONS_MOST and not before:
            raise PoolFullError(
                f"IPPool {self.name!r} is full: its annotations have no room for another block",
                _ADVICE,
            )
        return text

    def _check_size(self, change: Change) -> None:
        if len(self.entries) < _COUNTED_FROM:
            return
        grown = sum(
            len(key) + len(_compact(entry)) + _ENTRY_BESIDES
            for key, entry in change.entries.items()
            if entry is not None and key not in self.entries
        )
        if len(_compact(self.document)) + grown > OBJECT_MOST:
            raise PoolFullError(
                f"IPPool {self.name!r} is full: its {len(self.entries)} allocations take nearly "
                "all that one object of Kubernetes can (1.5 MiB)",
                _ADVICE,
            )

    def after(self, change: Change, meta: Document) -> PoolObject:
        """Return the pool as it is after a change.

        Args:
            change: of this very version.
            meta: the ``metadata`` that the API server answered with.
        """
        entries = {**self.entries, **change.entries}
        allocations = {key: entry for key, entry in entries.items() if entry is not None}
        spec = {**self.document["spec"], "allocations": allocations}
        return PoolObject.read({**self.document, "metadata": meta, "spec": spec})

    def patch(self, change: Change) -> list[Document]:
        """Return a change as JSON Patch, which fails at any other version of the object."""
        operations = [_op("test", "/metadata/resourceVersion", self.version)]
        for key, entry in change.entries.items():
            path = f"/spec/allocations/{_escaped(key)}"
            operations.append(_set(path, entry, there=key in self.entries))
        if not self.annotations:
            given = {name: text for name, text in change.annotations.items() if text is not None}
            return [*operations, *([_op("add", "/metadata/annotations", given)] if given else ())]
        for name, text in change.annotations.items():
            if text is not None or name in self.annotations:
                path = f"/metadata/annotations/{_escaped(name)}"
                operations.append(_set(path, text, there=name in self.annotations))
        return operations


def block_annotation(index: int) -> str:
    """Return the name of the annotation of a block."""
    return f"{_BLOCK}{index:x}"


def new_pool(
    name: str, network: Prefix, annotations: Mapping[str, str], labels: Mapping[str, str] = {}
) -> PoolObject:
    """Return a pool without allocations that is not in the cluster yet."""
    meta = {
        "name": name,
        "uid": "",
        "resourceVersion": "",
        "labels": dict(labels),
        "annotations": dict(annotations),
    }
    return PoolObject.read({"metadata": meta, "spec": {"range": str(network), "allocations": {}}})


def created(pool: PoolObject, change: Change) -> Document:
    """Return the object to create for a new pool with its first block."""
    annotations = {**pool.annotations, **change.annotations}
    return {
        "metadata": {
            "name": pool.name,
            "labels": pool.document["metadata"]["labels"],
            "annotations": {name: text for name, text in annotations.items() if text is not None},
        },
        "spec": {"range": pool.document["spec"]["range"], "allocations": dict(change.entries)},
    }


def also(change: Change, name: str, text: str) -> Change:
    """Return a change that sets one more annotation."""
    return evolve(change, annotations={**change.annotations, name: text})


def _reserved_for(entry: Entry) -> tuple[object, object]:
    """Return what a reservation tells of an entry."""
    return entry.get("podref"), entry.get("ifname")


def _op(name: str, path: str, value: object) -> Document:
    return {"op": name, "path": path, "value": value}


def _set(path: str, value: object, *, there: bool) -> Document:
    if value is None:
        return {"op": "remove", "path": path}
    return _op("replace" if there else "add", path, value)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "replace"
    )
