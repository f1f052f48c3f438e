"""The keys of one element of the networks annotation, each read by its own rule.

A reader takes the element's ``Reader``, notes mistakes there and returns what the selection holds;
a key with a mistake counts as absent, so that one pass finds every mistake of an annotation.
Sections are those of NPWG 1.3, see ``selection``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.model.addresses import parse_address, parse_mac, parse_prefix
from podnet.model.names import ifname_fault
from podnet.model.wire import short

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podnet.model.reader import Reader

PROTOCOLS = ("TCP", "UDP", "SCTP")

# RFC 1123 label: a namespace (Kubernetes ``IsDNS1123Label``).
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
# Labels joined by dots: the name of an object (Kubernetes ``IsDNS1123Subdomain``, which bounds the
# whole by 253 and not the label). NPWG 3.3 asks for label units and Multus' short form for a single
# label, but API servers hold dotted names and Multus' JSON form takes them: such manifests exist.
# No dot can stand at an end or beside another, so neither "." nor ".." can be spelled.
_OBJECT = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
# PCI ("0000:03:02.1"), auxiliary ("mlx5_core.sf.4") and mediated (a UUID) device ids. One segment
# of a path: it names files in sysfs and among the device-info files.
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
# "lo" is in every namespace already; the kernel refuses the other two, which name directories of
# net.ipv4.conf (include/net/ip.h, sysctl_dev_name_is_allowed).
_TAKEN_IFNAMES = ("lo", "all", "default")
# Multus' fields of bandwidth are Go's int.
_INT64_MAX = (1 << 63) - 1

_RATES = {
    "ingressRate": "ingress_rate",
    "ingressBurst": "ingress_burst",
    "egressRate": "egress_rate",
    "egressBurst": "egress_burst",
}


@frozen(kw_only=True)
class PortMapping:
    """One port of the node that leads to one of the pod (NPWG 4.1.2.1.7).

    Attributes:
        host_port: 1 to 65535.
        container_port: 1 to 65535.
        protocol: one of ``PROTOCOLS``.
        host_ip: address of the node, canonical text; empty for all.
    """

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""

    def document(self) -> dict[str, object]:
        """Return it as the ``portMappings`` capability wants it (CNI CONVENTIONS.md)."""
        return {
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol.lower(),
            **({"hostIP": self.host_ip} if self.host_ip else {}),
        }


@frozen(kw_only=True)
class Bandwidth:
    """Limits of an interface (NPWG 4.1.2.1.8). 0 means none.

    Attributes:
        ingress_rate: bits per second into the pod.
        ingress_burst: bits.
        egress_rate: bits per second out of the pod.
        egress_burst: bits.
    """

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0

    def document(self) -> dict[str, object]:
        """Return it as the ``bandwidth`` capability wants it (CNI CONVENTIONS.md)."""
        values = {key: getattr(self, name) for key, name in _RATES.items()}
        return {key: value for key, value in values.items() if value}


def namespace_fault(text: str) -> str:
    """Return why it cannot be the name of a Kubernetes namespace; empty if it can."""
    if len(text) <= 63 and _LABEL.fullmatch(text):
        return ""
    return f"{short(text)} is not a namespace (a DNS-1123 label)" if text else "is missing"


def object_name_fault(text: str) -> str:
    """Return why it cannot be the name of a Kubernetes object; empty if it can."""
    if len(text) <= 253 and _OBJECT.fullmatch(text):
        return ""
    return f"{short(text)} is not a name (a DNS-1123 subdomain)" if text else "is missing"


def interface_fault(text: str) -> str:
    """Return why it cannot be the name of an attachment's interface; empty if it can."""
    if text in _TAKEN_IFNAMES:
        return f"{text} is reserved"
    # The kernel takes control characters too, and bytes that are no text.
    return ifname_fault(text) or ("" if text.isprintable() else "interface name is unprintable")


def read_name(reader: Reader) -> str:
    """Return the name of the network definition."""
    return _checked(reader, "name", object_name_fault, required=True)


def read_namespace(reader: Reader) -> str:
    """Return the namespace of the network definition; empty for the pod's."""
    return _checked(reader, "namespace", namespace_fault)


def read_interface(reader: Reader) -> str:
    """Return the name asked for; empty for any (4.1.2.1.5).

    ``interfaceRequest`` is the key of NPWG drafts, which Multus takes where the other is empty.
    """
    name = _checked(reader, "interface", interface_fault)
    return name or _checked(reader, "interfaceRequest", interface_fault)


