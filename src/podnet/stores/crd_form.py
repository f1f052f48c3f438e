"""Blocks as ``IPBlock`` objects, in a form that people read and that changes little by little.

Leases are a map by address, so that a merge patch tells only those that changed; what they have in
common stands once, in ``spec.common``. Times are RFC 3339 with all digits of the number.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from podnet.errors import DecodingError
from podnet.model.addresses import Address, parse_address, parse_prefix
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.stores.crd_names import block_cidr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.model.addresses import Prefix

Document = dict[str, Any]

_SAFE_INTEGER = 1 << 53
_LAST_YEAR = 253402300800.0
"""The first second of the year 10000, which RFC 3339 cannot tell."""

_EMPTY: dict[str, str | int] = {
    "container": "",
    "pod": "",
    "uid": "",
    "pool": "",
    "length": 0,
    "network": "",
    "interface": "",
    "namespace": "",
    "node": "",
    "claim": "",
}
_HOISTED = ("pool", "length", "network", "interface", "namespace", "node")


def spec_head(key: str, block: Block) -> Document:
    """Return ``spec`` without common, leases and freed."""
    return {
        "key": key,
        "domain": block.domain,
        "family": block.version,
        "cidr": str(block_cidr(block.version, block.index)),
        "holder": block.holder,
        "recalled": block.recalled,
        "sequence": _number(block.sequence),
    }


def status(block: Block) -> Document:
    """Return ``status``."""
    return {"used": len(block.leases), "free": BLOCK_SIZE - len(block.leases)}


def common(leases: Mapping[int, Lease]) -> Document:
    """Return what most leases have in common."""
    found: Document = {}
    for name in _HOISTED:
        counts = Counter(_values(lease)[name] for lease in leases.values())
        if counts:
            value, count = counts.most_common(1)[0]
            if 2 * count > len(leases) and value != _EMPTY[name]:
                found[name] = value
    return found


def lease_document(lease: Lease, shared: Document) -> Document:
    """Return a lease's entry; fields as in ``shared`` are left out."""
    found = {
        name: value
        for name, value in _values(lease).items()
        if value != shared.get(name, _EMPTY[name])
    }
    if lease.since:
        found["since"] = time_text(lease.since)
    if lease.sequence:
        found["sequence"] = _number(lease.sequence)
    return found


def _values(lease: Lease) -> dict[str, str | int]:
    owner = lease.owner
    return {
        "container": owner.container_id,
        "pod": owner.pod_name,
        "uid": owner.pod_uid,
        "pool": lease.pool,
        "length": lease.length,
        "network": lease.network,
        "interface": owner.ifname,
        "namespace": owner.pod_namespace,
        "node": lease.node,
        "claim": lease.claim,
    }


def read_lease(domain: str, address: Address, entry: object, shared: Document) -> Lease:
    """Read what ``lease_document`` returned.

    Raises:
        DecodingError: it is no lease; the message names the field.
    """
    if not isinstance(entry, dict):
        raise DecodingError(f"spec.leases[{address}]: is no object")
    values = {**_EMPTY, **shared, **entry}
    for name, empty in _EMPTY.items():
        if type(values[name]) is not type(empty):
            what = f"{values[name]!r} is of the wrong type"
            raise DecodingError(f"spec.leases[{address}].{name}: {what}")
    owner = Owner(
        values["container"], values["interface"], values["namespace"], values["pod"], values["uid"]
    )
    if not 0 <= values["length"] <= (32 if address.version == 4 else 128):
        what = f"{values['length']} is no prefix length"
        raise DecodingError(f"spec.leases[{address}].length: {what}")
    return Lease(
        domain=domain,
        pool=values["pool"],
        ip=address,
        length=values["length"],
        owner=owner,
        node=values["node"],
        network=values["network"],
        since=read_time(entry.get("since", 0.0), "since", address),
        sequence=read_number(entry.get("sequence", 0), "sequence", address),
        claim=values["claim"],
    )


def lease_key(block: Block, offset: int) -> str:
    """Return the key of an address in ``spec.leases`` and ``spec.freed``."""
    return str(Address(block.version, block.first + offset))


def read_address(text: str, cidr: Prefix, where: str) -> Address:
    """Read a key of ``spec.leases`` or ``spec.freed``.

    Raises:
        DecodingError: it is no address of the block.
    """
    try:
        address = parse_address(text)
    except ValueError as error:
        raise DecodingError(f"{where}[{text}]: {error}") from None
    if address.version != cidr.address.version or not cidr.first <= address.value <= cidr.last:
        raise DecodingError(f"{where}[{text}]: is not in {cidr}")
    return address


