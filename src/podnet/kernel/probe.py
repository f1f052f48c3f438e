"""Reading what a ``Probe`` asks for, in as few messages as the kernel allows."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from podnet.errors import KernelError
from podnet.kernel import messages, sysctl
from podnet.model.facts import AddressFact, Have, LinkFact, Probe, RouteFact
from podnet.model.ops import MAIN_TABLE, LinkName, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.kernel.netlink import NetlinkSocket
    from podnet.kernel.sandbox import Sandbox

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def read(sandbox: Sandbox, probe: Probe) -> Have:
    """Return what the probe asks for.

    Raises:
        KernelError, DeadlineError: the kernel refused to tell, or was too slow.
        NetnsMissingError: the sandbox's facts are asked for and there is none.
    """
    have = Have()
    for place in Place:
        part = probe.only(place)
        if part != Probe():
            have |= _read_place(sandbox, place, part)
    return have


def _read_place(sandbox: Sandbox, place: Place, probe: Probe) -> Have:
    sysctls = {}
    if probe.sysctls:
        with sandbox.entered(place):
            found = {(place, key): sysctl.read(key) for _, key in sorted(probe.sysctls, key=str)}
        sysctls = {key: value for key, value in found.items() if value is not None}
    if probe == Probe(sysctls=probe.sysctls):
        return Have(sysctls=sysctls)
    netlink = sandbox.netlink(place)
    links = read_links(netlink, probe.links)
    if probe.all_links:
        links = {**_all_links(netlink, place), **links}
    indexes = {
        link: links[link].index if link in links else netlink.index(link.name)
        for link in probe.addresses | probe.routes
    }
    addresses: list[AddressFact] = []
    routes: list[RouteFact] = []
    for link in sorted(probe.addresses, key=str):
        if indexes[link]:
            addresses += _addresses(netlink, link, indexes[link])
    for link in sorted(probe.routes, key=str):
        if indexes[link]:
            routes += _routes(netlink, link, indexes[link])
    if probe.default_routes:
        defaults, their_links = _default_routes(netlink, place)
        routes += [route for route in defaults if route not in routes]
        links |= their_links
    return Have(links=links, addresses=tuple(addresses), routes=tuple(routes), sysctls=sysctls)


def read_links(netlink: NetlinkSocket, names: Iterable[LinkName]) -> dict[LinkName, LinkFact]:
    """Return the links of these names that exist, asked for in one send."""
    ordered = sorted(names, key=str)
    if not ordered:
        return {}
    answers = netlink.request([messages.get_link(link.name) for link in ordered])
    found = {}
    for link, answer in zip(ordered, answers, strict=True):
        if answer.errno == errno.ENODEV:
            continue
        if answer.errno:
            raise KernelError(f"cannot look up link {link}", answer.text or str(answer.errno))
        found[link] = messages.link_fact(answer.replies[0][1], link)
    return found


def _all_links(netlink: NetlinkSocket, place: Place) -> dict[LinkName, LinkFact]:
    found = {}
    for _, data in netlink.dump(messages.get_links()):
        link = LinkName(place, messages.link_name(data))
        found[link] = messages.link_fact(data, link)
    return found


def _addresses(netlink: NetlinkSocket, link: LinkName, index: int) -> list[AddressFact]:
    found = netlink.dump(messages.get_addresses(index))
    facts = (messages.address_fact(data, index, link) for _, data in found)
    return [fact for fact in facts if fact]


def _routes(netlink: NetlinkSocket, link: LinkName, index: int) -> list[RouteFact]:
    facts: list[RouteFact] = []
    for family in _FAMILIES:
        for _, data in netlink.dump(messages.get_routes(family, index=index)):
            facts += messages.route_facts(data, {index: link}.get)
    return facts


def _default_routes(
    netlink: NetlinkSocket, place: Place
) -> tuple[list[RouteFact], dict[LinkName, LinkFact]]:
    """Return the default routes of the main table in the kernel's order, IPv4 first."""
    facts: list[RouteFact] = []
    seen: dict[int, LinkName] = {}

    def numbered(index: int) -> LinkName:
        return seen.setdefault(index, LinkName(place, f"#{index}"))

    for family in _FAMILIES:
        for _, data in netlink.dump(messages.get_routes(family, table=MAIN_TABLE)):
            facts += (
                fact
                for fact in messages.route_facts(data, numbered)
                if fact.dst.endswith("/0") and fact.table == MAIN_TABLE
            )
    indexes = {int(fact.link.name[1:]) for fact in facts}
    named = _named(netlink, place, sorted(indexes))
    links = dict(named.values())
    return [_renamed(fact, named) for fact in facts if int(fact.link.name[1:]) in named], links


def _named(
    netlink: NetlinkSocket, place: Place, indexes: list[int]
) -> dict[int, tuple[LinkName, LinkFact]]:
    if not indexes:
        return {}
    answers = netlink.request([messages.get_link_at(index) for index in indexes])
    named = {}
    for index, answer in zip(indexes, answers, strict=True):
        if answer.errno:  # gone since the routes were listed, and its routes with it
            continue
        link = LinkName(place, messages.link_name(answer.replies[0][1]))
        named[index] = (link, messages.link_fact(answer.replies[0][1], link))
    return named


def _renamed(fact: RouteFact, named: dict[int, tuple[LinkName, LinkFact]]) -> RouteFact:
    from attrs import evolve

    return evolve(fact, link=named[int(fact.link.name[1:])][0])
