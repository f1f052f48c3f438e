"""What has to be written to an IPPool to make one of its blocks another one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from podnet.errors import DecodingError, PoolExhaustedError, StoreError
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS
from podnet.stores import whereabouts_details as details
from podnet.stores.whereabouts_pool import PoolObject, block_annotation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.stores.whereabouts_details import Entry

Document = dict[str, Any]

DETAILS_MOST = 208 << 10
"""Bytes that all annotations of an object may take with details of leases."""

ANNOTATIONS_MOST = 248 << 10
"""Bytes that all may take in any case: 256 KiB is the API server's limit (k8s.io/apimachinery,
TotalAnnotationSizeLimitB), and others have some, too."""

OBJECT_MOST = 1_400_000
"""Bytes of JSON up to which podnet adds to an object. etcd takes 1.5 MiB in one request, and
whereabouts must be able to write it as well."""

_COUNTED_FROM = 2500
"""Up to so many entries there is room, however long their names: they have at most 560 bytes."""

_ENTRY_BESIDES = 64
"""What ``managedFields`` tells of an entry, in bytes."""

_ADVICE = (
    "use ranges of at most a /20 each, or move the pool to a store without this limit: podnet ipam "
    "migrate"
)


class PoolFullError(PoolExhaustedError, StoreError):
    """An IPPool has grown nearly as large as an object can be (code 100); nothing was changed."""


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
        steps: addresses that come, go, or change their pod or interface.
    """

    entries: Mapping[str, Entry | None]
    annotations: Mapping[str, str | None]
    steps: tuple[Step, ...] = ()

    def also(self, name: str, text: str) -> Change:
        """Return the change that sets one more annotation."""
        return evolve(self, annotations={**self.annotations, name: text})


def plan(pool: PoolObject, index: int, block: Block | None, token: str) -> Change:
    """Return what makes a block of a pool the given one.

    Args:
        pool: as it is.
        index: of the block.
        block: without leases that are elsewhere; None takes it out.
        token: of this write.

    Raises:
        StoreError: the allocation map has no room for an address.
        PoolFullError: the object, or its annotations, would become too large.
    """
    planning = _Planning(pool, index)
    leases = {} if block is None else block.leases
    for offset in pool.places.get(index, {}):
        planning.settle(offset, leases.get(offset))
    for offset, lease in leases.items():
        if offset not in planning.final:
            planning.bring(offset, lease)
    steps = tuple(planning.steps)
    notes: Mapping[str, str | None] = {block_annotation(index): None}
    change = Change(
        planning.entries, notes if block is None else planning.annotate(block, token), steps
    )
    if any(step.old is None for step in steps):
        _check_size(pool, change)
    return change


@define(eq=False)
class _Planning:
    """What is found out about one block: changes so far, and the entries it will have."""

    pool: PoolObject
    index: int
    entries: dict[str, Entry | None] = field(factory=dict)
    final: dict[int, Entry] = field(factory=dict)
    steps: list[Step] = field(factory=list)

    def settle(self, offset: int, lease: Lease | None) -> None:
        """Keep, change or take out the entry of an address."""
        pool, keys = self.pool, self.pool.places[self.index][offset]
        entry = pool.entries[keys[0]]
        address = Address(pool.base.version, (self.index << BLOCK_BITS) + offset)
        if lease is None:
            # Of several spellings only those of the same holder.
            mark = details.stamp(entry)
            same = [key for key in keys if details.stamp(pool.entries[key]) == mark]
            self.entries |= dict.fromkeys(same)
            self.steps.append(Step(address, entry, None))
            return
        new = self.final[offset] = self._renewed(lease, offset, entry)
        if new is not entry:
            self.entries[keys[0]] = new
            if _reserved_for(new) != _reserved_for(entry):
                self.steps.append(Step(address, entry, new))

    def bring(self, offset: int, lease: Lease) -> None:
        """Add the entry of an address that was free."""
        new = self.final[offset] = details.entry_of(lease.owner)
        self.entries[self.pool.key(lease.ip)] = new
        self.steps.append(Step(lease.ip, None, new))

    def _renewed(self, lease: Lease, offset: int, entry: Entry) -> Entry:
        """Return the entry that tells a lease: the one that is there, if it does."""
        new = details.entry_of(lease.owner)
        if details.stamp(new) == details.stamp(entry):
            return entry
        # One that podnet would have written in other words is left alone all the same.
        before = self.pool.lease(lease.domain, self.index, offset)
        return entry if before.owner == lease.owner else new

    def annotate(self, block: Block, token: str) -> dict[str, str]:
        """Return the block's annotation, with as many details as there is room for.

        Those of other blocks are told again with fewer where there is none.
        """
        pool, name = self.pool, block_annotation(self.index)
        others = sum(len(k) + len(v.encode()) for k, v in pool.annotations.items() if k != name)
        told = {
            offset: (entry, pool.plain(block.domain, self.index, offset, entry))
            for offset, entry in self.final.items()
        }
        tokens = (token, *pool.tokens(self.index))
        for level in (details.FULL, details.UNFREED, details.TERSE):
            found = {name: details.write(tokens, block, told, level)}
            room = DETAILS_MOST - others - len(name) - len(found[name])
            if room >= 0:
                return found
        for other, text in self._shrunk(token):
            room += len(pool.annotations[other]) - len(text)
            found[other] = text
            if room >= 0:
                return found
        text = details.write(tokens, block, told, details.BARE)
        if others + len(name) + len(text) > ANNOTATIONS_MOST and len(tokens) == 1:
            raise PoolFullError(
                f"IPPool {pool.name!r} is full: its annotations have no room for another block",
                _ADVICE,
            )
        return {name: text}

    def _shrunk(self, token: str) -> Iterator[tuple[str, str]]:
        """Yield the annotations of other blocks with fewer details, the largest first."""
        notes = self.pool.annotations
        names = {block_annotation(index) for index in self.pool.indexes() - {self.index}}
        for name in sorted(names & notes.keys(), key=lambda name: -len(notes[name])):
            try:
                text = details.shrunk(notes[name], token)
            except DecodingError:
                continue  # whoever reads that block will tell
            if len(text) < len(notes[name]):
                yield name, text


def _check_size(pool: PoolObject, change: Change) -> None:
    if len(pool.entries) < _COUNTED_FROM:
        return
    grown = sum(
        len(key) + len(_compact(entry)) + _ENTRY_BESIDES
        for key, entry in change.entries.items()
        if entry is not None and key not in pool.entries
    )
    if len(_compact(pool.document)) + grown > OBJECT_MOST:
        raise PoolFullError(
            f"IPPool {pool.name!r} is full: its {len(pool.entries)} allocations take nearly all "
            "that one object of Kubernetes can (1.5 MiB)",
            _ADVICE,
        )


def json_patch(pool: PoolObject, change: Change) -> list[Document]:
    """Return a change as JSON Patch, which fails at any other version of the object."""
    operations = [_op("test", "/metadata/resourceVersion", pool.version)]
    for key, entry in change.entries.items():
        path = f"/spec/allocations/{_escaped(key)}"
        operations.append(_set(path, entry, there=key in pool.entries))
    if not pool.annotations:
        given = {name: text for name, text in change.annotations.items() if text is not None}
        return [*operations, *([_op("add", "/metadata/annotations", given)] if given else ())]
    for name, text in change.annotations.items():
        if text is not None or name in pool.annotations:
            path = f"/metadata/annotations/{_escaped(name)}"
            operations.append(_set(path, text, there=name in pool.annotations))
    return operations


def document(pool: PoolObject, change: Change) -> Document:
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


def _compact(value: object) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")
