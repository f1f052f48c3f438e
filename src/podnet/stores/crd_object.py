"""One version of one ``IPBlock`` object as the store remembers it, and how it becomes the next."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from podnet.errors import DecodingError, StoreError
from podnet.manifests.resources import GROUP, KIND, LABEL_HOLDER
from podnet.model.block import BLOCK_BITS
from podnet.stores import crd_form, crd_names, crd_owners

if TYPE_CHECKING:
    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.stores.crd_form import Document

WRITES = f"{GROUP}/writes"
"""Annotation: how many writes podnet did, and the random ids of the last of them, newest first."""

KEY = f"{GROUP}/key"
"""Annotation: the block's key, as in ``spec``, for who reads no more than metadata."""

REMEMBERED = 32
_WRITES_FORM = re.compile(r"(\d+)((?: [0-9a-f]{8})*)")


@frozen
class Kept:
    """A lease in an object: its key there, its entry, itself, and its owner's marks."""

    text: str
    entry: Document
    lease: Lease
    marks: bytes


@frozen
class Writes:
    """What the annotation of writes tells."""

    count: int = 0
    ids: tuple[str, ...] = ()

    @classmethod
    def read(cls, metadata: Document) -> Writes:
        """Read it from an object's metadata; unreadable is as if nothing had been written."""
        text = (metadata.get("annotations") or {}).get(WRITES, "")
        match = _WRITES_FORM.fullmatch(text)
        return cls(int(match[1]), tuple(match[2].split())) if match else cls()

    def next(self) -> Writes:
        """Return what is to be written with the next write, whose id is the first."""
        return Writes(self.count + 1, (secrets.token_hex(4), *self.ids)[:REMEMBERED])

    def __str__(self) -> str:
        return " ".join((str(self.count), *self.ids))


@define
class Known:
    """One version of an object.

    Attributes:
        key: of the block.
        uid: of the object.
        version: its resourceVersion.
        generation: its generation.
        writes: podnet's writes of it.
        block: what is in it.
        shared: ``spec.common``.
        kept: offset to its lease.
        freed: offset to its key in ``spec.freed`` and the time there.
        calm: nobody else changed it when this process looked last.
    """

    key: str
    uid: str
    version: str
    generation: int
    writes: Writes
    block: Block
    shared: Document
    kept: dict[int, Kept]
    freed: dict[int, tuple[str, float]]
    calm: bool = True

    @property
    def tag(self) -> str:
        """The version that the store tells: no other object of this key ever had it."""
        return f"{self.version}.{self.uid}"


def decode(key: str, found: Document, before: Known | None) -> Known:
    """Read an object; leases that are as they were before are not decoded again.

    Raises:
        StoreError: it is damaged; the message names object and field.
    """
    meta, spec = found.get("metadata") or {}, found.get("spec")
    name = str(meta.get("name"))
    try:
        if not isinstance(spec, dict):
            raise DecodingError("spec: is no object")
        if spec.get("key") != key:
            raise DecodingError(f"spec.key: {spec.get('key')!r} is not {key!r}")
        return _decode(key, meta, spec, before)
    except DecodingError as error:
        raise damaged(name, error.msg) from error


def _decode(key: str, meta: Document, spec: Document, before: Known | None) -> Known:
    cidr = crd_form.read_cidr(spec)
    shared = crd_form.mapping(spec, "common")
    domain = spec.get("domain")
    place = (domain, cidr.version, cidr.first >> BLOCK_BITS)
    same = before is not None and (_place(before.block), before.shared) == (place, shared)
    earlier = {one.text: one for one in before.kept.values()} if same and before else {}
    kept: dict[int, Kept] = {}
    first = cidr.first
    for text, entry in crd_form.mapping(spec, "leases").items():
        was = earlier.get(text)
        if was is None or was.entry != entry:
            address = crd_form.read_address(text, cidr, "spec.leases")
            lease = crd_form.read_lease(str(domain), address, entry, shared)
            was = Kept(text, entry, lease, crd_owners.marks(lease.owner))
        offset = was.lease.ip.value - first
        if offset in kept:
            raise DecodingError(f"spec.leases[{text}]: is there twice, as {kept[offset].text}")
        kept[offset] = was
    block = crd_form.assemble(spec, cidr, [one.lease for one in kept.values()])
    texts = {
        crd_form.read_address(text, cidr, "spec.freed").value - cidr.first: text
        for text in crd_form.mapping(spec, "freed")
    }
    return Known(
        key,
        str(meta.get("uid")),
        str(meta.get("resourceVersion")),
        int(meta.get("generation") or 0),
        Writes.read(meta),
        block,
        shared,
        kept,
        {offset: (texts[offset], when) for offset, when in block.freed.items()},
    )


