"""What configurations of several IPAM types have in common: texts, requested addresses, routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.model.addresses import parse_address, parse_prefix
from podnet.model.reader import Reader
from podnet.model.result import read_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podnet.model.addresses import Address
    from podnet.model.conf import NetworkConfig
    from podnet.model.result import DNS, Route

# Versions whose result has room for one address of each family only.
_ONE_PER_FAMILY = ("", "0.1.0", "0.2.0")

RUNTIME_IPS = "runtimeConfig.ips"
ARGS_IPS = "args.cni.ips"
ENVIRONMENT_IPS = "CNI_ARGS.IP"


def requested_texts(
    ipam: Reader, config: NetworkConfig, args: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each source of requested addresses with its texts, none or all; read when asked for."""
    yield RUNTIME_IPS, texts(Reader(config.runtime_config, "runtimeConfig", ipam.mistakes), "ips")
    yield ARGS_IPS, texts(Reader(config.args, "args", ipam.mistakes).section("cni"), "ips")
    yield ENVIRONMENT_IPS, split(args.get("IP", ""))


def hosts(ipam: Reader, where: str, found: Iterable[str]) -> tuple[Address, ...]:
    """Return addresses of texts with or without prefix length, which is dropped."""
    addresses = []
    for text in found:
        try:
            addresses.append(parse_prefix(text).address if "/" in text else parse_address(text))
        except ValueError as error:
            ipam.mistakes.append((where, str(error)))
    return tuple(addresses)


def texts(reader: Reader, key: str) -> tuple[str, ...]:
    """Return the texts of a list that are not empty."""
    return tuple(text for text in reader.strings(key) if text)


def split(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas, without those that are empty."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def check_families(ipam: Reader, config: NetworkConfig, key: str, versions: list[int]) -> None:
    """Record a mistake where the result's version has no room for so many addresses."""
    crowded = versions.count(4) > 1 or versions.count(6) > 1
    if crowded and config.cni_version in _ONE_PER_FAMILY:
        ipam.mistake(
            key, f"CNI version {config.cni_version} does not support more than 1 address per family"
        )


def routes_and_dns(ipam: Reader, *keys: str) -> tuple[tuple[Route, ...], DNS]:
    """Return ``routes`` and ``dns`` of an ``ipam`` object.

    Args:
        ipam: the object.
        keys: which of the two to read; both if none is named.
    """
    part = {key: ipam.value(key) for key in keys or ("routes", "dns")}
    result = read_result(Reader(part, ipam.path, ipam.mistakes), "1.1.0")
    return result.routes, result.dns
