"""The closed vocabulary of changes to a node's network: what a driver may ask of the kernel.

An op names links by name and place, never by index, so that it can be planned before the link
exists, printed for a person, and applied by the kernel room or by a fake alike. ``str(op)`` is a
sentence; CHECK prints the ops of a non-empty plan as its error text.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN_TABLE = 254
"""Linux: include/uapi/linux/rtnetlink.h, RT_TABLE_MAIN."""


class Place(enum.Enum):
    """Which network namespace: the node's own, or the pod's."""

    HOST = "host"
    SANDBOX = "sandbox"

    def __str__(self) -> str:
        return self.value


class Scope(enum.IntEnum):
    """Route scopes of Linux (include/uapi/linux/rtnetlink.h, ``rt_scope_t``)."""

    UNIVERSE = 0
    LINK = 253
    HOST = 254


@frozen
class LinkName:
    """A link by place and name (1 to 15 bytes)."""

    place: Place
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"


@frozen(kw_only=True)
class Peer:
    """The other end of a veth pair."""

    link: LinkName
    mac: str = ""


@frozen(kw_only=True)
class CreateLink:
    """Create a link directly where it belongs, under its final name.

    Attributes:
        link: place and name; a link of that name there is an error and left alone.
        kind: kernel's name of the kind, such as ``macvlan``.
        parent: link it stands on; None for kinds without one.
        peer: other end of a pair; None for kinds without one.
        mac: MAC address as text; empty lets the kernel choose.
        mtu: bytes; 0 inherits from the parent, or takes the kind's default.
        up: set up in the same message.
        index: kernel index that it shall have; 0 lets the kernel choose.
        options: the kind's own attributes, name to number, such as ``(("mode", 4),)``.
    """

    link: LinkName
    kind: str
    parent: LinkName | None = None
    peer: Peer | None = None
    mac: str = ""
    mtu: int = 0
    up: bool = False
    index: int = 0
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        text = f"create {self.kind} {self.link}"
        if self.parent:
            text += f" on {self.parent}"
        if self.peer:
            text += f" with peer {self.peer.link}"
        return text


@frozen(kw_only=True)
class DeleteLink:
    """Delete the very link that was looked at; one that is gone already is no error.

    Attributes:
        link: where it was seen.
        kind: its kind.
        index: its kernel index when its identity was compared. A name may meanwhile be another
            link's; indexes are not given out twice.
    """

    link: LinkName
    kind: str
    index: int

    def __str__(self) -> str:
        return f"delete {self.kind} {self.link}"


@frozen(kw_only=True)
class SetLink:
    """Change a link; None and empty leave a property as it is.

    Attributes:
        link: which.
        up: administratively up or down.
        mac: MAC address as text.
        mtu: bytes; 0 leaves it.
        kind: kernel's name of the kind; needed with ``options``.
        options: the kind's own attributes, as in ``CreateLink``.
    """

    link: LinkName
    up: bool | None = None
    mac: str = ""
    mtu: int = 0
    kind: str = ""
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        changes = [] if self.up is None else ["up" if self.up else "down"]
        changes += [f"mac {self.mac}"] if self.mac else []
        changes += [f"mtu {self.mtu}"] if self.mtu else []
        changes += [f"{name} {value}" for name, value in self.options]
        return f"set {self.link} {' '.join(changes)}"


@frozen(kw_only=True)
class AddAddress:
    """Add an address.

    Attributes:
        link: to which link.
        address: with prefix length, such as ``192.168.60.20/24``.
        nodad: an IPv6 address that is never tentative, so that routes may name it as their source
            at once; the kernel does not announce it either.
    """

    link: LinkName
    address: str
    nodad: bool = False

    def __str__(self) -> str:
        return f"add address {self.address} to {self.link}"


@frozen(kw_only=True)
class DeleteAddress:
    """Delete an address from a link."""

    link: LinkName
    address: str

    def __str__(self) -> str:
        return f"delete address {self.address} from {self.link}"


@frozen(kw_only=True)
class SettleAddresses:
    """Wait until no IPv6 address of the link is tentative any more (RFC 4862, 5.4).

    Attributes:
        link: which.
        timeout: seconds; the reference waits 5 (pkg/ip/addr_linux.go, SettleAddresses).
    """

    link: LinkName
    timeout: float = 5.0

    def __str__(self) -> str:
        return f"wait for duplicate address detection on {self.link}"


@frozen(kw_only=True)
class RouteKey:
    """What tells one route from another.

    Attributes:
        link: output link.
        dst: destination prefix as text, without host bits; ``0.0.0.0/0`` or ``::/0`` is default.
        gateway: next hop's address; empty if the destination is on the link.
        table: routing table; 254 is main.
        priority: metric; 0 lets the kernel choose (IPv6: 1024).
    """

    link: LinkName
    dst: str
    gateway: str = ""
    table: int = MAIN_TABLE
    priority: int = 0

    def __str__(self) -> str:
        text = f"route {self.dst}"
        text += f" via {self.gateway}" if self.gateway else ""
        text += f" metric {self.priority}" if self.priority else ""
        text += f" table {self.table}" if self.table != MAIN_TABLE else ""
        return f"{text} on {self.link}"


@frozen(kw_only=True)
class AddRoute:
    """Add a route beside those that are there.

    Attributes:
        key: which route.
        src: preferred source address; empty for none.
        scope: reach of the destination (IPv4).
        mtu: path MTU in bytes; 0 for none.
        advmss: TCP segment size to advertise, in bytes; 0 for none.
        onlink: the gateway counts as reachable on the link whatever the addresses say.
    """

    key: RouteKey
    src: str = ""
    scope: int = Scope.UNIVERSE
    mtu: int = 0
    advmss: int = 0
    onlink: bool = False

    def __str__(self) -> str:
        return f"add {self.key}"


@frozen(kw_only=True)
class DeleteRoute:
    """Delete one route; the kernel takes the first that fits the key."""

    key: RouteKey

    def __str__(self) -> str:
        return f"delete {self.key}"


@frozen(kw_only=True)
class SetSysctl:
    """Write a value below ``/proc/sys/net`` as the namespace sees it.

    Attributes:
        place: whose.
        key: path below ``/proc/sys`` with slashes, as link names may have dots in them, such as
            ``net/ipv4/conf/eth1/arp_notify``.
        value: what to write.
        optional: a kernel without this key is no error (IPv6 may be compiled out).
    """

    place: Place
    key: str
    value: str
    optional: bool = field(default=False)

    def __str__(self) -> str:
        return f"set sysctl {self.key} = {self.value} ({self.place})"


Op = (
    CreateLink
    | DeleteLink
    | SetLink
    | AddAddress
    | DeleteAddress
    | SettleAddresses
    | AddRoute
    | DeleteRoute
    | SetSysctl
)


def word(op: Op) -> str:
    """Return the op's word, such as ``create-link``: the step's name for observers."""
    name = type(op).__name__
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def links_of(op: Op) -> Iterator[LinkName]:
    """Yield the links that an op names and that must exist before it can be applied."""
    if isinstance(op, CreateLink):
        if op.parent:
            yield op.parent
    elif isinstance(op, AddRoute | DeleteRoute):
        yield op.key.link
    elif not isinstance(op, SetSysctl):
        yield op.link


def place_of(op: Op) -> Place:
    """Return where an op takes effect; of a link on a parent, where the parent is.

    The kernel makes a link from its parent's namespace: there the parent has its index.
    """
    if isinstance(op, SetSysctl):
        return op.place
    if isinstance(op, AddRoute | DeleteRoute):
        return op.key.link.place
    if isinstance(op, CreateLink) and op.parent:
        return op.parent.place
    return op.link.place
