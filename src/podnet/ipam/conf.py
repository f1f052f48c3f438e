"""Reading the ``ipam`` object of a network configuration, whatever its type.

Mistakes are collected with their paths and raised together. Keys of whereabouts that steer its
executables (kubeconfig, leader election, logs, node slices) pass unread: podnet has a store.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from attrs import evolve

from podnet.errors import InvalidConfigError
from podnet.ipam import space
from podnet.ipam.given import (
    check_families,
    hosts,
    requested_texts,
    routes_and_dns,
    split,
)
from podnet.ipam.host_local import HOST_LOCAL, read_host_local
from podnet.ipam.migrate import RESERVED
from podnet.ipam.want import IpamWant
from podnet.model.addresses import (
    Address,
    Prefix,
    Span,
    parse_address,
    parse_prefix,
    parse_span,
)
from podnet.model.pool import AUTO, EDGES, INNER, MODES, STANDARD, Pool
from podnet.model.reader import Reader
from podnet.model.result import IP
from podnet.model.wire import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podnet.model.conf import NetworkConfig

WHEREABOUTS = "whereabouts"
NATIVE = "podnet-ipam"
STATIC = "static"


def read_want(plugin: str, config: NetworkConfig, args: Mapping[str, str]) -> IpamWant:
    """Return what a network configuration asks of an IPAM plugin.

    Args:
        plugin: name of the IPAM plugin that was called.
        config: the whole configuration.
        args: pairs of ``CNI_ARGS``.

    Raises:
        InvalidConfigError: with every mistake.
    """
    if "ipam" not in Reader(config.document):
        raise InvalidConfigError("IPAM config missing 'ipam' key", (("ipam", "is required"),))
    ipam = Reader(config.ipam, "ipam")
    kind = ipam.string("type")
    if kind != plugin:
        raise InvalidConfigError(
            f"only interested in networks whose IPAM type is '{plugin}'. This one was: {kind}",
            (("ipam.type", f"is not {plugin}"),),
        )
    want = _READERS[plugin](ipam, config, args)
    ipam.finish("invalid IPAM configuration")
    return want


def domain_of(network_name: str, cidr: str | None) -> str:
    """Return the collision domain of a whereabouts range.

    whereabouts keeps addresses of one ``network_name`` apart across all its ranges. With
    ``enable_overlapping_ranges: false`` it only keeps those of one and the same CIDR apart.

    Args:
        network_name: the key's value; empty if it is not set.
        cidr: masked range where ranges may overlap, else None.
    """
    return ":".join(part for part in (WHEREABOUTS, network_name, cidr) if part)


def _read_whereabouts(ipam: Reader, config: NetworkConfig, args: Mapping[str, str]) -> IpamWant:
    gateway = ipam.parsed("gateway", _parsed_gateway, None)
    network_name = ipam.string("network_name")
    unique = ipam.boolean("enable_overlapping_ranges", default=True)
    entries = [ipam] if ipam.string("range") else []
    pools: list[Pool] = []
    for entry in (*entries, *ipam.sections("ipRanges")):
        pool = _whereabouts_pool(entry, gateway, network_name, unique=unique)
        if pool is not None:
            # The same network twice means two addresses, not the same one told twice.
            again = sum(each.network == pool.network for each in pools)
            pools.append(pool if not again else evolve(pool, name=f"{pool.name}#{again + 1}"))
    addresses = (*_addresses(ipam), *_args_addresses(ipam, args))
    check_families(ipam, config, "addresses", [each.version for each in addresses])
    if not entries and ipam.value("ipRanges") in (None, []) and not addresses:
        ipam.mistake("range", "is required where there is neither ipRanges nor addresses")
    routes, dns = routes_and_dns(ipam)
    return IpamWant(sets=pools, addresses=addresses, routes=routes, dns=dns)


def _whereabouts_pool(
    entry: Reader, gateway: Address | None, network_name: str, *, unique: bool
) -> Pool | None:
    found = entry.parsed("range", _range, None, required=True)
    first = entry.parsed("range_start", _sloppy_address, None)
    last = entry.parsed("range_end", _sloppy_address, None)
    exclude = _spans(entry, "exclude", "could not parse exclude range: ")
    if found is None:
        return None
    network, low, high = found
    cidr = str(network)
    fields: dict[str, Any] = {
        "first": low or first,
        "last": high or last,
        # An exclude of the other family excludes nothing, there as here.
        "exclude": [span for span in exclude if span.version == network.version],
        "gateway": gateway if gateway and gateway.version == network.version else None,
        "domain": domain_of(network_name, None if unique else cidr),
        "edges": INNER,
        "picker": "lowest",
    }
    return _build(entry, cidr, network, fields, {"first": "range_start", "last": "range_end"})


def _read_native(ipam: Reader, config: NetworkConfig, args: Mapping[str, str]) -> IpamWant:
    sections = ipam.sections("pools")
    if ipam.value("pools") in (None, []):
        ipam.mistake("pools", "is required and names at least one pool")
    pools = [pool for each in sections if (pool := _native_pool(each)) is not None]
    seen: set[tuple[str, str]] = set()
    for each in pools:
        if (each.domain, each.name) in seen:
            ipam.mistake("pools", f"names the pool {each.name!r} twice")
        seen.add((each.domain, each.name))
        if each.domain.startswith(RESERVED):
            ipam.mistake("pools", f"names the domain {each.domain!r}, which is podnet's own")
    addresses = _addresses(ipam)
    versions = [each.network.version for each in pools]
    check_families(ipam, config, "pools", [*versions, *(each.version for each in addresses)])
    routes, dns = routes_and_dns(ipam)
    return IpamWant(
        sets=pools,
        addresses=addresses,
        routes=routes,
        dns=dns,
        requested=_requested(ipam, config, args),
    )


def _native_pool(entry: Reader) -> Pool | None:
    network = entry.prefix("network", required=True)
    fields: dict[str, Any] = {
        "first": entry.address("first"),
        "last": entry.address("last"),
        "exclude": _spans(entry, "exclude"),
        "gateway": entry.address("gateway"),
        "reserved": _spans(entry, "reserved"),
        "domain": entry.string("domain") or None,
        "edges": entry.choice("edges", EDGES, STANDARD),
        "picker": entry.string("picker"),
        "cool_down": _number(entry, "coolDown"),
        "mode": entry.choice("mode", MODES, AUTO),
    }
    if network is None:
        return None
    name = entry.string("name") or str(network.masked)
    return _build(entry, name, network, fields, {"cool_down": "coolDown"})


def _build(
    entry: Reader, name: str, network: Prefix, fields: dict[str, Any], keys: Mapping[str, str]
) -> Pool | None:
    """Return the pool, or record what is wrong with it under the entry's own keys."""
    try:
        pool = Pool(name, network, **fields)
    except InvalidConfigError as error:
        for path, what in error.mistakes:
            entry.mistake(keys.get(path, path), what)
        return None
    try:
        space.bounds(pool)
    except InvalidConfigError as error:
        entry.mistake("network" if "network" in entry else "range", error.msg)
        return None
    return pool


