"""Results → the network-status annotation, in the layout of Multus.

Sections are those of NPWG 1.3; the layout is that of the network-attachment-definition-client
(``pkg/utils/net-attach-def.go``), which pods' tools have learnt to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from podnet.errors import InvalidConfigError
from podnet.model.result import DNS
from podnet.model.wire import print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.delegation.plan import Attachment
    from podnet.model.result import Result

STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status"

# Keys in the order of the client's types.DeviceInfo and of the types in it (device-info 1.1.0).
_DEVICE_KINDS = {
    "pci": ("pci-address", "vhost-net", "rdma-device", "pf-pci-address", "representor-device"),
    "vdpa": (
        "parent-device",
        "driver",
        "path",
        "pci-address",
        "pf-pci-address",
        "representor-device",
    ),
    "vhost-user": ("mode", "path"),
    "memif": ("role", "path", "mode"),
}
_DEVICE_KEYS = ("type", "version", *_DEVICE_KINDS)


def _ips(values: Iterable[object]) -> tuple[str, ...]:
    return _texts("ips", values)


def _gateway(values: Iterable[object]) -> tuple[str, ...]:
    return _texts("gateway", values)


def _texts(path: str, values: Iterable[object]) -> tuple[str, ...]:
    """Return addresses as text, be they text or values of podnet, ipaddress or netaddr.

    Raises:
        InvalidConfigError: it is one of them and no list, or something else is in it.
    """
    # One text, or one network of ipaddress, is a run of values, too, and never what was meant.
    if (
        isinstance(values, str | bytes)
        or hasattr(values, "version")
        or not hasattr(values, "__iter__")
    ):
        wrong = [(path, f"must be a list of addresses, not {str(values)!r}")]
        found: tuple[object, ...] = ()
    else:
        found = tuple(values)
        wrong = [
            (f"{path}[{n}]", f"{each!r} is not an address")
            for n, each in enumerate(found)
            if not (isinstance(each, str) or hasattr(each, "version"))
        ]
    if wrong:
        raise InvalidConfigError("network status cannot be", tuple(wrong))
    return tuple(map(str, found))


@frozen(kw_only=True)
class NetworkStatus:
    """One entry of the annotation: an interface of the pod (section 5.3).

    Attributes:
        name: the network, ``<namespace>/<definition>`` or its configuration's name.
        interface: name in the sandbox; empty if there is none to name.
        ips: addresses, without prefix length as Multus prints them; given as text, or as values
            of ipaddress or netaddr.
        mac: hardware address; empty if unknown.
        mtu: bytes; 0 if unknown.
        default: whether it is the interface of the pod's default network.
        dns: what the network tells.
        device_info: what is known of its device; None without one.
        gateway: gateways of its default routes; given like ``ips``.

    Raises:
        InvalidConfigError: ``ips`` or ``gateway`` is no list of addresses.
    """

    name: str
    interface: str = ""
    ips: tuple[str, ...] = field(default=(), converter=_ips)
    mac: str = ""
    mtu: int = 0
    default: bool = False
    dns: DNS = field(factory=DNS)
    device_info: Mapping[str, object] | None = None
    gateway: tuple[str, ...] = field(default=(), converter=_gateway)


def render_network_status(entries: Iterable[NetworkStatus]) -> str:
    """Return the annotation's value, byte for byte as Multus lays it out.

    An object for each entry indented by four, joined by ``,`` without space or newline; the keys
    in Go's order; empty ones left out but ``name`` and ``dns`` (``SetNetworkStatus``).
    """
    return f"[{','.join(print_json(_document(each)).decode() for each in entries)}]"


def entries_of(
    attachment: Attachment,
    result: Result | None,
    default: bool = False,
    device_info: Mapping[str, object] | None = None,
) -> tuple[NetworkStatus, ...]:
    """Return the entries of one attachment (section 5.1.1).

    As Multus does: one for each interface in the sandbox, the first of which 5.1.1 asks for; an
    only interface counts whether or not it says that it is in a sandbox; addresses go to their
    interface, those of none to the last. Other than Multus, a result without such an interface
    still gives a minimal entry, with the addresses it has; a default network always has its
    default entry; a default route without gateway tells that of its addresses, or nothing.

    Args:
        attachment: the attachment.
        result: what its ADD told; None if it told nothing.
        default: whether it is the pod's default network.
        device_info: what is known of its device.
    """
    minimal = NetworkStatus(
        name=attachment.network,
        interface=attachment.ifname,
        default=default,
        device_info=device_info,
    )
    if result is None:
        return (minimal,)
    minimal = evolve(minimal, dns=result.dns, gateway=_gateways(result))
    shown = [index for index, each in enumerate(result.interfaces) if each.sandbox]
    if not shown and len(result.interfaces) == 1:
        shown = [0]
    if not shown:
        return (evolve(minimal, ips=tuple(_bare(ip.address) for ip in result.ips)),)
    main = _main_interface(result, shown) if default else None
    return tuple(
        evolve(
            minimal,
            interface=result.interfaces[index].name,
            ips=_ips_of(result, index, shown),
            mac=result.interfaces[index].mac,
            mtu=result.interfaces[index].mtu,
            default=index == main,
        )
        for index in shown
    )


def _main_interface(result: Result, shown: list[int]) -> int:
    """Return the interface of the first address with a gateway, else the first in the sandbox."""
    return next((i for ip in result.ips if ip.gateway and (i := ip.interface) in shown), shown[0])


def _ips_of(result: Result, index: int, shown: list[int]) -> tuple[str, ...]:
    if len(result.interfaces) == 1:
        return tuple(_bare(ip.address) for ip in result.ips)
    return tuple(
        _bare(ip.address)
        for ip in result.ips
        if ip.interface == index or (ip.interface is None and index == shown[-1])
    )


def _gateways(result: Result) -> tuple[str, ...]:
    """Return the gateways of all default routes: those of prefix length 0, and no others."""
    found = []
    for route in result.routes:
        if route.dst.endswith("/0"):
            by_address = (ip.gateway for ip in result.ips if ip.version == route.version)
            gateway = route.gw or next((each for each in by_address if each), "")
            if gateway:  # Multus prints "<nil>" here
                found.append(gateway)
    return tuple(found)


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _document(entry: NetworkStatus) -> dict[str, object]:
    dns = entry.dns
    pairs: dict[str, object] = {
        "name": entry.name,
        "interface": entry.interface,
        "ips": list(entry.ips),
        "mac": entry.mac,
        "mtu": entry.mtu,
        "default": entry.default,
        "dns": _given(
            nameservers=list(dns.nameservers),
            domain=dns.domain,
            search=list(dns.search),
            options=list(dns.options),
        ),
        "device-info": _device(entry.device_info or {}),
        "gateway": list(entry.gateway),
    }
    return {key: value for key, value in pairs.items() if value or key in ("name", "dns")}


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value}


def _device(info: Mapping[str, object]) -> dict[str, object]:
    document = _ordered(info, _DEVICE_KEYS)
    for kind, keys in _DEVICE_KINDS.items():
        if isinstance(device := document.get(kind), dict):
            document[kind] = _ordered(device, keys)
    return document


def _ordered(document: Mapping[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    """Return it with these keys first, in this order."""
    known = {key: document[key] for key in keys if key in document}
    return {**known, **document}