def _checked(
    reader: Reader, key: str, fault: Callable[[str], str], *, required: bool = False
) -> str:
    text = reader.string(key, required=required)
    if text and (what := fault(text)):
        reader.mistake(key, what)
    return text


def read_ips(reader: Reader) -> tuple[str, ...]:
    """Return the addresses asked for, at least one (4.1.2.1.3)."""
    if reader.value("ips") == []:
        reader.mistake("ips", "must hold at least one address")
    return _texts(reader, "ips", prefixes=True)


def read_mac(reader: Reader) -> str:
    """Return the hardware address asked for (4.1.2.1.4)."""
    return _read_hardware(reader, "mac", 6)


def read_guid(reader: Reader) -> str:
    """Return the InfiniBand GUID asked for (4.1.2.1.10)."""
    return _read_hardware(reader, "infiniband-guid", 8)


def read_port_mappings(reader: Reader) -> tuple[PortMapping, ...]:
    """Return the mappings, at least one (4.1.2.1.7)."""
    if reader.value("portMappings") == []:
        reader.mistake("portMappings", "must hold at least one mapping")
    return tuple(
        PortMapping(
            host_port=_read_port(each, "hostPort"),
            container_port=_read_port(each, "containerPort"),
            protocol=_read_protocol(each),
            host_ip=str(each.address("hostIP") or ""),
        )
        for each in reader.sections("portMappings")
    )


def read_bandwidth(reader: Reader) -> Bandwidth | None:
    """Return the limits: whole numbers above 0, a burst only with its rate (4.1.2.1.8)."""
    if "bandwidth" not in reader:
        return None
    limits = reader.section("bandwidth")
    read = {
        name: limits.integer(key, minimum=1, maximum=_INT64_MAX) for key, name in _RATES.items()
    }
    for way in ("ingress", "egress"):
        if f"{way}Burst" in limits and f"{way}Rate" not in limits:
            limits.mistake(f"{way}Burst", f"needs {way}Rate")
    return Bandwidth(**read)


def read_device(reader: Reader) -> str:
    """Return the device asked for; ``deviceID`` is a key of Multus, not of NPWG."""
    device = reader.string("deviceID")
    if device and not _DEVICE.fullmatch(device):
        reader.mistake("deviceID", f"{short(device)} is not a device id")
    return device


def read_cni_args(reader: Reader) -> Mapping[str, object]:
    """Return what goes into the plugins' ``args`` (4.1.2.1.6)."""
    return reader.section("cni-args").document


def read_default_route(reader: Reader) -> tuple[str, ...] | None:
    """Return the gateways, maybe none; None without the key (4.1.2.1.9)."""
    return _texts(reader, "default-route", prefixes=False) if "default-route" in reader else None


def read_claim(reader: Reader) -> str:
    """Return the name of the IPAMClaim; a mistake beside ``ips`` (4.1.2.1.11)."""
    claim = _checked(reader, "ipam-claim-reference", object_name_fault)
    if claim and "ips" in reader:
        what = "cannot be given beside ips: the claim holds the addresses"
        reader.mistake("ipam-claim-reference", what)
    return claim


def _read_hardware(reader: Reader, key: str, octets: int) -> str:
    text = reader.parsed(key, parse_mac, "")
    if text and len(text) != octets * 3 - 1:
        reader.mistake(key, f"{text} has {(len(text) + 1) // 3} bytes, not {octets}")
    return text


def _read_port(reader: Reader, key: str) -> int:
    if key not in reader:
        reader.mistake(key, "is required")
    return reader.integer(key, 1, minimum=1, maximum=65535)


def _read_protocol(reader: Reader) -> str:
    protocol = reader.string("protocol").upper() or PROTOCOLS[0]
    if protocol not in PROTOCOLS:
        reader.mistake("protocol", f"must be one of {', '.join(PROTOCOLS)}")
    return protocol


def _texts(reader: Reader, key: str, *, prefixes: bool) -> tuple[str, ...]:
    """Return canonical texts of a list of addresses, with a prefix length where one may be."""
    texts = []
    for index, text in enumerate(reader.strings(key)):
        try:
            parse = parse_prefix if prefixes and "/" in text else parse_address
            texts.append(str(parse(text)))
        except ValueError as error:
            reader.mistake(f"{key}[{index}]", str(error))
    return tuple(texts)
