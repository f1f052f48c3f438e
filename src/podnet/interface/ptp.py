"""The ptp interface: a veth pair, routed through its end on the host (the reference's ``ptp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.errors import InterfaceExistsError, InvalidConfigError, UnsupportedFieldError
from podnet.interface import identity, layer3, settings
from podnet.model.addresses import BITS, parse_address, parse_mac, parse_prefix
from podnet.model.facts import Have, Probe, RouteFact
from podnet.model.ops import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    CreateLink,
    DeleteRoute,
    LinkName,
    Peer,
    Place,
    RouteKey,
    Scope,
    SetLink,
    SetSysctl,
)
from podnet.model.reader import Reader
from podnet.model.result import DNS, IP, Interface, Result, read_dns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.interface.identity import Owned
    from podnet.model.attachment import Call
    from podnet.model.ops import Op

KIND = "veth"
_BACKENDS = ("iptables", "nftables")


@frozen(kw_only=True)
class Want:
    """A ptp interface as asked for.

    Attributes:
        link: the end in the sandbox.
        host: the end on the host.
        sandbox: path of the sandbox, for the result.
        mtu: bytes of both ends; 0 for the kernel's (1500).
        mac: MAC address of the end in the sandbox.
        host_mac: MAC address of the end on the host.
        ipam: IPAM plugin's type.
        dns: resolver settings of the configuration; None if it says nothing about them.
        enabledad: detect duplicate IPv6 addresses and wait for it.
        answer: what IPAM said; None until it did.
        present: whether the interface shall exist.
    """

    link: LinkName
    host: LinkName
    sandbox: str
    mtu: int
    mac: str
    host_mac: str
    ipam: str
    dns: DNS | None = None
    enabledad: bool = False
    answer: Result | None = None
    present: bool = True


def read(call: Call, *, node: str = "") -> Want:
    """Return what a configuration asks for.

    Args:
        call: ADD, CHECK or STATUS of this plugin.
        node: this node's name, part of the MAC addresses that are chosen.

    Raises:
        InvalidConfigError: with every mistake.
        UnsupportedFieldError: ``ipMasq`` is asked for.
    """
    reader = Reader(call.config)
    masquerade = reader.boolean("ipMasq")
    reader.choice("ipMasqBackend", _BACKENDS)
    key = (node, call.container_id, reader.string("name"), call.ifname)
    want = Want(
        link=LinkName(Place.SANDBOX, call.ifname),
        host=LinkName(Place.HOST, identity.host_name(*key)),
        sandbox=call.netns,
        mtu=reader.integer("mtu", minimum=0, maximum=settings.MAX_MTU),
        mac=identity.chosen_mac(*key),
        host_mac=identity.chosen_mac(*key, "host"),
        ipam=settings.read_ipam(reader, required=True),
        dns=_read_dns(reader),
        enabledad=reader.boolean("enabledad"),
    )
    reader.finish()
    if masquerade:
        raise UnsupportedFieldError(
            "ipMasq: true is not supported", "ptp of podnet does not translate addresses"
        )
    return want


def _read_dns(reader: Reader) -> DNS | None:
    """Return the settings if there are any, an empty list included (ptp.go, dnsConfSet)."""
    dns = reader.section("dns")
    given = any(key in dns for key in ("nameservers", "search", "options")) or dns.string("domain")
    return read_dns(reader) if given else None


def configured(want: Want, answer: Result) -> Want:
    """Return the want with the IPAM plugin's answer.

    Raises:
        DelegateError: the answer has no address.
        InvalidConfigError: an address has no gateway of its family, which the pair is routed by.
    """
    layer3.require_addresses(answer)
    wrong = tuple(
        ("ipam", f"gives {ip.address} without a gateway of its family")
        for ip in answer.ips
        if not ip.gateway or parse_address(ip.gateway).version != ip.version
    )
    if wrong:
        raise InvalidConfigError("ptp needs a gateway for every address", wrong)
    return evolve(want, answer=answer)


def parents(want: Want) -> Probe:  # noqa: ARG001  # the seam's signature
    """Name the facts that creating it needs: none."""
    return Probe()


def ask(want: Want) -> Probe:
    """Name all facts that ``plan`` compares with."""
    ends = frozenset({want.link, want.host})
    return Probe(links=ends, addresses=ends, routes=ends)


def owned(want: Want, have: Have) -> tuple[Owned, ...]:  # noqa: ARG001  # the seam's signature
    """Return the links it makes."""
    return (
        identity.Owned(want.link, KIND, want.mac, chosen=True),
        identity.Owned(want.host, KIND, want.host_mac, chosen=True),
    )


def expected(want: Want) -> tuple[Owned, ...]:
    """Return what ``owned`` does; no fact is needed for it."""
    return owned(want, Have())


def memory(want: Want, have: Have) -> dict[str, str]:  # noqa: ARG001  # the seam's signature
    """Return what ``recalled`` needs later: nothing that the result does not tell."""
    return {}


def recalled(
    want: Want,
    previous: Result,
    at: int,
    answer: Result,
    memory: Mapping[str, str],  # noqa: ARG001  # the seam's signature
) -> Want:
    """Return what CHECK compares with; see ``macvlan.recalled``.

    Raises:
        InvalidConfigError: an address has no gateway.
    """
    mac = previous.interfaces[at].mac
    # Another program's pair is named otherwise; its end on the host is told first.
    outer = next((each.name for each in previous.interfaces if not each.sandbox), want.host.name)
    want = evolve(want, host=LinkName(Place.HOST, outer), mac=parse_mac(mac) if mac else want.mac)
    return configured(want, answer)


def plan(want: Want, have: Have) -> tuple[Op, ...]:
    """Return the ops from ``have`` to ``want``; empty means that nothing differs.

    Before IPAM has answered, the pair is created and left down.

    Raises:
        InterfaceExistsError: an interface of either name is something else.
    """
    if not want.present:
        return identity.plan_absent(owned(want, have), have, certain=True)
    ops: list[Op] = []
    if have.link(want.link) is None:
        create = CreateLink(
            link=want.link,
            kind=KIND,
            peer=Peer(link=want.host, mac=want.host_mac),
            mac=want.mac,
            mtu=want.mtu,
        )
        ops.append(create)
        have = evolve(have, addresses=(), routes=()).created(create)
    else:
        ops += _change(want, have)
    if want.answer is None:
        return tuple(ops)
    return (*ops, *_host_ops(want, want.answer, have), *_sandbox_ops(want, want.answer, have))


def _change(want: Want, have: Have) -> tuple[Op, ...]:
    ends = [have.link(name) for name in (want.link, want.host)]
    for name, fact in zip((want.link, want.host), ends, strict=True):
        if fact is None or fact.kind != KIND:
            kind = "missing" if fact is None else f"of kind {fact.kind!r}"
            raise InterfaceExistsError(
                f"{want.link} is no pair with {want.host}", f"{name} is {kind}"
            )
    inner, outer = ends
    assert inner
    assert outer
    # Indexes are 0 right after creation, when nothing was read back.
    if inner.index and (inner.parent_index, outer.parent_index) != (outer.index, inner.index):
        raise InterfaceExistsError(
            f"{want.link} is no pair with {want.host}", "their peers are others"
        )
    if inner.mac != want.mac:
        return (SetLink(link=want.link, mac=want.mac),)
    return ()


def _host_ops(want: Want, answer: Result, have: Have) -> tuple[Op, ...]:
    """Return the host's side: forwarding, the gateways' addresses, a route to each address."""
    fact = have.link(want.host)
    fresh = fact is None or not fact.up
    there = have.addresses_of(want.host)
    versions = {ip.version for ip in answer.ips}
    ops: list[Op] = []
    if fresh:
        ops += _forwarding(versions)
        ops += layer3.host_sysctls(want.host)
        if 6 in versions and not want.enabledad:
            key = f"net/ipv6/conf/{want.host.name}/accept_dad"
            ops.append(SetSysctl(place=Place.HOST, key=key, value="0"))
    gateways = dict.fromkeys(_single(ip.gateway) for ip in answer.ips)
    nodad = not want.enabledad
    missing = [each for each in gateways if each not in there]
    ops += [AddAddress(link=want.host, address=each, nodad=nodad) for each in missing]
    if fresh:
        ops.append(SetLink(link=want.host, up=True))
    routes = tuple(
        AddRoute(key=RouteKey(link=want.host, dst=_single(ip.address)), scope=Scope.HOST)
        for ip in answer.ips
    )
    return (*ops, *layer3.missing_routes(routes, have))


def _forwarding(versions: set[int]) -> tuple[Op, ...]:
    keys = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
    return tuple(
        SetSysctl(place=Place.HOST, key=keys[version], value="1") for version in sorted(versions)
    )


def _sandbox_ops(want: Want, answer: Result, have: Have) -> tuple[Op, ...]:
    """Return the sandbox's side: every packet goes through the gateway.

    The kernel's own route to the subnet goes; a route to the gateway alone and one to the subnet
    by way of it take its place (ptp.go, setupContainerVeth). These name the address as their
    source, which IPv6 refuses while it is tentative (net/ipv6/route.c, "Invalid source address").
    Even without detection it stays so until a kernel worker has run, hence ``nodad``; no neighbour
    on a new pair needs an announcement.
    """
    fact = have.link(want.link)
    fresh = fact is None or not fact.up
    bare = evolve(answer, routes=())
    ops = list(layer3.configure(want.link, bare, have, enabledad=want.enabledad, announce=False))
    # Before the peer's order, so that single addresses (/32, /128) reach their gateway too.
    near = tuple(_by_gateway(want.link, ip) for ip in answer.ips)
    ops += layer3.missing_routes((*near, *layer3.planned_routes(want.link, answer)), have)
    connected = {route.dst for route in have.routes_of(want.link) if _is_connected(route)}
    far: list[AddRoute] = []
    for ip in answer.ips:
        subnet = parse_prefix(ip.address).masked
        if subnet.length == BITS[subnet.version]:
            continue
        key = RouteKey(link=want.link, dst=str(subnet))
        ops += [DeleteRoute(key=key)] if fresh or key.dst in connected else []
        far.append(AddRoute(key=evolve(key, gateway=ip.gateway), src=_bare(ip.address)))
    return (*ops, *layer3.missing_routes(tuple(far), have))


def _by_gateway(link: LinkName, ip: IP) -> AddRoute:
    key = RouteKey(link=link, dst=_single(ip.gateway))
    return AddRoute(key=key, src=_bare(ip.address), scope=Scope.LINK)


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _is_connected(route: RouteFact) -> bool:
    # RTPROT_KERNEL: made by the kernel for an address, not by us.
    return route.protocol == 2 and not route.gateway and route.table == MAIN_TABLE


def _single(address: str) -> str:
    """Return the prefix of one address alone."""
    parsed = parse_address(_bare(address))
    return f"{parsed}/{BITS[parsed.version]}"


def result(want: Want, have: Have) -> Result:  # noqa: ARG001  # the seam's signature
    """Return the result of ADD; the configuration's resolver settings go before IPAM's."""
    answer = want.answer or Result()
    return Result(
        interfaces=(
            Interface(want.host.name, want.host_mac),
            Interface(want.link.name, want.mac, want.sandbox),
        ),
        ips=tuple(evolve(ip, interface=1) for ip in answer.ips),
        routes=answer.routes,
        dns=answer.dns if want.dns is None else want.dns,
    )
