"""Which blocks may have a lease of an owner, from a few bytes for each lease.

An object's metadata tells two digests of four bytes for each lease: of container and interface,
and of pod UID and interface. So the blocks of an owner are found without reading leases: a full
block has 150 KB of them, and 4 KB of digests. They can only be too many: digests that are equal by
chance cost a read in vain.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b
from typing import TYPE_CHECKING

from podnet.manifests.resources import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podnet.model.lease import Owner

ANNOTATION = f"{GROUP}/owners"
_SIZE = 4


def marks(owner: Owner) -> bytes:
    """Return an owner's two digests; without a pod UID, twice the first."""
    first = _digest("c", owner.container_id, owner.ifname)
    return first + (_digest("u", owner.pod_uid, owner.ifname) if owner.pod_uid else first)


def _digest(*texts: str) -> bytes:
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=_SIZE).digest()


def told(generation: int, found: Iterable[bytes]) -> str:
    """Return the annotation for the marks of all leases.

    Args:
        generation: of the object, once this is written; it moves with every change of leases, so
            that marks that a person's edit left behind are known to be old.
        found: marks of each lease.
    """
    return f"{generation}:{base64.b64encode(b''.join(found)).decode()}"


def read(metadata: Mapping[str, object]) -> bytes | None:
    """Return the marks that an object's metadata tells; None if they cannot be relied on."""
    annotations = metadata.get("annotations")
    text = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
    if not isinstance(text, str):
        return None
    generation, _, rest = text.partition(":")
    if generation != str(metadata.get("generation")):
        return None
    try:
        found = base64.b64decode(rest, validate=True)
    except binascii.Error:
        return None
    return found if len(found) % _SIZE == 0 else None


def has(found: bytes, wanted: bytes) -> bool:
    """Tell whether marks of leases have one of an owner's."""
    return any(
        _find(found, wanted[n : n + _SIZE], _SIZE) >= 0 for n in range(0, len(wanted), _SIZE)
    )


def _find(data: bytes | bytearray, part: bytes, step: int, start: int = 0) -> int:
    """Return where a part stands in data made of records of ``step`` bytes, or -1."""
    at = data.find(part, start)
    while at >= 0 and at % step:
        at = data.find(part, at + 1)
    return at


class Index:
    """Marks to the numbers of the blocks that have them: 8 bytes for each mark."""

    _BUCKETS = 4096

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(self._BUCKETS)]

    def replace(self, number: int, old: bytes, new: bytes) -> None:
        """Have a block's marks be others than they were."""
        before, after = set(_split(old)), set(_split(new))
        tail = number.to_bytes(_SIZE, "big")
        for mark in before - after:
            bucket = self._bucket(mark)
            at = _find(bucket, mark + tail, 2 * _SIZE)
            bucket[at : at + 2 * _SIZE] = bucket[-2 * _SIZE :]
            del bucket[-2 * _SIZE :]
        for mark in after - before:
            self._bucket(mark).extend(mark + tail)

    def blocks(self, wanted: bytes) -> set[int]:
        """Return the numbers of the blocks that have one of an owner's marks."""
        found = set()
        for mark in set(_split(wanted)):
            bucket, at = self._bucket(mark), -2 * _SIZE
            while (at := _find(bucket, mark, 2 * _SIZE, at + 2 * _SIZE)) >= 0:
                found.add(int.from_bytes(bucket[at + _SIZE : at + 2 * _SIZE], "big"))
        return found

    def _bucket(self, mark: bytes) -> bytearray:
        return self._buckets[int.from_bytes(mark[:2], "big") % self._BUCKETS]


def _split(found: bytes) -> Iterator[bytes]:
    for n in range(0, len(found), _SIZE):
        yield found[n : n + _SIZE]
