"""Ops to netlink messages and netlink messages to facts. pyroute2 is the codec, nothing more."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from podnet.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message
from podnet.model.facts import AddressFact, LinkFact, RouteFact
from podnet.model.ops import AddAddress, LinkName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from podnet.model.ops import (
        AddRoute,
        CreateLink,
        DeleteAddress,
        DeleteRoute,
        SetLink,
    )

# include/uapi/linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
_RTPROT_BOOT, _RTN_UNICAST, _RT_SCOPE_NOWHERE = 3, 1, 255
_RT_TABLE_COMPAT = 252
_RTNH_F_ONLINK = 4
# include/uapi/linux/if_link.h; statistics are two thirds of a link's message.
_RTEXT_FILTER_SKIP_STATS = 8
# include/uapi/linux/if.h
_IFF_UP = 1
# include/uapi/linux/if_addr.h
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x02, 0x08, 0x40

_HEADER = 16
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_FAMILIES = {socket.AF_INET: 32, socket.AF_INET6: 128}


class _LinkMessage(ifinfmsg):  # type: ignore[misc]  # pyroute2 is untyped
    """A link message that knows macvlan's newer attributes (if_link.h, since 5.11)."""

    class ifinfo(ifinfmsg.ifinfo):  # type: ignore[misc]  # noqa: N801  # found by this name
        class macvlan_data(ifinfmsg.ifinfo.macvlan_data):  # type: ignore[misc]  # noqa: N801
            nla_map = (
                *ifinfmsg.ifinfo.macvlan_data.nla_map,
                ("IFLA_MACVLAN_BC_QUEUE_LEN", "uint32"),
                ("IFLA_MACVLAN_BC_QUEUE_LEN_USED", "uint32"),
            )

        data_map = {**ifinfmsg.ifinfo.data_map, "macvlan": macvlan_data}  # noqa: RUF012


_OPTIONS = {
    ("macvlan", "mode"): "IFLA_MACVLAN_MODE",
    ("macvlan", "bcqueuelen"): "IFLA_MACVLAN_BC_QUEUE_LEN",
}
"""Names of the kinds' own attributes in ops and facts, and the kernel's."""


def create_link(
    op: CreateLink, *, parent: int, target_fd: int | None, peer_fd: int | None, index: int = 0
) -> Message:
    """Return RTM_NEWLINK.

    Args:
        op: what to create.
        parent: index of the parent in the namespace that the message is sent in; 0 for none.
        target_fd: namespace to create it in, if not the one the message is sent in.
        peer_fd: namespace of the other end, if not the one the message is sent in.
        index: index that it shall have; 0 lets the kernel choose.
    """
    data: list[list[object]] = [[_OPTIONS[op.kind, name], value] for name, value in op.options]
    if op.peer:
        peer: list[list[object]] = [["IFLA_IFNAME", op.peer.link.name]]
        peer += [["IFLA_ADDRESS", op.peer.mac]] if op.peer.mac else []
        peer += [["IFLA_MTU", op.mtu]] if op.mtu else []
        peer += [["IFLA_NET_NS_FD", peer_fd]] if peer_fd is not None else []
        data.append(["VETH_INFO_PEER", {**_link_header(), "attrs": peer}])
    attrs: list[list[object]] = [["IFLA_IFNAME", op.link.name]]
    attrs += [["IFLA_LINK", parent]] if parent else []
    attrs += [["IFLA_ADDRESS", op.mac]] if op.mac else []
    attrs += [["IFLA_MTU", op.mtu]] if op.mtu else []
    attrs += [["IFLA_NET_NS_FD", target_fd]] if target_fd is not None else []
    attrs.append(_link_info(op.kind, data))
    header = _link_header(
        index=index, flags=_IFF_UP if op.up else 0, change=_IFF_UP if op.up else 0
    )
    body = _encode(_LinkMessage, {**header, "attrs": attrs})
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def set_link(op: SetLink, index: int) -> Message:
    """Return RTM_NEWLINK for an existing link: unlike RTM_SETLINK it changes a kind's options."""
    flags = change = 0
    if op.up is not None:
        change, flags = _IFF_UP, _IFF_UP if op.up else 0
    attrs: list[list[object]] = []
    attrs += [["IFLA_ADDRESS", op.mac]] if op.mac else []
    attrs += [["IFLA_MTU", op.mtu]] if op.mtu else []
    if op.options:
        data: list[list[object]] = [[_OPTIONS[op.kind, n], v] for n, v in op.options]
        attrs.append(_link_info(op.kind, data))
    header = _link_header(index=index, flags=flags, change=change)
    return Message(RTM_NEWLINK, 0, _encode(_LinkMessage, {**header, "attrs": attrs}))