def _read_static(ipam: Reader, config: NetworkConfig, args: Mapping[str, str]) -> IpamWant:
    # What replaces an earlier source also spares it from being read (static/main.go).
    what = "an entry in the 'ips' field is NOT in CIDR notation, got: '{}'"
    for where, texts in islice(requested_texts(ipam, config, args), 2):
        if texts:
            addresses = _cidrs(ipam, where, texts, what)
            break
    else:
        addresses = (*_addresses(ipam), *_args_addresses(ipam, args))
    check_families(ipam, config, "addresses", [each.version for each in addresses])
    routes, dns = routes_and_dns(ipam)
    return IpamWant(addresses=addresses, routes=routes, dns=dns)


_READERS: dict[str, Callable[[Reader, NetworkConfig, Mapping[str, str]], IpamWant]] = {
    WHEREABOUTS: _read_whereabouts,
    NATIVE: _read_native,
    STATIC: _read_static,
    HOST_LOCAL: read_host_local,
}


def _addresses(ipam: Reader) -> tuple[IP, ...]:
    """Return the fixed addresses of the ``addresses`` key."""
    found = []
    for entry in ipam.sections("addresses"):
        text = entry.string("address")
        gateway = entry.address("gateway")
        try:
            found.append(IP(parse_prefix(text), gateway or ""))
        except ValueError:
            entry.mistake(
                "address", f"the 'address' field is expected to be in CIDR notation, got: '{text}'"
            )
    return tuple(found)


