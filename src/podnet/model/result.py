"""CNI results: one noun for all versions, parsed from any of them.

The shapes of the versions are those of the reference's Go types ``types/020``, ``types/040`` and
``types/100``. ``podnet.model.printing`` prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.model.addresses import parse_address, parse_prefix
from podnet.model.reader import Reader
from podnet.model.versions import FAMILIES, SUPPORTED, family
from podnet.model.wire import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.model.addresses import Address, AddressLike, Prefix, PrefixLike

OLD, STRUCT, _ = FAMILIES

# RTA_TABLE, RTA_PRIORITY and the route metrics are 32 bits wide, rtm_scope is 8
# (include/uapi/linux/rtnetlink.h).
UINT32 = (1 << 32) - 1
UINT8 = (1 << 8) - 1


def _prefix_text(value: PrefixLike | Prefix) -> str:
    return str(parse_prefix(value))


def _address_text(value: AddressLike | Address) -> str:
    return str(parse_address(value)) if value != "" else ""


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


@frozen
class Interface:
    """One interface that an attachment made or uses.

    Attributes:
        name: its name where it is.
        mac: hardware address as text; empty if unknown.
        sandbox: path of the network namespace it is in; empty for one of the host.
        mtu: bytes; 0 if not told. From 1.0.0 on, as are the following.
        socket_path: path of a vhost-user socket; empty if there is none.
        pci_id: PCI address or auxiliary device; empty if there is none.
    """

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = field(default=0, kw_only=True)
    socket_path: str = field(default="", kw_only=True)
    pci_id: str = field(default="", kw_only=True)


@frozen
class IP:
    """One address of an attachment.

    Attributes:
        address: ``address/length`` in common form, host bits kept.
        gateway: default gateway; empty if there is none.
        interface: index into the result's interfaces; None if it belongs to none.

    Raises:
        ValueError: ``address`` or ``gateway`` is none.
    """

    address: str = field(converter=_prefix_text)
    gateway: str = field(default="", converter=_address_text)
    interface: int | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


@frozen
class Route:
    """One route of an attachment.

    Attributes:
        dst: destination prefix in common form.
        gw: next hop; empty for the gateway of the address's family.
        mtu: bytes; 0 if not told, as are the following two.
        advmss: TCP maximum segment size to announce, bytes.
        priority: metric; the lower one wins.
        table: routing table number; None for the main one.
        scope: ``RT_SCOPE_*``; None for the kernel's choice.

    Raises:
        ValueError: ``dst`` or ``gw`` is none.
    """

    dst: str = field(converter=_prefix_text)
    gw: str = field(default="", converter=_address_text)
    mtu: int = field(default=0, kw_only=True)
    advmss: int = field(default=0, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    table: int | None = field(default=None, kw_only=True)
    scope: int | None = field(default=None, kw_only=True)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.dst else 4


@frozen(kw_only=True)
class DNS:
    """Resolver settings, all as given: they are told, not used."""

    nameservers: tuple[str, ...] = field(default=(), converter=_texts)
    domain: str = ""
    search: tuple[str, ...] = field(default=(), converter=_texts)
    options: tuple[str, ...] = field(default=(), converter=_texts)


@frozen(kw_only=True)
class Result:
    """What ADD made, in no version in particular."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()


def result_version(document: Mapping[str, object], version: str) -> str:
    """Return the version a delegate's result is in: its own, else the configuration's.

    Raises:
        InvalidConfigError: it names a version that is not supported.
    """
    reader = Reader(document)
    own = reader.string("cniVersion") or version
    if own not in SUPPORTED:
        reader.mistake("cniVersion", f"{short(own)} is not one of {', '.join(SUPPORTED)}")
    reader.finish("invalid result")
    return own


def parse_result(document: Mapping[str, object], version: str) -> Result:
    """Return the result that ``document`` tells in the supported ``version``.

    ``version`` is the configuration's; the result may name none, or one of the same shape.
    What peers get wrong is taken for what they mean: no ``interfaces``, or ``interface: -1``
    (CNI spec-upgrades.md).

    Raises:
        InvalidConfigError: with every mistake in the document.
    """
    reader = Reader(document)
    result = read_result(reader, version)
    reader.finish("invalid result")
    return result


def read_result(reader: Reader, version: str) -> Result:
    """Return the result that ``reader`` reads; mistakes are left in the reader."""
    own = reader.string("cniVersion")
    if own and own not in family(version):
        supported = " ".join(family(version))
        reader.mistake(
            "cniVersion",
            f"result type supports [{supported}] but unmarshalled CNIVersion is {short(own)}",
        )
        return Result()
    if version in OLD:
        return _read_old(reader)
    interfaces = tuple(_read_interface(each, version) for each in reader.sections("interfaces"))
    ips = tuple(ip for each in reader.sections("ips") if (ip := _read_ip(each, "address")))
    return Result(interfaces=interfaces, ips=ips, routes=_read_routes(reader), dns=read_dns(reader))


def read_dns(reader: Reader) -> DNS:
    """Return the ``dns`` key of a result or of a network configuration."""
    dns = reader.section("dns")
    return DNS(
        nameservers=dns.strings("nameservers"),
        domain=dns.string("domain"),
        search=dns.strings("search"),
        options=dns.strings("options"),
    )


def _read_old(reader: Reader) -> Result:
    ips: list[IP] = []
    routes: list[Route] = []
    for key in ("ip4", "ip6"):
        if key not in reader:
            continue
        part = reader.section(key)
        if ip := _read_ip(part, "ip"):
            ips.append(ip)
        routes.extend(_read_routes(part))
    return Result(ips=tuple(ips), routes=tuple(routes), dns=read_dns(reader))


def _read_interface(reader: Reader, version: str) -> Interface:
    new = version not in STRUCT
    return Interface(
        reader.string("name", required=True),
        reader.string("mac"),
        reader.string("sandbox"),
        mtu=reader.integer("mtu", minimum=0, maximum=UINT32) if new else 0,
        socket_path=reader.string("socketPath") if new else "",
        pci_id=reader.string("pciID") if new else "",
    )


def _read_ip(reader: Reader, key: str) -> IP | None:
    address = reader.prefix(key, required=True)
    gateway = reader.address("gateway")
    index = reader.integer("interface", None, minimum=-1)
    if address is None:
        return None
    return IP(address, gateway or "", None if index == -1 else index)


def _read_routes(reader: Reader) -> tuple[Route, ...]:
    return tuple(route for each in reader.sections("routes") if (route := _read_route(each)))


def _read_route(reader: Reader) -> Route | None:
    dst = reader.prefix("dst", required=True)
    gw = reader.address("gw")
    mtu, advmss, priority = (
        reader.integer(key, minimum=0, maximum=UINT32) for key in ("mtu", "advmss", "priority")
    )
    table = reader.integer("table", None, minimum=0, maximum=UINT32)
    scope = reader.integer("scope", None, minimum=0, maximum=UINT8)
    if dst is None:
        return None
    return Route(dst, gw or "", mtu=mtu, advmss=advmss, priority=priority, table=table, scope=scope)
