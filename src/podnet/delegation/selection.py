"""A pod's annotations → the networks it selects, in order.

The grammar is that of the Kubernetes Network Custom Resource Definition De-facto Standard 1.3
(below: NPWG), section 4.1, read the way Multus reads it (``k8sclient.parsePodNetworkAnnotation``),
with the validation the standard demands and Multus skips. Namespaces, names and interface names
become parts of file paths and API paths further down, so nothing passes here that could leave
its place: one label, one object name, one kernel interface name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.delegation import elements as read
from podnet.errors import DecodingError, InvalidConfigError
from podnet.model.reader import Reader
from podnet.model.wire import kind, load_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Mistakes = list[tuple[str, str]]

NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK_ANNOTATION = "v1.multus-cni.io/default-network"


@frozen(kw_only=True)
class NetworkSelection:
    """One element of the networks annotation: one attachment the pod asks for.

    Attributes:
        name: name of the network definition, a DNS-1123 subdomain.
        namespace: namespace of the network definition, a DNS-1123 label.
        interface: name for the interface in the sandbox; empty to have one assigned.
        ips: addresses asked for, canonical text, with or without prefix length.
        mac: hardware address asked for, ``02:00:00:00:00:01``; empty for any.
        infiniband_guid: 8-byte GUID asked for, same spelling; empty for any.
        port_mappings: ports of the node that lead here.
        bandwidth: limits; None without any.
        device_id: device to use, Multus' own key ``deviceID``; empty for the one allocated.
        cni_args: what goes into ``args.cni`` of every plugin of the network.
        default_route: gateways of the pod's default route if this attachment carries it, maybe
            none of its own (keep what the network gives); None if it does not carry it.
        ipam_claim_reference: name of the IPAMClaim that holds its addresses; empty without.
    """

    name: str
    namespace: str = "default"
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    infiniband_guid: str = ""
    port_mappings: tuple[read.PortMapping, ...] = ()
    bandwidth: read.Bandwidth | None = None
    device_id: str = ""
    cni_args: Mapping[str, object] = field(factory=dict)
    default_route: tuple[str, ...] | None = None
    ipam_claim_reference: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" + (f"@{self.interface}" if self.interface else "")


def parse_networks(text: str | None, namespace: str = "default") -> tuple[NetworkSelection, ...]:
    """Return what a ``k8s.v1.cni.cncf.io/networks`` annotation selects, in its order.

    Args:
        text: the annotation's value: ``[<namespace>/]<name>[@<interface>]`` separated by commas,
            or a JSON list of objects. Which of the two is told as Multus tells it: JSON has one
            of ``[``, ``{`` and ``"``. An empty value selects nothing, nor does a missing one, None.
        namespace: the pod's namespace, where networks without one of their own are looked up.

    Raises:
        InvalidConfigError: the annotation is invalid; ``mistakes`` holds all of them, with paths
            such as ``[1].mac`` (NPWG 4.1.2).
    """
    mistakes: Mistakes = []
    text = text or ""
    if fault := read.namespace_fault(namespace):
        mistakes.append(("namespace", fault))
    if any(mark in text for mark in '[{"'):
        selections = _parse_json(text, namespace, mistakes)
    else:
        selections = _parse_short(text, namespace, mistakes)
    _check_together(selections, mistakes)
    if mistakes:
        raise InvalidConfigError(f"invalid annotation {NETWORKS_ANNOTATION}", tuple(mistakes))
    return tuple(selections)


def assign_names(
    selections: Sequence[NetworkSelection], default_count: int = 1, ifname: str = "eth0"
) -> tuple[str, ...]:
    """Return the interface name of each selection.

    A selection without a name of its own gets ``net<position>``, its position in the whole list
    of the pod's networks: the default network is 0, further default networks count from 1, the
    annotation's follow. Names given do not shift the numbers (Multus ``getIfname``).

    Args:
        selections: the pod's networks, in the annotation's order.
        default_count: networks every pod gets, before the annotation's. Without any, the
            annotation's still count from 1 and ``ifname`` is free.
        ifname: interface name of the first of them, which the runtime chooses.

    Raises:
        InvalidConfigError: two attachments would have the same name (NPWG 4.1.2.1.5).
    """
    taken = {f"net{index}": "an earlier default network" for index in range(1, default_count)}
    if default_count:
        taken[ifname] = "the default network"
    mistakes: Mistakes = []
    names = []
    for index, selection in enumerate(selections):
        name = selection.interface or f"net{max(default_count, 1) + index}"
        if name in taken:
            whose = "asked for" if selection.interface else "by position"
            mistakes.append((f"[{index}].interface", f"{name} ({whose}) belongs to {taken[name]}"))
        taken.setdefault(name, f"{selection} [{index}]")
        names.append(name)
    if mistakes:
        raise InvalidConfigError("two attachments of one name", tuple(mistakes))
    return tuple(names)


def _parse_short(text: str, namespace: str, mistakes: Mistakes) -> list[NetworkSelection]:
    selections = []
    for index, item in enumerate(text.split(",") if text.strip() else ()):
        reference, at, interface = item.strip().partition("@")
        head, slash, tail = reference.partition("/")
        name, own = (tail, head) if slash else (head, namespace)
        for key, fault in (
            ("name", read.object_name_fault(name)),
            ("namespace", read.namespace_fault(own) if slash else ""),
            ("interface", _short_interface_fault(interface) if at else ""),
        ):
            if fault:
                mistakes.append((f"[{index}].{key}", fault))
        selections.append(NetworkSelection(name=name, namespace=own, interface=interface))
    return selections


def _short_interface_fault(interface: str) -> str:
    # The kernel would take it; Multus counts the marks, and nobody means such a name.
    return "has a second '@'" if "@" in interface else read.interface_fault(interface)


def _parse_json(text: str, namespace: str, mistakes: Mistakes) -> list[NetworkSelection]:
    try:
        if not isinstance(json.loads(text), list):
            mistakes.append(("networks", "must be a JSON list"))
            return []
        # Again inside an object, for load_json's stricter rules; it is one value, so it stays one.
        document = load_json(b'{"networks":%s}' % text.encode(), "annotation")
    except (ValueError, RecursionError, DecodingError) as error:
        mistakes.append(("networks", f"neither a list separated by commas nor JSON: {error}"))
        return []
    selections = []
    for index, element in enumerate(Reader(document).values("networks")):
        if isinstance(element, dict):
            selections.append(_read_element(Reader(element, f"[{index}]", mistakes), namespace))
        else:
            mistakes.append((f"[{index}]", f"must be an object, not {kind(element)}"))
            selections.append(NetworkSelection(name=""))
    return selections


def _read_element(reader: Reader, namespace: str) -> NetworkSelection:
    return NetworkSelection(
        name=read.read_name(reader),
        namespace=read.read_namespace(reader) or namespace,
        interface=read.read_interface(reader),
        ips=read.read_ips(reader),
        mac=read.read_mac(reader),
        infiniband_guid=read.read_guid(reader),
        port_mappings=read.read_port_mappings(reader),
        bandwidth=read.read_bandwidth(reader),
        device_id=read.read_device(reader),
        cni_args=read.read_cni_args(reader),
        default_route=read.read_default_route(reader),
        ipam_claim_reference=read.read_claim(reader),
    )


def _check_together(selections: Sequence[NetworkSelection], mistakes: Mistakes) -> None:
    """Note what only several elements together get wrong (NPWG 4.1.2.1.5 and 4.1.2.1.9)."""
    first: dict[str, int] = {}
    carrier = None
    for index, selection in enumerate(selections):
        if selection.interface:
            if selection.interface in first:
                what = f"{selection.interface} is asked for by [{first[selection.interface]}]"
                mistakes.append((f"[{index}].interface", what))
            first.setdefault(selection.interface, index)
        if selection.default_route is not None:
            if carrier is not None:
                what = f"only one attachment can carry the default route, and [{carrier}] does"
                mistakes.append((f"[{index}].default-route", what))
            carrier = index if carrier is None else carrier
