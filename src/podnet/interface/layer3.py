"""Addresses, routes and sysctls of an interface in a sandbox: what every kind does alike.

What is done and in which order is the reference's ``ipam.ConfigureIface``
(pkg/ipam/ipam_linux.go) and its callers, but:

- sysctls come first, so that none takes effect late (plugins #1075);
- duplicate address detection is off (``accept_dad``) unless ``enabledad`` asks for it, as the
  reference's bridge does: IPAM already guarantees uniqueness, and detection keeps a pod from using
  an address for 1 to 2 seconds (plugins #680, #695). Unlike the address flag ``nodad`` the sysctl
  covers the link-local address too, and lets the kernel announce the address to its neighbours
  (net/ipv6/addrconf.c, addrconf_dad_begin: ``send_na``);
- a route's ``mtu`` and ``advmss`` are installed, where the reference only echoes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import DelegateError, InvalidConfigError
from podnet.model.addresses import parse_address, parse_prefix
from podnet.model.ops import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    LinkName,
    RouteKey,
    Scope,
    SetLink,
    SetSysctl,
    SettleAddresses,
)

if TYPE_CHECKING:
    from podnet.model.facts import Have, RouteFact
    from podnet.model.ops import Op
    from podnet.model.result import Result, Route


def require_addresses(answer: Result) -> None:
    """Let an IPAM plugin's answer with an address pass.

    Raises:
        DelegateError: it has none.
    """
    if not answer.ips:
        what = "IPAM plugin returned missing IP config"
        # It ended well, so most likely nobody told it an address: a mistake to be looked for in
        # the configuration.
        raise DelegateError(what, "its result has no ips", InvalidConfigError.code)


def configure(
    link: LinkName, answer: Result, have: Have, *, enabledad: bool = False, announce: bool = True
) -> tuple[Op, ...]:
    """Return the ops that give a link the addresses and routes of an IPAM plugin's answer.

    Args:
        link: an interface in the sandbox.
        answer: addresses and routes; with none the link is only set up.
        have: what is there of link, addresses and routes.
        enabledad: let the kernel detect duplicates, and wait for it.
        announce: have the kernel tell neighbours of the addresses. Without, and without
            detection, IPv6 addresses are never tentative.
    """
    fact = have.link(link)
    fresh = fact is None or not fact.up
    there = have.addresses_of(link)
    ops: list[Op] = []
    if fresh and answer.ips:
        ops += notify_sysctls(link) if announce else ()
        if any(ip.version == 6 for ip in answer.ips):
            ops += ipv6_sysctls(link, enabledad=enabledad)
    missing = [ip for ip in answer.ips if str(parse_prefix(ip.address)) not in there]
    nodad = not announce and not enabledad
    ops += [AddAddress(link=link, address=ip.address, nodad=nodad) for ip in missing]
    if fresh:
        ops.append(SetLink(link=link, up=True))
    if enabledad and any(ip.version == 6 for ip in missing):
        ops.append(SettleAddresses(link=link))
    ops += missing_routes(planned_routes(link, answer), have)
    return tuple(ops)


def notify_sysctls(link: LinkName) -> tuple[Op, ...]:
    """Return what makes the kernel announce addresses by itself when the link comes up."""
    return (
        _sysctl(link, "ipv4", "arp_notify", "1"),
        _sysctl(link, "ipv6", "ndisc_notify", "1", optional=True),
    )


def ipv6_sysctls(link: LinkName, *, enabledad: bool) -> tuple[Op, ...]:
    """Return what an interface needs to have, use and keep IPv6 addresses."""
    loopback = LinkName(link.place, "lo")
    ops = (
        _sysctl(loopback, "ipv6", "disable_ipv6", "0"),
        _sysctl(link, "ipv6", "disable_ipv6", "0"),
        _sysctl(link, "ipv6", "keep_addr_on_down", "1"),
    )
    return ops if enabledad else (*ops, _sysctl(link, "ipv6", "accept_dad", "0"))


def host_sysctls(link: LinkName) -> tuple[Op, ...]:
    """Return what a link of the host needs before it is up.

    CVE-2020-10749: a router advertisement from a pod redirected the host's IPv6 traffic.
    """
    return (_sysctl(link, "ipv6", "accept_ra", "0", optional=True),)


def _sysctl(
    link: LinkName, family: str, name: str, value: str, *, optional: bool = False
) -> SetSysctl:
    key = f"net/{family}/conf/{link.name}/{name}"
    return SetSysctl(place=link.place, key=key, value=value, optional=optional)


def planned_routes(link: LinkName, answer: Result) -> tuple[AddRoute, ...]:
    """Return the routes of an answer; one without gateway goes to the first of its family."""
    gateways: dict[int, str] = {}
    for ip in answer.ips:
        if ip.gateway:
            gateways.setdefault(parse_address(ip.gateway).version, ip.gateway)
    return tuple(_planned(link, route, gateways) for route in answer.routes)


def _planned(link: LinkName, route: Route, gateways: dict[int, str]) -> AddRoute:
    key = RouteKey(
        link=link,
        dst=str(parse_prefix(route.dst).masked),
        gateway=route.gw or gateways.get(route.version, ""),
        table=MAIN_TABLE if route.table is None else route.table,
        priority=route.priority,
    )
    scope = Scope.UNIVERSE if route.scope is None else route.scope
    return AddRoute(key=key, scope=scope, mtu=route.mtu, advmss=route.advmss)


def missing_routes(routes: tuple[AddRoute, ...], have: Have) -> tuple[AddRoute, ...]:
    """Return those routes that are not there, of the same ones only the first."""
    distinct = dict.fromkeys(routes)
    return tuple(
        route
        for route in distinct
        if not any(_fits(fact, route) for fact in have.routes_of(route.key.link))
    )


def _fits(fact: RouteFact, route: AddRoute) -> bool:
    """Tell whether a fact is the route.

    One that was meant for the main table may be in any: chained sbr and vrf move routes, and CHECK
    must allow that (CNI 1.1.0, section 2, CHECK).
    """
    key = route.key
    return (
        (fact.dst, fact.gateway) == (key.dst, key.gateway)
        and key.table in (fact.table, MAIN_TABLE)
        and key.priority in (fact.priority, 0)
        and (route.mtu, route.advmss) == (fact.mtu, fact.advmss)
    )


def untolerated(ops: tuple[Op, ...], have: Have) -> tuple[Op, ...]:
    """Return those ops whose difference CHECK may report.

    A default route may be another interface's by now (NPWG 1.3 ``default-route``, chained
    plugins): as in the reference, any default route of the family will do.
    """
    defaults = {route.dst for route in have.routes if route.dst in ("0.0.0.0/0", "::/0")}
    return tuple(op for op in ops if not (isinstance(op, AddRoute) and op.key.dst in defaults))


def faults(link: LinkName, have: Have) -> tuple[str, ...]:
    """Return what is wrong with addresses that are there."""
    return tuple(
        f"address {fact.address} of {link} failed duplicate address detection: another host has it"
        for fact in have.addresses
        if fact.link == link and fact.dad_failed
    )