@define
class Next:
    """What to write, and what will be known once it is written.

    Attributes:
        body: the object to create, or the merge patch.
        known: as it will be; ``wrote`` puts in what only the API server knows.
    """

    body: Document
    known: Known

    @property
    def id(self) -> str:
        """Of this write."""
        return self.known.writes.ids[0]

    def wrote(self, metadata: Document) -> Known:
        """Return what is known, given the metadata that the API server answered with."""
        known = self.known
        known.uid = str(metadata["uid"])
        known.version = str(metadata["resourceVersion"])
        known.generation = int(metadata.get("generation") or 0)
        return known


def first(key: str, block: Block) -> Next:
    """Return the object to create for a block."""
    shared = crd_form.common(block.leases)
    known = _known(key, block, None, shared)
    spec = crd_form.spec_head(key, block)
    spec["common"] = shared
    spec["leases"] = {one.text: one.entry for one in known.kept.values()}
    spec["freed"] = _freed_times(known)
    known.generation = 1
    body: Document = {
        "metadata": {
            "name": crd_names.object_name(key),
            "labels": crd_names.labels(key, block),
            "annotations": _annotations(known),
        },
        "spec": spec,
        "status": crd_form.status(block),
    }
    return Next(body, known)


def change(base: Known, block: Block) -> Next:
    """Return the merge patch that makes one version of a block of another.

    It holds if the object still is at the version of ``base``, and tells only what changed.
    """
    shared = base.shared if base.kept else crd_form.common(block.leases)
    known = _known(base.key, block, base, shared)
    spec = _difference(
        crd_form.spec_head(base.key, base.block), crd_form.spec_head(base.key, block)
    )
    parts = {
        "common": _difference(base.shared, shared),
        "leases": _changed_leases(base, known),
        "freed": {}
        if base.freed == known.freed
        else _difference(_freed_times(base), _freed_times(known)),
    }
    spec.update({name: part for name, part in parts.items() if part})
    known.generation = base.generation + bool(spec)
    meta: Document = {
        "uid": base.uid,
        "resourceVersion": base.version,
        "labels": {LABEL_HOLDER: None, **crd_names.labels(base.key, block)},
        "annotations": _annotations(known),
    }
    body: Document = {"metadata": meta}
    if spec:
        body |= {"spec": spec, "status": crd_form.status(block)}
    return Next(body, known)


def _known(key: str, block: Block, base: Known | None, shared: Document) -> Known:
    """Return what will be known of a block; what base has already is taken from there."""
    earlier: dict[int, Kept] = {}
    texts: dict[int, tuple[str, float]] = {}
    if base is not None and _place(base.block) == _place(block):
        texts = base.freed
        earlier = base.kept if base.shared == shared else {}
    kept: dict[int, Kept] = {}
    for offset, lease in sorted(block.leases.items()):
        was = earlier.get(offset)
        if was is None or (was.lease is not lease and was.lease != lease):
            text = was.text if was is not None else crd_form.lease_key(block, offset)
            entry = crd_form.lease_document(lease, shared)
            was = Kept(text, entry, lease, crd_owners.marks(lease.owner))
        kept[offset] = was
    freed = {
        offset: (
            texts[offset][0] if offset in texts else crd_form.lease_key(block, offset),
            when,
        )
        for offset, when in block.freed.items()
    }
    return Known(
        key,
        base.uid if base else "",
        "",
        0,
        (base.writes if base else Writes()).next(),
        block,
        shared,
        kept,
        freed,
    )


def _place(block: Block) -> tuple[str, int, int]:
    return block.domain, block.version, block.index


def _changed_leases(base: Known, known: Known) -> Document:
    before = {one.text: one for one in base.kept.values()}
    after = {one.text: one for one in known.kept.values()}
    found: Document = dict.fromkeys(before.keys() - after.keys())
    for text, one in after.items():
        was = before.get(text)
        if was is None:
            found[text] = one.entry
        elif was is not one and (more := _difference(was.entry, one.entry)):
            found[text] = more
    return found


def _freed_times(known: Known) -> Document:
    return {text: crd_form.time_text(when) for text, when in known.freed.values()}


def _annotations(known: Known) -> dict[str, str]:
    found = crd_owners.told(known.generation, (one.marks for one in known.kept.values()))
    return {KEY: known.key, WRITES: str(known.writes), crd_owners.ANNOTATION: found}


def _difference(old: Document, new: Document) -> dict[str, Any]:
    """Return the merge patch from one flat object to another."""
    gone = {name: None for name in old if name not in new}
    return {**gone, **{name: value for name, value in new.items() if old.get(name) != value}}


def damaged(name: str, what: str) -> StoreError:
    """Return the error for an object that cannot be read."""
    return StoreError(
        f"{KIND} {name} is damaged: {what}",
        "its leases are unknown, so its addresses are not handed out; correct the field, or delete "
        "the object once no container uses an address of it",
    )
