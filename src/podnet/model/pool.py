"""Pools: which addresses are handed out, and which are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.errors import InvalidConfigError
from podnet.model.addresses import Address, Prefix, Span, parse_address, parse_prefix, parse_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.model.addresses import AddressLike, PrefixLike, SpanLike

# Edge rules: which ends of a network are never handed out.
STANDARD = "standard"
INNER = "inner"
ALL = "all"
EDGES = (STANDARD, INNER, ALL)

# Modes: who hands out of a pool's blocks.
AUTO = "auto"
SHARED = "shared"
OWNED = "owned"
MODES = (AUTO, SHARED, OWNED)

LONGEST_REST = 10**9
"""Seconds of the longest cool-down, some thirty years."""


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
        picker: name of the strategy that takes one of the free addresses: ``lowest``,
            ``round-robin``, ``longest-free``, ``spread``, ``sticky``, or one that another package
            offers; empty leaves it to whoever allocates.
        cool_down: seconds that a released address rests before it is handed out again; one that
            rests is handed out nevertheless when no other is free.
        mode: ``shared``: any node swaps any block. ``owned``: a node takes a block for itself and
            hands out of it without asking the store. ``auto``: by the pool's size, where the
            process is one that can own blocks.
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
    picker: str
    cool_down: float
    mode: str

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
        picker: str = "",
        cool_down: float = 0.0,
        mode: str = AUTO,
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
            "picker": picker,
            "cool_down": cool_down,
            "mode": mode,
        }
        if network is None:
            mistakes.found.append(("network", "is required"))
        elif fields["network"] is not None:
            fields["network"] = fields["network"].masked
            mistakes.found += _disagreements(fields)
        if not fields["name"]:
            mistakes.found.append(("name", "is empty"))
        if not fields["domain"]:
            mistakes.found.append(("domain", "is empty"))
        if edges not in EDGES:
            mistakes.found.append(("edges", f"{edges!r} is none of {', '.join(EDGES)}"))
        if not 0 <= cool_down <= LONGEST_REST:
            mistakes.found.append(("cool_down", f"is not from 0 to {LONGEST_REST} seconds"))
        if mode not in MODES:
            mistakes.found.append(("mode", f"{mode!r} is none of {', '.join(MODES)}"))
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
        # One text, or one network of ipaddress, is a run of values, too: characters, or every one
        # of its addresses.
        if (
            isinstance(values, str | bytes)
            or hasattr(values, "version")
            or not hasattr(values, "__iter__")
        ):
            said = values if isinstance(values, str) else str(values)
            self.found.append((path, f"must be a list of addresses or networks, not {said!r}"))
            return ()
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