def _args_addresses(ipam: Reader, args: Mapping[str, str]) -> tuple[IP, ...]:
    """Return the addresses of ``CNI_ARGS``: ``IP`` with the ``GATEWAY`` in each one's subnet."""
    what = "the 'ip' field is expected to be in CIDR notation, got: '{}'"
    found = _cidrs(ipam, "CNI_ARGS.IP", split(args.get("IP", "")), what)
    gateways = []
    for text in split(args.get("GATEWAY", "")):
        try:
            gateways.append(parse_address(text))
        except ValueError:
            ipam.mistakes.append(("CNI_ARGS.GATEWAY", f"invalid gateway address: {text}"))
    return tuple(
        IP(each.address, next((g for g in gateways if g in parse_prefix(each.address)), ""))
        for each in found
    )


def _cidrs(ipam: Reader, where: str, texts: tuple[str, ...], what: str) -> tuple[IP, ...]:
    found = []
    for text in texts:
        try:
            found.append(IP(parse_prefix(text)))
        except ValueError:
            ipam.mistakes.append((where, what.format(text)))
    return tuple(found)


def _requested(ipam: Reader, config: NetworkConfig, args: Mapping[str, str]) -> tuple[Address, ...]:
    """Return requested addresses of the first source that names any; prefix lengths are dropped.

    CNI CONVENTIONS.md: capability arguments, then ``args``; ``CNI_ARGS`` is deprecated and is
    ignored where another says the same.
    """
    for where, texts in tuple(requested_texts(ipam, config, args)):
        if texts:
            return hosts(ipam, where, texts)
    return ()


def _spans(entry: Reader, key: str, prefix: str = "") -> tuple[Span, ...]:
    found = []
    for n, text in enumerate(entry.strings(key)):
        try:
            found.append(parse_span(_without_zeros(text)))
        except ValueError as error:
            entry.mistake(f"{key}[{n}]", f"{prefix}{error}")
    return tuple(found)


def _parsed_gateway(text: str) -> Address:
    try:
        return _sloppy_address(text)
    except ValueError:
        raise ValueError(f"couldn't parse gateway IP: {text}") from None


def _sloppy_address(text: str) -> Address:
    return parse_address(_without_zeros(text))


def _range(text: str) -> tuple[Prefix, Address | None, Address | None]:
    """Return network, first and last of a range: ``CIDR`` or ``first-last/length``."""
    low, dash, cidr = text.partition("-")
    if not dash:
        return parse_prefix(_without_zeros(text)).masked, None, None
    first, last = _sloppy_address(low.strip()), parse_prefix(_without_zeros(cidr.strip()))
    if first not in last:
        raise ValueError(f"invalid range start for CIDR {last.masked}: {first}")
    return last.masked, first, last.address


def _number(entry: Reader, key: str) -> float:
    value = entry.value(key)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        entry.mistake(key, f"must be a number, not {kind(value)}")
        return 0.0
    return value


def _without_zeros(text: str) -> str:
    """Return a text whose dotted numbers have no leading zeros.

    Go's older parser, which whereabouts keeps for this reason, took them for decimal.
    """
    if ":" in text:
        return text
    head, slash, length = text.partition("/")
    parts = [part.lstrip("0") or "0" if part.isdigit() else part for part in head.split(".")]
    return ".".join(parts) + slash + length
