"""IPPool objects as blocks."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from podnet.errors import DecodingError, StoreError
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

ELSEWHERE = "(elsewhere)"
"""Pool of a lease that is no entry of the pool: another pool or a reservation has the address."""

_read_details = lru_cache(maxsize=256)(details.read)


class NoRangeError(StoreError):
    """The range of an IPPool cannot be understood (code 106)."""


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
        for key in document["spec"].get("allocations") or ():
            _place(places, literal.address, key)
        return cls(document, literal.address, literal.masked, places)

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
        told = sorted(
            (key, *(str(entries[key].get(name) or "") for name in ("id", "podref", "ifname")))
            for keys in here.values()
            for key in keys
        )
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
            offset: self.lease(domain, index, offset)
            for offset in sorted(self.places.get(index, ()))
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

    def lease(self, domain: str, index: int, offset: int) -> Lease:
        """Return a lease as its entry and the block's annotation tell it."""
        entry, known = self.entries[self.places[index][offset][0]], self.details(index)
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

    def after(self, entries: Mapping[str, Entry | None], meta: Document) -> PoolObject:
        """Return the pool as it is after a change of one block.

        Args:
            entries: key to its new value; None takes it out.
            meta: the new ``metadata``.
        """
        known = self.entries
        changed = {**known, **entries}
        allocations = {key: entry for key, entry in changed.items() if entry is not None}
        spec = {**self.document["spec"], "allocations": allocations}
        document = {**self.document, "metadata": meta, "spec": spec}
        fresh: dict[int, dict[int, list[str]]] = {}
        for key in entries:
            _place(fresh, self.base, key)
        places = dict(self.places)
        for index, offsets in fresh.items():
            own: dict[int, dict[int, list[str]]] = {}
            before = (key for keys in self.places.get(index, {}).values() for key in keys)
            come = (key for keys in offsets.values() for key in keys if key not in known)
            for key in (*before, *come):
                if key in allocations:
                    _place(own, self.base, key)
            places[index] = own.get(index, {})
            if not places[index]:
                del places[index]
        return PoolObject(document, self.base, self.network, places)

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


def _place(places: dict[int, dict[int, list[str]]], base: Address, key: str) -> None:
    """Add a key of the allocation map to where it belongs; one that means nothing nowhere.

    Those are kept as they are: whereabouts may drop them, podnet does not.
    """
    value = key_address(base, key)
    if value is None:
        return
    keys = places.setdefault(value >> BLOCK_BITS, {}).setdefault(value % BLOCK_SIZE, [])
    # The usual spelling goes first: another one may be there besides.
    keys.insert(0 if str(value - base.value) == key else len(keys), key)


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
