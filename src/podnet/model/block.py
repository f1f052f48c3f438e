"""Blocks: what a store keeps, 512 neighbouring addresses each, and the keys it keeps them by.

Address space is cut on one absolute grid: block ``n`` of a collision domain holds the addresses
``n * 512`` to ``n * 512 + 511`` of that domain, whatever pool they are handed out from. Pools that
overlap inside one domain therefore meet in the same blocks, so that an address can be held once
only, and no second record (whereabouts' reservation objects) has to agree with the first.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from attrs import field, frozen

from podnet.errors import DecodingError
from podnet.model.addresses import BITS
from podnet.model.fields import Fields
from podnet.model.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BLOCK_BITS = 9
"""Addresses of a block as a power of two; docs/explanation/ipam.md tells how it was chosen."""
BLOCK_SIZE = 1 << BLOCK_BITS

T = TypeVar("T")

_FORMAT = 1
_LONGEST_DOMAIN = 128


def _read_only(mapping: Mapping[int, T]) -> Mapping[int, T]:
    return mapping if isinstance(mapping, MappingProxyType) else MappingProxyType(dict(mapping))


def thawed(mapping: Mapping[int, T]) -> dict[int, T]:
    """Return a copy that may be changed; ``dict`` takes 17 times as long for what is read-only."""
    return mapping.copy() if isinstance(mapping, MappingProxyType) else dict(mapping)


# attrs takes the type of an argument from its converter, and cannot see what a T stands for.
def _leases(mapping: Mapping[int, Lease]) -> Mapping[int, Lease]:
    return _read_only(mapping)


def _times(mapping: Mapping[int, float]) -> Mapping[int, float]:
    return _read_only(mapping)


@frozen(kw_only=True)
class Block:
    """512 neighbouring addresses of one domain: what a store loads and swaps.

    Attributes:
        domain: collision domain.
        version: 4 or 6.
        index: the addresses without their last ``BLOCK_BITS`` bits.
        leases: offset in the block to the lease on that address; cannot be written to.
        sequence: number of the last grant in this block; it never goes back, which is why a block
            that became empty is kept.
        freed: offset to the time of its release, in seconds since the epoch, of addresses that are
            free now and were held before; cannot be written to. What is absent was never held, or
            that is forgotten.
        holder: node that alone hands addresses out of it (owned mode); empty if all nodes may.
            What the store has of a held block may be behind what the holder has on its own disk.
        recalled: another node asks the holder to give the block back.
    """

    domain: str
    version: int
    index: int
    leases: Mapping[int, Lease] = field(factory=dict, converter=_leases)
    sequence: int = 0
    freed: Mapping[int, float] = field(factory=dict, converter=_times)
    holder: str = ""
    recalled: bool = False
    _taken: int | None = field(default=None, init=False, eq=False, repr=False)

    @property
    def taken(self) -> int:
        """The offsets that are held, as bits: offset 3 is ``1 << 3``."""
        taken = self._taken
        if taken is None:
            taken = 0
            for offset in self.leases:
                taken |= 1 << offset
            # A value that is worked out once; the block stays what it is.
            object.__setattr__(self, "_taken", taken)
        return taken

    def changed(
        self, leases: dict[int, Lease], freed: Mapping[int, float], sequence: int, taken: int
    ) -> Block:
        """Return the block with other leases.

        Args:
            leases: becomes the block's own: the caller must not write to it again.
            freed: as above.
            sequence: number of the last grant.
            taken: the keys of ``leases`` as bits; not verified.
        """
        block = Block(
            domain=self.domain,
            version=self.version,
            index=self.index,
            leases=MappingProxyType(leases),
            sequence=sequence,
            freed=freed,
            holder=self.holder,
            recalled=self.recalled,
        )
        object.__setattr__(block, "_taken", taken)
        return block

    @property
    def key(self) -> str:
        """Where a store keeps it."""
        return block_key(self.domain, self.version, self.index)

    @property
    def first(self) -> int:
        """Its lowest address as an integer."""
        return self.index << BLOCK_BITS

    def head(self) -> dict[str, object]:
        """Return what is not in the leases as JSON values."""
        return {
            "format": _FORMAT,
            "domain": self.domain,
            "version": self.version,
            "index": self.index,
            "sequence": self.sequence,
            "freed": [[offset, when] for offset, when in sorted(self.freed.items())],
            "holder": self.holder,
            "recalled": self.recalled,
        }

    def to_document(self) -> dict[str, object]:
        """Return it as JSON values; ``from_document`` reads them."""
        leases = [lease.to_document() for _, lease in sorted(self.leases.items())]
        return {**self.head(), "leases": leases}

    @classmethod
    def from_document(cls, document: object) -> Block:
        """Read what ``to_document`` wrote.

        Raises:
            DecodingError: it is no block, or a later podnet's; the message names the place.
        """
        top = Fields(document, "block")
        domain = top.text("domain")
        leases = [
            Lease.from_document(entry, domain, f"block.leases[{n}]")
            for n, entry in enumerate(top.array("leases"))
        ]
        return cls.assemble(document, leases)

    @classmethod
    def assemble(cls, head: object, leases: Iterable[Lease]) -> Block:
        """Return the block that a ``head`` document and its leases make.

        Raises:
            DecodingError: they make none, or the format is a later podnet's.
        """
        top = Fields(head, "block")
        if top.number("format") != _FORMAT:
            raise DecodingError(f"block: format {top.number('format')} is not {_FORMAT}")
        domain, version = top.text("domain"), top.number("version")
        if not domain or version not in BITS:
            raise DecodingError("block: domain is empty or version is neither 4 nor 6")
        index = top.number("index", (1 << (BITS[version] - BLOCK_BITS)) - 1)
        sequence = top.number("sequence")
        by_offset: dict[int, Lease] = {}
        for lease in leases:
            value, offset = lease.ip.value, lease.ip.value % BLOCK_SIZE
            if lease.ip.version != version or value >> BLOCK_BITS != index:
                raise DecodingError(f"block: {lease.ip} is not one of its addresses")
            if offset in by_offset:
                raise DecodingError(f"block: {lease.ip} is held twice")
            if lease.sequence > sequence:
                raise DecodingError(f"block: the sequence of {lease.ip} is above the block's")
            by_offset[offset] = lease
        freed = _read_freed(top.array("freed"))
        if both := sorted(freed.keys() & by_offset.keys()):
            raise DecodingError(f"block.freed: offset {both[0]} is held")
        return cls(
            domain=domain,
            version=version,
            index=index,
            leases=by_offset,
            sequence=sequence,
            freed=freed,
            holder=top.text("holder"),
            recalled=top.truth("recalled"),
        )


def _read_freed(entries: list[object]) -> dict[int, float]:
    freed: dict[int, float] = {}
    for n, entry in enumerate(entries):
        pair = entry if isinstance(entry, list) and len(entry) == 2 else [None, None]
        row = Fields(dict(zip(("offset", "when"), pair, strict=True)), f"block.freed[{n}]")
        offset = row.number("offset", BLOCK_SIZE - 1)
        if offset in freed:
            raise DecodingError(f"block.freed[{n}]: offset {offset} is told twice")
        freed[offset] = row.seconds("when")
    return freed


def domain_prefix(domain: str, version: int | None = None) -> str:
    """Return what the keys of a domain's blocks start with, of one family if given."""
    return f"{_safe_part(domain)}/" if version is None else f"{_safe_part(domain)}/{version}/"


