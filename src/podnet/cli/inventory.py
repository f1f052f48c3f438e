"""What is in a network namespace, and what of podnet's is left anywhere."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.errors import KernelError, NotAvailableError
from podnet.model.facts import Probe
from podnet.model.ops import AddAddress, CreateLink, DeleteLink, LinkName, Peer, Place, SetLink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podnet.cli.sandbox import Machine
    from podnet.engine.node import Node
    from podnet.engine.settings import Settings
    from podnet.model.facts import Have
    from podnet.model.ops import Op

UPLINK = "eth1"
"""The node's interface that the scenario's network stands on."""

GATEWAY = "192.168.60.1"
"""What the scenario's network calls its gateway; here the uplink's far end."""


@frozen(kw_only=True)
class Seen:
    """An interface as the kernel shows it inside its namespace.

    Attributes:
        name: interface name.
        kind: kernel's name of the kind.
        mac: MAC address; empty for none.
        addresses: with prefix length, link-local ones last.
        mtu: bytes.
        state: ``up`` or ``down``, as administered.
    """

    name: str
    kind: str
    mac: str
    addresses: tuple[str, ...]
    mtu: int
    state: str

    @property
    def assigned(self) -> tuple[str, ...]:
        """The addresses that somebody chose, without those IPv6 makes by itself (RFC 4862)."""
        return tuple(a for a in self.addresses if not _is_link_local(a))


class Lab:
    """A machine with a node, its uplink and room for pods, seen through podnet's kernel room."""

    def __init__(self, machine: Machine, kernel: Any) -> None:
        """Take an isolated machine and an open kernel."""
        self.machine = machine
        self._kernel = kernel
        self._namespaces = {"node": machine.node}

    def build_uplink(self) -> None:
        """Give the node ``eth1``, and its far end the gateway's address.

        Raises:
            NotAvailableError: the kernel lacks a kind of link that the scenario needs.
        """
        path = self.add("uplink")
        near, far = LinkName(Place.HOST, UPLINK), LinkName(Place.SANDBOX, UPLINK)
        self._require(
            path, "veth", CreateLink(link=near, kind="veth", peer=Peer(link=far), up=True)
        )
        self._apply(
            path, [AddAddress(link=far, address=f"{GATEWAY}/24"), SetLink(link=far, up=True)]
        )
        trial = LinkName(Place.SANDBOX, "trial")
        self._require(path, "macvlan", CreateLink(link=trial, kind="macvlan", parent=far))
        fact = self._probe(path, Probe(links=frozenset({trial}))).link(trial)
        if fact is not None:
            self._apply(path, [DeleteLink(link=trial, kind=fact.kind, index=fact.index)])

    def add(self, name: str) -> str:
        """Make a namespace with ``lo`` up, as a container runtime does, and return its path."""
        path = self.machine.add_namespace(name)
        self._namespaces[name] = path
        self._apply(path, [SetLink(link=LinkName(Place.SANDBOX, "lo"), up=True)])
        return path

    def interfaces(self, path: str) -> tuple[Seen, ...]:
        """Return what is in a namespace, ``lo`` last."""
        have = self._everything(path)
        found = []
        for name, fact in have.links.items():
            addresses = sorted(have.addresses_of(name), key=lambda a: (_is_link_local(a), a))
            lo = name.name == "lo"
            found.append(
                Seen(
                    name=name.name,
                    kind="loopback" if lo else fact.kind,
                    mac="" if lo else fact.mac,
                    addresses=tuple(addresses),
                    mtu=fact.mtu,
                    state="up" if fact.up else "down",
                )
            )
        return tuple(sorted(found, key=lambda seen: (seen.name == "lo", seen.name)))

    def snapshot(self) -> frozenset[str]:
        """Return links, addresses and routes of all namespaces, each as a line."""
        return frozenset(
            f"{line} in {name}"
            for name, path in self._namespaces.items()
            for line in _described(self._everything(path))
        )

    def _everything(self, path: str) -> Have:
        with self.machine.inside(path):
            names = [name for _index, name in socket.if_nameindex()]
        links = frozenset(LinkName(Place.SANDBOX, name) for name in names)
        return self._probe(path, Probe(links=links, addresses=links, routes=links))

    def _probe(self, path: str, probe: Probe) -> Have:
        with self._kernel.open(path, allow_host=True) as sandbox:
            have: Have = sandbox.probe(probe)
        return have

    def _apply(self, path: str, ops: Iterable[Op]) -> None:
        with self._kernel.open(path, allow_host=True) as sandbox:
            sandbox.apply(tuple(ops), lambda _step: None)

    def _require(self, path: str, kind: str, op: CreateLink) -> None:
        try:
            self._apply(path, [op])
        except KernelError as error:
            raise NotAvailableError(
                f"this kernel makes no {kind} links",
                f"{error}; try `modprobe {kind}` as root (CONFIG_{kind.upper()})",
            ) from error


def left_behind(settings: Settings, node: Node) -> Iterator[str]:
    """Yield what of podnet's is left in the store, the journal and the state folder.

    Empty blocks and locks are furniture: a block keeps its grant counter so that no late release
    ever frees a newer lease, and a lock file that is removed while held locks nobody out.
    """
    from podnet.engine.migration_follow import follow

    for attached in node.status():
        yield f"record of container {attached.container_id}"
    store = follow(settings.store)
    try:
        for key in store.keys(""):
            found = store.load(key)
            leases = () if found is None else found[0].leases.values()
            yield from (f"lease of {lease.cidr} by {lease.owner}" for lease in leases)
    finally:
        store.close()
    furniture = {settings.store.partition(":")[2], os.path.join(settings.state_dir, "locks")}
    for folder, folders, files in os.walk(settings.state_dir):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in furniture]
        yield from (f"file {os.path.join(folder, name)}" for name in files)


def _described(have: Have) -> Iterator[str]:
    for name in have.links:
        yield f"link {name.name}"
    for address in have.addresses:
        if not _is_link_local(address.address):
            yield f"address {address.address} on {address.link.name}"
    for route in have.routes:
        if not _is_link_local(route.dst):
            via = f" via {route.gateway}" if route.gateway else ""
            yield f"route {route.dst}{via} on {route.link.name}"


def _is_link_local(text: str) -> bool:
    # Made by the kernel for each link some time after it goes up (RFC 4862, 5.3), with the
    # multicast route beside it.
    return text.lower().startswith(("fe80:", "ff00:"))
