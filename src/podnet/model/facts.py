"""What can be known of a node's network: what a driver asks for, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from podnet.model.ops import MAIN_TABLE, CreateLink, LinkName, Place, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping


@frozen(kw_only=True)
class Probe:
    """What to read. Everything is asked per place, so that each place costs few messages.

    Attributes:
        links: links to look up by name; a missing one is a fact, not an error.
        all_links: places whose links to list, all of them.
        addresses: links whose addresses to list.
        routes: links whose routes to list, of all tables; implies nothing about the link.
        default_routes: places whose default routes of the main table to list, with their links.
        sysctls: (place, key) pairs to read.
    """

    links: frozenset[LinkName] = frozenset()
    all_links: frozenset[Place] = frozenset()
    addresses: frozenset[LinkName] = frozenset()
    routes: frozenset[LinkName] = frozenset()
    default_routes: frozenset[Place] = frozenset()
    sysctls: frozenset[tuple[Place, str]] = frozenset()

    def only(self, place: Place) -> Probe:
        """Return the part of it that is about one place."""
        return Probe(
            links=frozenset(x for x in self.links if x.place is place),
            all_links=self.all_links & {place},
            addresses=frozenset(x for x in self.addresses if x.place is place),
            routes=frozenset(x for x in self.routes if x.place is place),
            default_routes=self.default_routes & {place},
            sysctls=frozenset(x for x in self.sysctls if x[0] is place),
        )

    def __or__(self, other: Probe) -> Probe:
        return Probe(
            links=self.links | other.links,
            all_links=self.all_links | other.all_links,
            addresses=self.addresses | other.addresses,
            routes=self.routes | other.routes,
            default_routes=self.default_routes | other.default_routes,
            sysctls=self.sysctls | other.sysctls,
        )


@frozen(kw_only=True)
class LinkFact:
    """A link as it is.

    Attributes:
        link: place and name.
        index: kernel index in its namespace.
        kind: kernel's name of the kind; empty for hardware and ``lo``.
        mac: lower-case MAC address; empty for links without one.
        mtu: bytes.
        up: administratively up.
        parent_index: index of the link it stands on or, for veth, of its peer; 0 for none.
        parent_elsewhere: that index is of another namespace.
        master_index: bridge, bond or VRF it is a port of; 0 for none.
        options: the kind's own attributes, as in ``CreateLink``.
    """

    link: LinkName
    index: int
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    parent_index: int = 0
    parent_elsewhere: bool = False
    master_index: int = 0
    options: tuple[tuple[str, int], ...] = ()

    def option(self, name: str) -> int | None:
        """Return one of the kind's own attributes, or None."""
        return dict(self.options).get(name)


@frozen(kw_only=True)
class AddressFact:
    """An address as it is: text with prefix length, and what detection made of it."""

    link: LinkName
    address: str
    tentative: bool = False
    dad_failed: bool = False


@frozen(kw_only=True)
class RouteFact:
    """A unicast route as it is; texts as in ``RouteKey``.

    A multipath route is one fact for each next hop.
    """

    link: LinkName
    dst: str
    gateway: str = ""
    table: int = MAIN_TABLE
    priority: int = 0
    scope: int = Scope.UNIVERSE
    src: str = ""
    mtu: int = 0
    advmss: int = 0
    protocol: int = 0


@frozen(kw_only=True)
class Have:
    """What was found: the answer to a ``Probe``."""

    links: Mapping[LinkName, LinkFact] = field(factory=dict)
    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()
    sysctls: Mapping[tuple[Place, str], str] = field(factory=dict)

    def link(self, name: LinkName) -> LinkFact | None:
        """Return the link of that name, or None."""
        return self.links.get(name)

    def addresses_of(self, name: LinkName) -> dict[str, AddressFact]:
        """Return the addresses of one link by their text."""
        return {fact.address: fact for fact in self.addresses if fact.link == name}

    def routes_of(self, name: LinkName) -> tuple[RouteFact, ...]:
        """Return the routes over one link."""
        return tuple(fact for fact in self.routes if fact.link == name)

    def __or__(self, other: Have) -> Have:
        return Have(
            links={**self.links, **other.links},
            addresses=self.addresses + other.addresses,
            routes=self.routes + other.routes,
            sysctls={**self.sysctls, **other.sysctls},
        )

    def created(self, op: CreateLink) -> Have:
        """Return what there is once the op is applied, as far as the op itself tells.

        Spares a second look at a link that was just made to measure. Indexes are unknown (0),
        except the parent's and one that was asked for.
        """
        parent = self.links.get(op.parent) if op.parent else None
        made = LinkFact(
            link=op.link,
            index=op.index,
            kind=op.kind,
            mac=op.mac,
            mtu=op.mtu or (parent.mtu if parent else 0),
            up=op.up,
            parent_index=parent.index if parent else 0,
            parent_elsewhere=bool(op.parent and op.parent.place is not op.link.place),
            options=op.options,
        )
        links = {**self.links, op.link: made}
        if op.peer:
            links[op.peer.link] = LinkFact(
                link=op.peer.link, index=0, kind=op.kind, mac=op.peer.mac, mtu=op.mtu
            )
        return evolve(self, links=links)