def block_key(domain: str, version: int, index: int) -> str:
    """Return the key of a block; keys of one domain and family sort like their addresses."""
    digits = -(-(BITS[version] - BLOCK_BITS) // 4)
    return f"{domain_prefix(domain, version)}{index:0{digits}x}"


def block_index(key: str) -> int:
    """Return the index in a key that ``block_key`` made.

    Raises:
        DecodingError: it made no such key.
    """
    try:
        return int(key.rpartition("/")[2], 16)
    except ValueError:
        raise DecodingError(f"{key!r} is no block's key") from None


def key_parts(key: str) -> tuple[str, int, int] | None:
    """Return domain, IP version and index of a key that ``block_key`` made; None for others.

    A domain too long to be had back from its key makes None, too.
    """
    part, _, rest = key.partition("/")
    version, _, digits = rest.partition("/")
    domain = _domain_of(part)
    if domain is None or version not in ("4", "6"):
        return None
    try:
        index = int(digits, 16)
    except ValueError:
        return None
    if not 0 <= index < 1 << (BITS[int(version)] - BLOCK_BITS):
        return None
    return (domain, int(version), index) if block_key(domain, int(version), index) == key else None


def _domain_of(part: str) -> str | None:
    raw = bytearray()
    at = 0
    while at < len(part):
        if part.startswith("--", at):
            try:
                raw += bytes.fromhex(part[at + 2 : at + 4])
            except ValueError:
                return None
            at += 4
        else:
            raw += part[at].encode("utf-8", "surrogatepass")
            at += 1
    try:
        domain = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return domain if domain and _safe_part(domain) == part else None


@lru_cache(maxsize=256)
def _safe_part(text: str) -> str:
    """Return a text that differs for every ``text`` and is safe in all media of stores.

    It has lower-case letters, digits, ``.`` and ``-`` only, as names of Kubernetes objects do;
    files and SQL take that as well. Anything else is ``--`` and two hexadecimal digits for each
    byte; what gets too long ends in ``--x`` and a digest.
    """
    raw = text.encode("utf-8", "surrogatepass")
    plain = [chr(b).isascii() and (chr(b).islower() or chr(b).isdigit()) for b in raw]
    parts = []
    for n, byte in enumerate(raw):
        inside = 0 < n < len(raw) - 1 and plain[n - 1] and plain[n + 1]
        literal = plain[n] or (inside and chr(byte) in ".-")
        parts.append(chr(byte) if literal else f"--{byte:02x}")
    safe = "".join(parts)
    if len(safe) <= _LONGEST_DOMAIN:
        return safe
    from hashlib import sha256

    return f"{safe[: _LONGEST_DOMAIN - 40]}--x{sha256(raw).hexdigest()[:32]}"
