"""Nouns of address management: pools, owners, leases and the blocks that hold them.

Address space is cut on one absolute grid: block ``n`` of a collision domain holds the addresses
``n * 256`` to ``n * 256 + 255`` of that domain, whatever pool they are handed out from. Pools that
overlap inside one domain therefore meet in the same blocks, so that an address can be held once
only, and no second record (whereabouts' reservation objects) has to agree with the first.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from podnet.errors import DecodingError, InvalidConfigError
from podnet.model.addresses import (
    BITS,
    Address,
    Prefix,
    Span,
    parse_address,
    parse_prefix,
    parse_span,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import netaddr

    from podnet.model.addresses import AddressLike, PrefixLike, SpanLike

BLOCK_BITS = 8
BLOCK_SIZE = 1 << BLOCK_BITS

# Edge rules: which ends of a network are never handed out.
STANDARD = "standard"
INNER = "inner"
ALL = "all"
EDGES = (STANDARD, INNER, ALL)

_FORMAT = 1
_OWNER_KEYS = ("container", "ifname", "namespace", "pod", "uid")
_LONGEST_DOMAIN = 128


@frozen(init=False)
class Pool:
    """An ordered set of addresses to hand out.

    Attributes:
        name: what people call it; one owner holds at most one lease of a name in its domain.
        network: the network the addresses lie in, without host bits; its length goes on leases.
        first: lowest address to hand out; None is the lowest the edge rule permits.
        last: highest address to hand out, itself included; None is the highest permitted.
        exclude: what the configuration takes out: addresses, networks or ``first-last`` texts.
        gateway: next hop told to owners; never handed out itself.
        reserved: what the administrator keeps for other uses; like ``exclude``, told apart in
            errors.
        domain: collision domain; inside one, an address is held once whatever its pool.
        edges: ``standard``: neither the network nor the IPv4 broadcast address, but every address
            of /31, /32, /127 and /128 (RFC 3021, RFC 6164; the IPv6 network address is the
            subnet-router anycast address, RFC 4291 2.6.1). ``inner``: neither the lowest nor the
            highest address in both families, networks without others refused, as whereabouts.
            ``all``: every address.
    """

    name: str
    network: Prefix
    first: Address | None
    last: Address | None
    exclude: tuple[Span, ...]
    gateway: Address | None
    reserved: tuple[Span, ...]
    domain: str
    edges: str

    def __init__(  # noqa: PLR0913 - the vocabulary of pools, all by name
        self,
        name: str,
        network: PrefixLike | Prefix,
        *,
        first: AddressLike | Address | None = None,
        last: AddressLike | Address | None = None,
        exclude: Iterable[SpanLike] = (),
        gateway: AddressLike | Address | None = None,
        reserved: Iterable[SpanLike] = (),
        domain: str | None = None,
        edges: str = STANDARD,
    ) -> None:
        """Parse every part; ``domain`` is the pool's name if not given.

        Raises:
            InvalidConfigError: with one mistake for each part that is wrong.
        """
        mistakes = _Mistakes()
        fields: dict[str, Any] = {
            "name": name,
            "network": mistakes.read("network", parse_prefix, network),
            "first": mistakes.read("first", parse_address, first),
            "last": mistakes.read("last", parse_address, last),
            "exclude": mistakes.read_all("exclude", exclude),
            "gateway": mistakes.read("gateway", parse_address, gateway),
            "reserved": mistakes.read_all("reserved", reserved),
            "domain": name if domain is None else domain,
            "edges": edges,
        }
        if fields["network"] is not None:
            fields["network"] = fields["network"].masked
            mistakes.found += _disagreements(fields)
        if not fields["name"]:
            mistakes.found.append(("name", "is empty"))
        if not fields["domain"]:
            mistakes.found.append(("domain", "is empty"))
        if edges not in EDGES:
            mistakes.found.append(("edges", f"{edges!r} is none of {', '.join(EDGES)}"))
        if mistakes.found:
            raise InvalidConfigError(f"pool {name!r} cannot be", tuple(mistakes.found))
        self.__attrs_init__(**fields)

    def __str__(self) -> str:
        return self.name


class _Mistakes:
    """Collects what is wrong with the parts of a pool."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def read(self, path: str, parse: Callable[[Any], object], value: object) -> Any:
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            self.found.append((path, str(error)))
            return None

    def read_all(self, path: str, values: Iterable[SpanLike]) -> tuple[Span, ...]:
        spans = [self.read(f"{path}[{n}]", parse_span, value) for n, value in enumerate(values)]
        return tuple(span for span in spans if span is not None)