def assemble(spec: Document, cidr: Prefix, leases: list[Lease]) -> Block:
    """Return the block of a ``spec`` whose leases were read.

    Raises:
        DecodingError: a field is not what it has to be; the message names it.
    """
    freed = []
    for text, when in mapping(spec, "freed").items():
        offset = read_address(text, cidr, "spec.freed").value - cidr.first
        freed.append([offset, read_time(when, f"spec.freed[{text}]")])
    head = {
        "format": 1,
        "domain": _typed(spec, "domain", ""),
        "version": cidr.address.version,
        "index": cidr.first >> BLOCK_BITS,
        "sequence": read_number(spec.get("sequence", 0), "spec.sequence"),
        "freed": freed,
        "holder": _typed(spec, "holder", ""),
        "recalled": _typed(spec, "recalled", False),
    }
    return Block.assemble(head, leases)


def read_cidr(spec: Document) -> Prefix:
    """Return ``spec.cidr``, checked to be a block's.

    Raises:
        DecodingError: it is none.
    """
    text = _typed(spec, "cidr", "")
    try:
        cidr = parse_prefix(text)
    except ValueError as error:
        raise DecodingError(f"spec.cidr: {error}") from None
    index = cidr.first >> BLOCK_BITS
    if cidr != block_cidr(cidr.address.version, index):
        raise DecodingError(f"spec.cidr: {text} is no block of {BLOCK_SIZE} addresses")
    if spec.get("family") != cidr.address.version:
        raise DecodingError(f"spec.family: {spec.get('family')!r} is not that of {text}")
    return cidr


def _typed(spec: Document, name: str, empty: Any) -> Any:
    value = spec.get(name, empty)
    if type(value) is not type(empty):
        raise DecodingError(f"spec.{name}: {value!r} is of the wrong type")
    return value


def mapping(spec: Document, name: str) -> Document:
    """Return a field of ``spec`` that is an object; empty if it is not there.

    Raises:
        DecodingError: it is something else.
    """
    found: Document = _typed(spec, name, {})
    return found


def _number(value: int) -> int | str:
    """Return a number so that no reader narrows it: JSON readers know 53 bits for certain."""
    return value if value < _SAFE_INTEGER else str(value)


def read_number(value: object, where: str, address: Address | None = None) -> int:
    """Read a whole number that may be written as text.

    Args:
        value: what is there.
        where: the field, for messages.
        address: in whose lease, if in one.

    Raises:
        DecodingError: it is none.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if type(value) is int and value >= 0:
        return value
    raise DecodingError(f"{_place(where, address)}: {value!r} is no number")


def _place(where: str, address: Address | None) -> str:
    """Return where a field stands: in the lease of an address, or as told."""
    return where if address is None else f"spec.leases[{address}].{where}"


def time_text(when: float) -> str:
    """Return seconds since the epoch as text from which the very same number can be read."""
    if not 0 <= when < _LAST_YEAR:
        return repr(when)
    text = repr(when)
    if "e" in text:
        from decimal import Decimal

        text = format(Decimal(text), "f")
    whole, _, fraction = text.partition(".")
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(whole)))
    fraction = fraction.rstrip("0")
    # The C library pads years before 1000 to four digits on some systems only.
    return f"{date:0>19}{'.' if fraction else ''}{fraction}Z"


def read_time(value: object, where: str, address: Address | None = None) -> float:
    """Read what ``time_text`` returned.

    Args:
        value: what is there.
        where: the field, for messages.
        address: in whose lease, if in one.

    Raises:
        DecodingError: it is no time.
    """
    if value == 0.0 and isinstance(value, float):
        return 0.0
    try:
        if not isinstance(value, str):
            raise ValueError
        if "T" not in value:
            return float(value)
        if not value.endswith("Z"):
            raise ValueError
        date, _, fraction = value[:-1].partition(".")
        whole = calendar.timegm(datetime.fromisoformat(date).timetuple())
        return float(f"{whole}.{fraction or 0}")
    except (ValueError, OverflowError):
        what = f"{value!r} is no UTC time of RFC 3339"
        raise DecodingError(f"{_place(where, address)}: {what}") from None