def delete_link(index: int) -> Message:
    """Return RTM_DELLINK."""
    return Message(
        RTM_DELLINK, 0, _encode(_LinkMessage, {**_link_header(index=index), "attrs": []})
    )


def get_link(name: str) -> Message:
    """Return RTM_GETLINK by name."""
    attrs = [["IFLA_IFNAME", name], ["IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS]]
    return Message(RTM_GETLINK, 0, _encode(_LinkMessage, {**_link_header(), "attrs": attrs}))


def get_link_at(index: int) -> Message:
    """Return RTM_GETLINK by index."""
    body = {**_link_header(index=index), "attrs": [["IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS]]}
    return Message(RTM_GETLINK, 0, _encode(_LinkMessage, body))


def get_links() -> Message:
    """Return RTM_GETLINK for a dump of all links."""
    return get_link_at(0)


def address(op: AddAddress | DeleteAddress, index: int) -> Message:
    """Return RTM_NEWADDR or RTM_DELADDR, with the broadcast address that the peers set."""
    text, family, length = _split(op.address)
    add = isinstance(op, AddAddress)
    attrs: list[list[object]] = [["IFA_LOCAL", text], ["IFA_ADDRESS", text]]
    if add and family == socket.AF_INET and length < 31:  # RFC 3021: /31 has no broadcast
        value = int.from_bytes(socket.inet_aton(text)) | ((1 << (32 - length)) - 1)
        attrs.append(["IFA_BROADCAST", socket.inet_ntoa(value.to_bytes(4))])
    nodad = isinstance(op, AddAddress) and op.nodad and family == socket.AF_INET6
    flags = _IFA_F_NODAD if nodad else 0
    fields = {"family": family, "prefixlen": length, "flags": flags, "scope": 0, "index": index}
    body = _encode(ifaddrmsg, {**fields, "attrs": attrs})
    if add:
        return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)
    return Message(RTM_DELADDR, 0, body)


def get_addresses(index: int) -> Message:
    """Return RTM_GETADDR for a dump of both families on one link."""
    fields = {"family": 0, "prefixlen": 0, "flags": 0, "scope": 0, "index": index, "attrs": []}
    return Message(RTM_GETADDR, 0, _encode(ifaddrmsg, fields))


def add_route(op: AddRoute, index: int) -> Message:
    """Return RTM_NEWROUTE beside existing routes, as the peers' ``RouteAddEcmp`` does."""
    fields, attrs = _route(op.key, index)
    fields |= {"proto": _RTPROT_BOOT, "type": _RTN_UNICAST, "scope": op.scope}
    fields["flags"] = _RTNH_F_ONLINK if op.onlink else 0
    attrs += [["RTA_PREFSRC", op.src]] if op.src else []
    metrics = [[name, value] for name, value in (("RTAX_MTU", op.mtu), ("RTAX_ADVMSS", op.advmss))]
    if metrics := [each for each in metrics if each[1]]:
        attrs.append(["RTA_METRICS", {"attrs": metrics}])
    return Message(RTM_NEWROUTE, NLM_F_CREATE, _encode(rtmsg, {**fields, "attrs": attrs}))


def delete_route(op: DeleteRoute, index: int) -> Message:
    """Return RTM_DELROUTE; scope "nowhere" and type 0 fit any (net/ipv4/fib_trie.c)."""
    fields, attrs = _route(op.key, index)
    fields |= {"proto": 0, "type": 0, "scope": _RT_SCOPE_NOWHERE, "flags": 0}
    return Message(RTM_DELROUTE, 0, _encode(rtmsg, {**fields, "attrs": attrs}))


def get_routes(family: int, *, index: int = 0, table: int = 0) -> Message:
    """Return RTM_GETROUTE for a dump, filtered by output link and table where not 0."""
    fields: dict[str, object] = dict.fromkeys(
        ("dst_len", "src_len", "tos", "table", "proto", "scope", "type", "flags"), 0
    )
    attrs: list[list[object]] = [["RTA_OIF", index]] if index else []
    attrs += [["RTA_TABLE", table]] if table else []
    body = _encode(rtmsg, {"family": family, **fields, "attrs": attrs})
    return Message(RTM_GETROUTE, 0, body)


def link_fact(data: bytes, link: LinkName) -> LinkFact:
    """Return what an RTM_NEWLINK message tells, as the link that was asked for."""
    message = _decode(_LinkMessage, data)
    attrs = _attributes(message)
    info = _attributes(attrs.get("IFLA_LINKINFO"))
    kind = str(info.get("IFLA_INFO_KIND") or "")
    flags = int(message["flags"])
    return LinkFact(
        link=link,
        index=int(message["index"]),
        kind=kind,
        mac=str(attrs.get("IFLA_ADDRESS") or ""),
        mtu=int(attrs.get("IFLA_MTU") or 0),
        up=bool(flags & _IFF_UP),
        parent_index=int(attrs.get("IFLA_LINK") or 0),
        parent_elsewhere="IFLA_LINK_NETNSID" in attrs,
        master_index=int(attrs.get("IFLA_MASTER") or 0),
        options=tuple(_options(kind, _attributes(info.get("IFLA_INFO_DATA")))),
    )


def link_name(data: bytes) -> str:
    """Return the name in an RTM_NEWLINK message."""
    return str(_attributes(_decode(_LinkMessage, data))["IFLA_IFNAME"])


def address_fact(data: bytes, index: int, link: LinkName) -> AddressFact | None:
    """Return what an RTM_NEWADDR message tells; None if it is about another link."""
    message = _decode(ifaddrmsg, data)
    if message["index"] != index:
        return None
    attrs = _attributes(message)
    text = attrs.get("IFA_LOCAL") or attrs.get("IFA_ADDRESS")
    flags = int(attrs.get("IFA_FLAGS", message["flags"]))
    return AddressFact(
        link=link,
        address=f"{text}/{message['prefixlen']}",
        tentative=bool(flags & _IFA_F_TENTATIVE),
        dad_failed=bool(flags & _IFA_F_DADFAILED),
    )


def route_facts(data: bytes, name_of: Callable[[int], LinkName | None]) -> Iterator[RouteFact]:
    """Yield what an RTM_NEWROUTE message tells, a fact for each next hop that ``name_of`` knows."""
    message = _decode(rtmsg, data)
    if message["type"] != _RTN_UNICAST or message["family"] not in _FAMILIES:
        return
    attrs = _attributes(message)
    zero = "0.0.0.0" if message["family"] == socket.AF_INET else "::"  # noqa: S104  # no bind
    metrics = _attributes(attrs.get("RTA_METRICS"))
    hops = [(attrs.get("RTA_OIF"), attrs.get("RTA_GATEWAY"))]
    for hop in attrs.get("RTA_MULTIPATH") or ():
        hops.append((hop["oif"], _attributes(hop).get("RTA_GATEWAY")))
    for oif, gateway in hops:
        if oif is None or (link := name_of(int(oif))) is None:
            continue
        yield RouteFact(
            link=link,
            dst=f"{attrs.get('RTA_DST') or zero}/{message['dst_len']}",
            gateway=str(gateway or ""),
            table=int(attrs.get("RTA_TABLE", message["table"])),
            priority=int(attrs.get("RTA_PRIORITY") or 0),
            scope=int(message["scope"]),
            src=str(attrs.get("RTA_PREFSRC") or ""),
            mtu=int(metrics.get("RTAX_MTU") or 0),
            advmss=int(metrics.get("RTAX_ADVMSS") or 0),
            protocol=int(message["proto"]),
        )


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> dict[str, object]:
    return {"family": 0, "ifi_type": 0, "index": index, "flags": flags, "change": change}


def _link_info(kind: str, data: list[list[object]]) -> list[object]:
    info: list[list[object]] = [["IFLA_INFO_KIND", kind]]
    info += [["IFLA_INFO_DATA", {"attrs": data}]] if data else []
    return ["IFLA_LINKINFO", {"attrs": info}]


def _route(key: Any, index: int) -> tuple[dict[str, object], list[list[object]]]:
    text, family, length = _split(key.dst)
    fields: dict[str, object] = {"family": family, "dst_len": length, "src_len": 0, "tos": 0}
    small = key.table < 256
    fields["table"] = key.table if small else _RT_TABLE_COMPAT
    attrs: list[list[object]] = [["RTA_DST", text]] if length else []
    attrs.append(["RTA_OIF", index])
    attrs += [["RTA_GATEWAY", key.gateway]] if key.gateway else []
    attrs += [["RTA_PRIORITY", key.priority]] if key.priority else []
    attrs += [] if small else [["RTA_TABLE", key.table]]
    return fields, attrs


def _split(prefix: str) -> tuple[str, int, int]:
    text, _, length = prefix.partition("/")
    return text, socket.AF_INET6 if ":" in text else socket.AF_INET, int(length)


def _options(kind: str, data: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for (owner, name), attribute in _OPTIONS.items():
        if owner == kind and (value := data.get(attribute)) is not None:
            yield name, _MACVLAN_MODES[value] if isinstance(value, str) else int(value)


def _attributes(message: Any) -> dict[str, Any]:
    return {} if message is None else dict(tuple(each)[:2] for each in message["attrs"])


def _encode(codec: Any, fields: Mapping[str, object]) -> bytes:
    message = codec()
    message.setvalue(fields)
    message.encode()
    return bytes(message.data[_HEADER:])


def _decode(codec: Any, data: bytes) -> Any:
    message = codec(data)
    message.decode()
    return message
