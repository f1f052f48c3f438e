"""What IPPools have no room for, as text of an annotation for each block.

The allocation map of an IPPool tells who holds what; an annotation adds the rest: pool, UID, node,
network, time and sequence of each lease, times of releases, and the block's own fields. A row of
it counts only while the entry is the one that the row was written with, so that what whereabouts
changes or removes meanwhile is not mistaken for podnet's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from podnet.errors import DecodingError
from podnet.ipam.whereabouts import podref
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.fields import Fields
from podnet.model.lease import Lease, Owner

if TYPE_CHECKING:
    from podnet.model.addresses import Address

Entry = dict[str, Any]

_FORMAT = "1"
REMEMBERED = 8
"""Writes of a block that can be told from its annotation."""

_RESERVED = "reserved:"
_CLAIM = "claim:"
_OWNER = {"i": "container_id", "f": "ifname", "s": "pod_namespace", "d": "pod_name", "u": "pod_uid"}
_TEXTS = {"p": "pool", "n": "node", "w": "network", "c": "claim"}
_SURROGATES = re.compile("[\ud800-\udfff]")

FULL, UNFREED, TERSE, BARE = range(4)
"""How much is kept: everything; not the times of releases; of single leases only pool, node,
network and claim, without which GC finds none; nothing about single leases."""

_DROPPED = ("u", "t", "q")
"""Fields that ``TERSE`` leaves out: what differs from lease to lease takes the room."""


def new_token() -> str:
    """Return what tells one write from every other."""
    return os.urandom(6).hex()


def entry_of(owner: Owner) -> Entry:
    """Return the entry of an allocation map that tells an owner; all three fields are there."""
    ref = podref(owner.pod_namespace, owner.pod_name)
    fields = {"id": owner.container_id, "podref": ref, "ifname": owner.ifname}
    return {name: _SURROGATES.sub("\ufffd", text) for name, text in fields.items()}


def plain_lease(domain: str, ip: Address, length: int, entry: Mapping[str, object]) -> Lease:
    """Return the lease as far as an entry tells it: what whereabouts itself knows.

    An entry without a pod is one that nobody sweeps: whereabouts' reconciler does not either.
    """
    container, ref, ifname = (str(entry.get(name) or "") for name in ("id", "podref", "ifname"))
    namespace, _, pod = ref.partition("/")
    claim = ""
    if not ref:
        claim = container if container.startswith(_RESERVED) else f"{_RESERVED}{container}"
        claim = container[len(_CLAIM) :] if container.startswith(_CLAIM) else claim
    owner = Owner(container, ifname, namespace, pod)
    return Lease(domain=domain, pool="", ip=ip, length=length, owner=owner, claim=claim)


def stamp(entry: Mapping[str, object]) -> str:
    """Return what tells an entry from others that the same address may have."""
    parts = [str(entry.get(name) or "") for name in ("id", "podref", "ifname")]
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=6).hexdigest()


@frozen
class Details:
    """One annotation, read.

    Attributes:
        tokens: of the writes that led to it, the newest first.
        sequence: number of the last grant of the block.
        holder: node that owns the block.
        recalled: the holder is asked to give it back.
        freed: offset to time of release.
        rows: offset to the stamp of the entry and what it does not tell.
    """

    tokens: tuple[str, ...]
    sequence: int = 0
    holder: str = ""
    recalled: bool = False
    freed: Mapping[int, float] = field(factory=dict)
    rows: Mapping[int, tuple[str, Mapping[str, Any]]] = field(factory=dict)

    def lease(self, offset: int, entry: Mapping[str, object], plain: Lease) -> Lease:
        """Return the lease that an entry and its row tell together."""
        written, fields = self.rows.get(offset, ("", {}))
        if not fields or written != stamp(entry):
            return plain
        owner = {_OWNER[name]: text for name, text in fields.items() if name in _OWNER}
        texts = {_TEXTS[name]: text for name, text in fields.items() if name in _TEXTS}
        return evolve(
            plain,
            owner=evolve(plain.owner, **owner),
            length=fields.get("l", plain.length),
            since=fields.get("t", 0.0),
            sequence=fields.get("q", 0),
            **texts,
        )

    def may_have(self, owner: Owner) -> bool:
        """Tell whether a row tells of an owner what an entry cannot: its pod, or an odd name."""
        uid, container = owner.pod_uid, owner.container_id
        return any(
            (uid and fields.get("u") == uid) or fields.get("i") == container or "f" in fields
            for _, fields in self.rows.values()
        )


def tokens_of(text: str) -> tuple[str, ...]:
    """Return the tokens in an annotation, the newest first.

    Raises:
        DecodingError: it is none, or a later podnet's.
    """
    form, _, rest = text.partition(" ")
    tokens = tuple(rest.partition(" ")[0].split(","))
    if form != _FORMAT or not all(tokens):
        raise DecodingError(f"its format {form[:20]!r} is not {_FORMAT}")
    return tokens


def read(text: str) -> Details:
    """Read an annotation.

    Raises:
        DecodingError: it is damaged, or a later podnet's.
    """
    tokens = tokens_of(text)
    try:
        packed = base64.b64decode(text.split(" ", 2)[2], validate=True)
        body = json.loads(zlib.decompress(packed))
    except (ValueError, IndexError, zlib.error, RecursionError) as error:
        raise DecodingError(f"it cannot be unpacked: {error}") from error
    head = Fields(body, "details")
    freed, rows = {}, {}
    for pair in head.array("freed"):
        row = Fields(dict(zip(("offset", "when"), _list(pair, 2), strict=True)), "details.freed")
        freed[row.number("offset", BLOCK_SIZE - 1)] = row.seconds("when")
    for triple in head.array("rows"):
        offset, written, fields = _list(triple, 3)
        row = Fields({"offset": offset, "stamp": written}, "details.rows")
        rows[row.number("offset", BLOCK_SIZE - 1)] = row.text("stamp"), _checked(fields)
    return Details(
        tokens, head.number("sequence"), head.text("holder"), head.truth("recalled"), freed, rows
    )


def _list(value: object, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise DecodingError(f"details: {value!r} has not {length} parts")
    return value


def _checked(fields: object) -> Mapping[str, Any]:
    reader = Fields(fields, "details.rows")
    assert isinstance(fields, dict)
    for name in fields:
        if name in _OWNER or name in _TEXTS:
            reader.text(name)
        elif name in ("l", "q"):
            reader.number(name, 128 if name == "l" else None)
        elif name == "t":
            reader.seconds(name)
    return fields


def write(
    tokens: tuple[str, ...], block: Block, told: Mapping[int, tuple[Entry, Lease]], level: int
) -> str:
    """Return the annotation of a block.

    Args:
        tokens: of this write and of those that are there now, the newest first.
        block: what is to be told.
        told: offset of each of its leases to its entry and what that tells by itself.
        level: how much is kept.
    """
    rows: list[tuple[int, str, Mapping[str, object]]] = []
    for offset, lease in sorted(block.leases.items()) if level < BARE else ():
        entry, plain = told[offset]
        fields = _beyond(lease, plain)
        if level == TERSE:
            fields = {name: value for name, value in fields.items() if name not in _DROPPED}
        if fields:
            rows.append((offset, stamp(entry), fields))
    freed = block.freed if level < UNFREED else {}
    return _packed(tokens, block, freed, rows)


def shrunk(text: str, token: str) -> str:
    """Return an annotation as ``TERSE`` has it.

    Args:
        text: as it is.
        token: of this write.

    Raises:
        DecodingError: it is damaged, or a later podnet's.
    """
    known = read(text)
    rows = [
        (offset, written, {name: v for name, v in fields.items() if name not in _DROPPED})
        for offset, (written, fields) in sorted(known.rows.items())
    ]
    return _packed((token, *known.tokens), known, {}, [row for row in rows if row[2]])


def _packed(
    tokens: tuple[str, ...],
    head: Block | Details,
    freed: Mapping[int, float],
    rows: list[tuple[int, str, Mapping[str, object]]],
) -> str:
    body = {
        "sequence": head.sequence,
        "holder": head.holder,
        "recalled": head.recalled,
        "freed": sorted(freed.items()),
        "rows": rows,
    }
    packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 6)
    return f"{_FORMAT} {','.join(tokens[:REMEMBERED])} {base64.b64encode(packed).decode()}"


def _beyond(lease: Lease, plain: Lease) -> dict[str, object]:
    """Return the fields of a lease that its entry does not tell."""
    fields: dict[str, object] = {}
    for name, attribute in _OWNER.items():
        value = getattr(lease.owner, attribute)
        if value != getattr(plain.owner, attribute):
            fields[name] = value
    for name, attribute in _TEXTS.items():
        value = getattr(lease, attribute)
        if value != getattr(plain, attribute):
            fields[name] = value
    if lease.length != plain.length:
        fields["l"] = lease.length
    if lease.since:
        fields["t"] = lease.since
    if lease.sequence:
        fields["q"] = lease.sequence
    return fields
