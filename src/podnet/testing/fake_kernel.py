"""A kernel made of dictionaries: the same interface as ``podnet.kernel.sandbox.Kernel``.

It obeys the rules that drivers rely on: names are unique in a namespace, both ends of a veth pair
live and die together, a link dies with its parent, addresses bring connected routes, deleting what
is gone is fine. ``fail`` makes it refuse any op.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from podnet.errors import (
    InterfaceExistsError,
    KernelError,
    LinkNotFoundError,
    NetnsMissingError,
    NotNetnsError,
)
from podnet.model.addresses import parse_prefix
from podnet.model.facts import AddressFact, Have, LinkFact, Probe, RouteFact
from podnet.model.ops import (
    AddAddress,
    AddRoute,
    CreateLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    LinkName,
    Op,
    Place,
    SetLink,
    SetSysctl,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PASSTHRU = 8
_RTPROT_KERNEL, _RTPROT_BOOT = 2, 3
HOST_PATH = "/proc/1/ns/net"


@define(eq=False)
class FakeNamespace:
    """One network namespace.

    Attributes:
        identity: as ``Sandbox.identity``.
        links: link facts by name; their places are set when told.
        addresses: by link name, in order.
        routes: as facts; their links' places are set when told.
        sysctls: values by key; a key that is not here does not exist until it is written.
        ends: the other end of each veth: (namespace, name).
        parents: what each link stands on: (namespace, name).
    """

    identity: str
    links: dict[str, LinkFact] = field(factory=dict)
    addresses: dict[str, list[str]] = field(factory=dict)
    routes: list[RouteFact] = field(factory=list)
    sysctls: dict[str, str] = field(factory=dict)
    ends: dict[str, tuple[FakeNamespace, str]] = field(factory=dict)
    parents: dict[str, tuple[FakeNamespace, str]] = field(factory=dict)


class FakeKernel:
    """A node's kernel.

    Attributes:
        node: the host's namespace.
        sandboxes: namespaces by path; take one away to end a pod.
        applied: every op that took effect, in order.
        fail: returns the error that an op shall end in, or None.
    """

    def __init__(self, fail: Callable[[Op], Exception | None] | None = None) -> None:
        """Start with an empty host."""
        self._identities = itertools.count(4026532000)
        self._indexes = itertools.count(1)
        self.node = self._namespace()
        self.sandboxes: dict[str, FakeNamespace] = {}
        self.applied: list[Op] = []
        self.fail = fail
        self.sends = 0

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def add_sandbox(self, path: str) -> FakeNamespace:
        """Make a namespace at a path, in place of one that may be there."""
        self.sandboxes[path] = self._namespace()
        return self.sandboxes[path]

    def end_sandbox(self, path: str) -> None:
        """Take a namespace away, and with it its links and their ends elsewhere."""
        space = self.sandboxes.pop(path)
        for name in list(space.links):
            self.remove_link(space, name)

    def add_link(self, space: FakeNamespace, name: str, **facts: object) -> LinkFact:
        """Put a link into a namespace; ``facts`` are fields of ``LinkFact``."""
        index = next(self._indexes)
        values: dict[str, object] = {"mac": f"02:00:00:00:00:{index % 256:02x}", "mtu": 1500}
        # Built from keywords: a test names only the facts it is about.
        link = LinkName(Place.HOST, name)
        space.links[name] = LinkFact(link=link, index=index, **{**values, **facts})  # type: ignore[arg-type]
        return space.links[name]

    @contextmanager
    def open(self, path: str, *, allow_host: bool = False) -> Iterator[FakeSandbox]:
        """See ``Kernel.open``."""
        if path == HOST_PATH:
            if not allow_host:
                raise NotNetnsError(f"{path} is the host's own network namespace")
            yield FakeSandbox(self, self.node)
            return
        if path not in self.sandboxes:
            raise NetnsMissingError(f"network namespace {path} does not exist")
        yield FakeSandbox(self, self.sandboxes[path])

    @contextmanager
    def host(self) -> Iterator[FakeSandbox]:
        """See ``Kernel.host``."""
        yield FakeSandbox(self, None)

    def index(self) -> int:
        """Return a link index that was never given out."""
        return next(self._indexes)

    def remove_link(self, space: FakeNamespace, name: str) -> None:
        """Remove a link with what hangs on it: addresses, routes, its other end, its children."""
        if space.links.pop(name, None) is None:
            return
        space.addresses.pop(name, None)
        space.parents.pop(name, None)
        space.routes = [route for route in space.routes if route.link.name != name]
        if end := space.ends.pop(name, None):
            self.remove_link(*end)
        for other in (self.node, *self.sandboxes.values()):
            children = [child for child, on in other.parents.items() if on == (space, name)]
            for child in children:
                self.remove_link(other, child)

    def every_link(self) -> list[tuple[str, str]]:
        """Return (namespace, name) of all links but ``lo``; what tests mean by "nothing left"."""
        spaces = [("host", self.node), *self.sandboxes.items()]
        return [(path, name) for path, space in spaces for name in space.links if name != "lo"]

    def _namespace(self) -> FakeNamespace:
        space = FakeNamespace(f"4:{next(self._identities)}")
        self.add_link(space, "lo", mac="00:00:00:00:00:00", mtu=65536)
        return space


class FakeSandbox:
    """A pod's namespace together with the host's; see ``podnet.kernel.sandbox.Sandbox``."""

    def __init__(self, kernel: FakeKernel, space: FakeNamespace | None) -> None:
        """Take the namespace; None means that there is no sandbox."""
        self._kernel = kernel
        self._space = space
        self.identity = space.identity if space else ""

    def space(self, place: Place) -> FakeNamespace:
        """Return the namespace of a place.

        Raises:
            NetnsMissingError: there is no sandbox.
        """
        if place is Place.HOST:
            return self._kernel.node
        if self._space is None:
            raise NetnsMissingError("there is no network namespace to work in")
        return self._space

    def probe(self, probe: Probe) -> Have:
        """Return what the probe asks for."""
        have = Have()
        for place in Place:
            part = probe.only(place)
            if part != Probe():
                have |= self._told(place, part)
        return have

    def exists(self, link: LinkName) -> bool:
        """See ``Sandbox.exists``."""
        return link.name in self.space(link.place).links

    def apply(self, ops: Iterable[Op], step: Callable[[str], None] | None = None) -> None:
        """Apply ops in order, up to the first that is refused."""
        for op in ops:
            if step is not None:
                step(word(op))
            if self._kernel.fail and (error := self._kernel.fail(op)):
                raise error
            self._do(op)
            self._kernel.applied.append(op)

    def _told(self, place: Place, probe: Probe) -> Have:
        space = self.space(place)
        routes = [evolve(r, link=LinkName(place, r.link.name)) for r in space.routes]
        defaults = [r for r in routes if r.dst in ("0.0.0.0/0", "::/0") and r.table == 254]
        defaults = defaults if place in probe.default_routes else []
        names = {link.name for link in probe.links} | {r.link.name for r in defaults}
        names |= set(space.links) if place in probe.all_links else set()
        links = {
            LinkName(place, name): evolve(space.links[name], link=LinkName(place, name))
            for name in names
            if name in space.links
        }
        addresses = tuple(
            AddressFact(link=link, address=text)
            for link in sorted(probe.addresses, key=str)
            for text in space.addresses.get(link.name, ())
        )
        told = [r for r in routes if r.link in probe.routes or r in defaults]
        sysctls = {k: space.sysctls[k[1]] for k in probe.sysctls if k[1] in space.sysctls}
        return Have(links=links, addresses=addresses, routes=tuple(told), sysctls=sysctls)

    def _do(self, op: Op) -> None:
        if isinstance(op, CreateLink):
            self._create(op)
        elif isinstance(op, DeleteLink):
            self._delete(op)
        elif isinstance(op, SetLink):
            self._set(op)
        elif isinstance(op, AddAddress | DeleteAddress):
            self._address(op)
        elif isinstance(op, AddRoute | DeleteRoute):
            self._route(op)
        elif isinstance(op, SetSysctl):
            self.space(op.place).sysctls[op.key] = op.value

    def _existing(self, link: LinkName, op: Op) -> LinkFact:
        fact = self.space(link.place).links.get(link.name)
        if fact is None:
            raise LinkNotFoundError(f"link {link} does not exist", f"cannot {op}")
        return fact

    def _create(self, op: CreateLink) -> None:
        ends = [op.link, op.peer.link] if op.peer else [op.link]
        if any(end.name in self.space(end.place).links for end in ends):
            raise InterfaceExistsError(f"interface {op.link} exists already")
        space = self.space(op.link.place)
        if op.index and any(fact.index == op.index for fact in space.links.values()):
            raise KernelError(f"cannot {op}: Device or resource busy (EBUSY)")
        parent = self._existing(op.parent, op) if op.parent else None
        if parent and op.mtu > parent.mtu:
            raise KernelError(f"cannot {op}: Invalid argument (EINVAL)")
        passthru = dict(op.options).get("mode") == _PASSTHRU
        fact = LinkFact(
            link=op.link,
            index=op.index or self._kernel.index(),
            kind=op.kind,
            mac=parent.mac if parent and passthru else op.mac,
            mtu=op.mtu or (parent.mtu if parent else 1500),
            up=op.up,
            parent_index=parent.index if parent else 0,
            parent_elsewhere=bool(op.parent and op.parent.place is not op.link.place),
            options=op.options,
        )
        space.links[op.link.name] = fact
        if op.parent:
            space.parents[op.link.name] = (self.space(op.parent.place), op.parent.name)
        if op.peer:
            self._create_peer(op, fact)

    def _create_peer(self, op: CreateLink, fact: LinkFact) -> None:
        assert op.peer
        here, there = self.space(op.link.place), self.space(op.peer.link.place)
        apart = here is not there
        other = evolve(
            fact,
            link=op.peer.link,
            index=self._kernel.index(),
            mac=op.peer.mac,
            up=False,
            parent_index=fact.index,
            parent_elsewhere=apart,
        )
        there.links[op.peer.link.name] = other
        here.links[op.link.name] = evolve(fact, parent_index=other.index, parent_elsewhere=apart)
        here.ends[op.link.name] = (there, op.peer.link.name)
        there.ends[op.peer.link.name] = (here, op.link.name)

    def _delete(self, op: DeleteLink) -> None:
        space = self.space(op.link.place)
        names = [name for name, fact in space.links.items() if fact.index == op.index]
        for name in names:
            self._kernel.remove_link(space, name)

    def _set(self, op: SetLink) -> None:
        fact = self._existing(op.link, op)
        options = {**dict(fact.options), **dict(op.options)}
        space = self.space(op.link.place)
        space.links[op.link.name] = evolve(
            fact,
            up=fact.up if op.up is None else op.up,
            mac=op.mac or fact.mac,
            mtu=op.mtu or fact.mtu,
            options=tuple(options.items()),
        )
        if op.up and not fact.up:
            for text in space.addresses.get(op.link.name, ()):
                self._connect(space, op.link, text)
        if op.up is False:
            space.routes = [route for route in space.routes if route.link.name != op.link.name]

    def _connect(self, space: FakeNamespace, link: LinkName, text: str) -> None:
        prefix = parse_prefix(text)
        if prefix.first == prefix.last:
            return
        fact = RouteFact(link=link, dst=str(prefix.masked), protocol=_RTPROT_KERNEL)
        space.routes.append(evolve(fact, src=str(prefix.address)))

    def _address(self, op: AddAddress | DeleteAddress) -> None:
        fact = self._existing(op.link, op)
        space = self.space(op.link.place)
        there = space.addresses.setdefault(op.link.name, [])
        if isinstance(op, AddAddress):
            if op.address in there:
                raise KernelError(f"cannot {op}: File exists (EEXIST)")
            there.append(op.address)
            if fact.up:
                self._connect(space, op.link, op.address)
        elif op.address in there:
            there.remove(op.address)

    def _route(self, op: AddRoute | DeleteRoute) -> None:
        fact = self._existing(op.key.link, op)
        space = self.space(op.key.link.place)
        key = op.key
        if isinstance(op, AddRoute):
            if not fact.up:
                raise KernelError(f"cannot {op}: Network is down (ENETDOWN)")
            route = RouteFact(
                link=key.link,
                dst=key.dst,
                gateway=key.gateway,
                table=key.table,
                priority=key.priority,
                scope=op.scope,
                src=op.src,
                mtu=op.mtu,
                advmss=op.advmss,
                protocol=_RTPROT_BOOT,
            )
            if route in space.routes:
                raise KernelError(f"cannot {op}: File exists (EEXIST)")
            space.routes.append(route)
            return
        for route in space.routes:
            same = (route.link.name, route.dst, route.table) == (key.link.name, key.dst, key.table)
            if same and key.gateway in (route.gateway, "") and key.priority in (route.priority, 0):
                space.routes.remove(route)
                return
