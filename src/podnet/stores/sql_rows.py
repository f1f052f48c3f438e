"""Blocks and the rows they are kept as: what changed from one to the other, and back.

A block is one row of ``podnet_blocks``, and one row of ``podnet_addresses`` for each address that
is or was held. Rows never go away while their block is there; each is stamped with the number of
the block's version that changed it. Who knows an earlier version therefore reads what is stamped
with a later number, and writes what differs, whatever else is in the block.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from podnet.errors import DecodingError
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block, thawed
from podnet.model.lease import Lease, Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Letters of a version after its number: 48 random bits.
MARK = 8
# Versions that a block's row remembers: who is further behind reads all of its addresses.
REMEMBERED = 32

# The columns of `podnet_blocks` and `podnet_addresses` that are read, in this order.
HEAD = ("version", "earlier", "domain", "ip_version", "first_hex", "sequence", "holder", "recalled")
LEASE = (
    "address_hex",
    "held",
    "released",
    "pool",
    "prefix_length",
    "container",
    "ifname",
    "pod_namespace",
    "pod_name",
    "pod_uid",
    "node",
    "network",
    "since",
    "sequence",
    "claim",
)

_DIGITS = {4: 8, 6: 32}
_NOBODY = Owner("", "")


@frozen
class Known:
    """A version of a block as last read or written.

    Attributes:
        version: its version.
        block: the block.
        rows: the offsets for which there are rows, as bits.
    """

    version: str
    block: Block
    rows: int

    @property
    def number(self) -> int:
        """What rows changed by this version are stamped with."""
        return number_of(self.version)


@frozen(kw_only=True)
class Change:
    """What a swap writes.

    Attributes:
        key: of the block.
        expected: version to be replaced; None creates.
        version: the new version.
        head: columns of the block's row, without key and version.
        stamp: columns that all rows of ``fresh`` and ``known`` have in common.
        anew: the key's rows are another block's and go away first; nothing that knows an earlier
            version can be led to this one.
        fresh: rows of addresses that had none: one that is there nevertheless is a fault.
        known: rows of addresses that had one.
    """

    key: str
    expected: str | None
    version: str
    head: dict[str, object]
    stamp: dict[str, object]
    anew: bool = False
    fresh: list[dict[str, object]] = field(factory=list)
    known: list[dict[str, object]] = field(factory=list)

    @property
    def mark(self) -> str:
        """What the row remembers of the version that is replaced."""
        return "" if self.expected is None or self.anew else mark_of(self.expected)


def new_version(before: str | None) -> str:
    """Return a version that follows another.

    The random part keeps a version from coming back where the database itself goes back: to a
    backup, or to a standby that had not heard of the last swaps.
    """
    number = 1 if before is None else number_of(before) + 1
    return f"{number}-{urlsafe_b64encode(os.urandom(6)).decode()}"


def number_of(version: str) -> int:
    """Return the number in a version.

    Raises:
        DecodingError: it is no version of podnet's.
    """
    try:
        return int(version.partition("-")[0])
    except (AttributeError, ValueError):
        raise DecodingError(f"{version!r} is no version") from None


def mark_of(version: str) -> str:
    """Return the random part of a version."""
    return version.partition("-")[2]


def is_descendant(version: str, earlier: str, ancestor: str) -> bool:
    """Tell whether a version is another one or came of it, as far as its row remembers."""
    behind = number_of(version) - number_of(ancestor)
    marks = mark_of(version) + earlier
    return behind >= 0 and marks[behind * MARK : (behind + 1) * MARK] == mark_of(ancestor)


def hex_of(version: int, value: int) -> str:
    """Return an address in hexadecimal digits of one width: as texts they sort like numbers."""
    return f"{value:0{_DIGITS[version]}x}"


def difference(key: str, before: Known | None, new: Block) -> tuple[Change, Known]:
    """Return what to write so that the block becomes ``new``, and what is known then."""
    expected = None if before is None else before.version
    version = new_version(expected)
    anew = before is not None and not _same_place(before.block, new)
    rows = 0 if before is None or anew else before.rows
    first = new.first
    address = Address(new.version, first)
    change = Change(
        key=key,
        expected=expected,
        version=version,
        head={
            "domain": new.domain,
            "ip_version": new.version,
            "first_address": str(address),
            "first_hex": hex_of(new.version, first),
            "sequence": new.sequence,
            "holder": new.holder,
            "recalled": new.recalled,
        },
        stamp={
            "domain": new.domain,
            "ip_version": new.version,
            "block_key": key,
            "changed": number_of(version),
        },
        anew=anew,
    )
    old = None if before is None or anew else before.block
    for offset in _touched(old, new):
        lease = new.leases.get(offset) or (None if old is None else old.leases.get(offset))
        row = _row(new, offset, lease)
        (change.known if rows >> offset & 1 else change.fresh).append(row)
        rows |= 1 << offset
    return change, Known(version, new, rows)


def _same_place(one: Block, other: Block) -> bool:
    return (one.domain, one.version, one.index) == (other.domain, other.version, other.index)


def _touched(old: Block | None, new: Block) -> list[int]:
    """Return the offsets that are held by others, or were freed at other times."""
    if old is None:
        return sorted({*new.leases, *new.freed})
    touched = _differing(old.leases, new.leases)
    if old.freed is not new.freed:
        touched |= _differing(old.freed, new.freed)
    return sorted(touched)


def _differing(old: Mapping[int, object], new: Mapping[int, object]) -> set[int]:
    # Most values are the very same objects, and comparing those costs nothing.
    found = {
        offset
        for offset, value in new.items()
        if (was := old.get(offset)) is not value and was != value
    }
    return found | (old.keys() - new.keys())


def _row(block: Block, offset: int, lease: Lease | None) -> dict[str, object]:
    """Return a row; of a free address it tells who held it last."""
    address = Address(block.version, block.first + offset)
    owner = _NOBODY if lease is None else lease.owner
    return {
        "address_hex": hex_of(address.version, address.value),
        "address": str(address),
        "held": offset in block.leases,
        "released": block.freed.get(offset),
        "pool": "" if lease is None else lease.pool,
        "prefix_length": 0 if lease is None else lease.length,
        "container": owner.container_id,
        "ifname": owner.ifname,
        "pod_namespace": owner.pod_namespace,
        "pod_name": owner.pod_name,
        "pod_uid": owner.pod_uid,
        "node": "" if lease is None else lease.node,
        "network": "" if lease is None else lease.network,
        "since": 0.0 if lease is None else lease.since,
        "sequence": 0 if lease is None else lease.sequence,
        "claim": "" if lease is None else lease.claim,
    }


def assemble(head: Sequence[Any], rows: Iterable[Sequence[Any]], before: Known | None) -> Known:
    """Return what rows make of what was known before.

    Args:
        head: columns ``HEAD`` of the block's row.
        rows: columns ``LEASE`` of the rows that changed since ``before``, or of all.
        before: an ancestor of this version, or None.

    Raises:
        DecodingError: they are not what podnet writes.
    """
    version, _, domain, family, first, sequence, holder, recalled = head
    leases = {} if before is None else thawed(before.block.leases)
    freed = {} if before is None else dict(before.block.freed)
    known = 0 if before is None else before.rows
    try:
        number_of(version)
        index = int(first, 16) >> BLOCK_BITS
        for row in rows:
            value = int(row[0], 16)
            if value >> BLOCK_BITS != index:
                raise DecodingError(f"address {row[0]} is not one of the block's at {first}")
            offset = value % BLOCK_SIZE
            known |= 1 << offset
            leases.pop(offset, None)
            freed.pop(offset, None)
            if row[1]:
                leases[offset] = _lease(domain, Address(family, value), row)
            if row[2] is not None:
                freed[offset] = row[2]
    except (TypeError, ValueError) as error:
        raise DecodingError(str(error)) from None
    block = Block(
        domain=domain,
        version=family,
        index=index,
        leases=leases,
        sequence=int(sequence),
        freed=freed,
        holder=holder,
        recalled=bool(recalled),
    )
    return Known(version, block, known)


def _lease(domain: str, ip: Address, row: Sequence[Any]) -> Lease:
    return Lease(
        domain=domain,
        ip=ip,
        pool=row[3],
        length=row[4],
        owner=Owner(row[5], row[6], row[7], row[8], row[9]),
        node=row[10],
        network=row[11],
        since=row[12],
        # Drivers give numbers of any size as decimals or as text.
        sequence=int(row[13]),
        claim=row[14],
    )