def _disagreements(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the mistakes in how the parts of a pool fit its network."""
    network: Prefix = fields["network"]
    found = [
        (path, f"{fields[path]} is not in {network}")
        for path in ("first", "last")
        if fields[path] is not None and fields[path] not in network
    ]
    first, last = fields["first"], fields["last"]
    if not found and first is not None and last is not None and last < first:
        found.append(("last", f"{last} is below first, {first}"))
    found += [
        (path, f"{span} is not of the family of {network}")
        for path in ("exclude", "reserved")
        for span in fields[path]
        if span.version != network.version
    ]
    # A gateway may lie outside the network (reached on the link), but not in the other family.
    gateway = fields["gateway"]
    if gateway is not None and gateway.version != network.version:
        found.append(("gateway", f"{gateway} is not of the family of {network}"))
    return found


@frozen
class Owner:
    """Who holds a lease: one interface of one container.

    Attributes:
        container_id: ``CNI_CONTAINERID``, or any name that is unique among holders.
        ifname: ``CNI_IFNAME``.
        pod_namespace: for people; empty if unknown.
        pod_name: for people; empty if unknown.
        pod_uid: with the interface name, says that a new container is the same pod's; empty if
            unknown. Namespace and name alone do not: two pods may bear one name after each other.
    """

    container_id: str
    ifname: str
    pod_namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Container id and interface name, which name an attachment in CNI."""
        return self.container_id, self.ifname

    def __str__(self) -> str:
        if self.pod_name:
            return f"{self.pod_namespace}/{self.pod_name} ({self.ifname})"
        return f"{self.container_id} ({self.ifname})"


@frozen(kw_only=True)
class Lease:
    """One address held by one owner.

    Attributes:
        domain: collision domain of the address.
        pool: name of the pool it was handed out from.
        ip: the address.
        length: prefix length of the pool's network.
        owner: who holds it.
        node: node that asked for it; empty if nodes have no names here.
        network: name of the CNI network it is for; empty outside CNI.
        since: when it was granted, in seconds since the epoch.
        sequence: number of the grant; never the same for two grants of one address.
    """

    domain: str
    pool: str
    ip: Address
    length: int
    owner: Owner
    node: str = ""
    network: str = ""
    since: float = 0.0
    sequence: int = 0

    @property
    def address(self) -> netaddr.IPAddress:
        """The address as netaddr's value."""
        return self.ip.netaddr()

    @property
    def prefix(self) -> netaddr.IPNetwork:
        """The address with its prefix length as netaddr's value, host bits kept."""
        return self.cidr.netaddr()

    @property
    def cidr(self) -> Prefix:
        """The address with its prefix length; text such as ``192.168.60.20/24``."""
        return Prefix(self.ip, self.length)

    def to_document(self) -> dict[str, object]:
        """Return it as JSON values, without the domain; ``from_document`` reads them."""
        return {
            "ip": str(self.ip),
            "length": self.length,
            "pool": self.pool,
            "container": self.owner.container_id,
            "ifname": self.owner.ifname,
            "namespace": self.owner.pod_namespace,
            "pod": self.owner.pod_name,
            "uid": self.owner.pod_uid,
            "node": self.node,
            "network": self.network,
            "since": self.since,
            "sequence": self.sequence,
        }

    @classmethod
    def from_document(cls, document: object, domain: str, where: str = "lease") -> Lease:
        """Read what ``to_document`` wrote.

        Args:
            document: JSON values.
            domain: collision domain of the lease.
            where: place in a larger document, for messages.

        Raises:
            DecodingError: it is no lease; the message names the place.
        """
        entry = _Fields(document, where)
        try:
            ip = parse_address(entry.text("ip"))
        except ValueError as error:
            raise DecodingError(f"{where}: {error}") from None
        owner = Owner(*(entry.text(key) for key in _OWNER_KEYS))
        return cls(
            domain=domain,
            pool=entry.text("pool"),
            ip=ip,
            length=entry.number("length", BITS[ip.version]),
            owner=owner,
            node=entry.text("node"),
            network=entry.text("network"),
            since=entry.seconds("since"),
            sequence=entry.number("sequence"),
        )


def _read_only(leases: Mapping[int, Lease]) -> Mapping[int, Lease]:
    return leases if isinstance(leases, MappingProxyType) else MappingProxyType(dict(leases))


@frozen(kw_only=True)
class Block:
    """256 neighbouring addresses of one domain: what a store loads and swaps.

    Attributes:
        domain: collision domain.
        version: 4 or 6.
        index: the addresses without their last eight bits.
        leases: offset in the block to the lease on that address; cannot be written to.
        sequence: number of the last grant in this block; it never goes back, which is why a block
            that became empty is kept.
    """

    domain: str
    version: int
    index: int
    leases: Mapping[int, Lease] = field(factory=dict, converter=_read_only)
    sequence: int = 0

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
        top = _Fields(document, "block")
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
        top = _Fields(head, "block")
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
        return cls(domain=domain, version=version, index=index, leases=by_offset, sequence=sequence)


class _Fields:
    """Typed access to one JSON object that podnet itself wrote: keys are exact."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DecodingError(f"{where}: is no object")
        self._value: dict[str, object] = value
        self.where = where

    def _refuse(self, key: str, kind: str) -> DecodingError:
        return DecodingError(f"{self.where}.{key}: is no {kind}")

    def text(self, key: str) -> str:
        value = self._value.get(key)
        if not isinstance(value, str):
            raise self._refuse(key, "text")
        return value

    def number(self, key: str, most: int | None = None) -> int:
        value = self._value.get(key)
        if type(value) is not int or value < 0 or (most is not None and value > most):
            raise self._refuse(key, "whole number in range")
        return value

    def seconds(self, key: str) -> float:
        value = self._value.get(key)
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            raise self._refuse(key, "number of seconds")
        return float(value)  # type: ignore[arg-type]

    def array(self, key: str) -> list[object]:
        value = self._value.get(key)
        if not isinstance(value, list):
            raise self._refuse(key, "list")
        return value


def domain_prefix(domain: str, version: int | None = None) -> str:
    """Return what the keys of a domain's blocks start with, of one family if given."""
    return f"{_safe_part(domain)}/" if version is None else f"{_safe_part(domain)}/{version}/"


def block_key(domain: str, version: int, index: int) -> str:
    """Return the key of a block; keys of one domain and family sort like their addresses."""
    digits = (BITS[version] - BLOCK_BITS) // 4
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
