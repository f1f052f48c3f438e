"""A node of its own for tests that kill, race and mislead podnet, and the ways podnet is called."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import time
from contextlib import contextmanager
from pathlib import Path

import podnet
from podnet import Node
from podnet.cni import main, skel
from podnet.engine.house import House
from podnet.engine.settings import Settings
from podnet.engine.verbs import perform
from podnet.errors import PodnetError
from podnet.kernel import sandbox as _sandbox  # noqa: F401  # imported once, not in each child
from podnet.model.attachment import Pod
from podnet.model.printing import print_error
from podnet.stores.file import FileStore
from podnet.testing.namespaces import Namespace, inside, ip

# The scenario's own files, as the demo ships them.
SCENARIO = os.path.join(os.path.dirname(podnet.__file__), "cli", "scenario")
MACVLAN = {
    "cniVersion": "1.1.0",
    "name": "storage",
    "type": "macvlan",
    "master": "eth1",
    "ipam": {
        "type": "whereabouts",
        "range": "192.168.60.0/24",
        "range_start": "192.168.60.20",
        "range_end": "192.168.60.120",
        "gateway": "192.168.60.1",
        "routes": [{"dst": "10.96.0.0/12"}],
    },
}
DELEGATING = {
    "cniVersion": "1.1.0",
    "name": "pods",
    "type": "podnet",
    "networks": "macvlan-conf-1@eth1",
}

_SIOCGIFADDR = 0x8915  # include/uapi/linux/sockios.h


class Container:
    """A sandbox, the name a runtime gives it, and what ADD told."""

    def __init__(self, name):
        self.name = name
        self.namespace = Namespace()
        self.netns = self.namespace.path
        self.result = None


class Rig:
    """A node: namespace with the uplink ``eth1``, state of its own, manifests of the scenario."""

    def __init__(self, folder, machine):
        self.machine = machine
        self.folder = Path(folder)
        self.state = self.folder / "state"
        manifests = self.folder / "manifests"
        manifests.mkdir()
        shutil.copy(os.path.join(SCENARIO, "nad.yaml"), manifests)
        self.default = Path(shutil.copy(os.path.join(SCENARIO, "default.conflist"), self.folder))
        self.settings = Settings(
            state_dir=str(self.state),
            store=f"file:{self.state}/leases",
            networks=(str(manifests),),
            conf_dir=str(self.folder / "net.d"),
            node="node-1",
            timeout=20,
        )
        self.host_links = sorted(name for _, name in socket.if_nameindex())
        self.containers = []

    def container(self, name):
        """Make a sandbox; ends with the rig at the latest."""
        self.containers.append(Container(name))
        return self.containers[-1]

    def end(self, container):
        """Take a sandbox away, as a runtime does."""
        container.namespace.end()
        self.containers.remove(container)

    def close(self):
        for each in list(self.containers):
            self.end(each)

    def leases(self):
        """Return address → (container id, interface), of the whole store."""
        found = {}
        store = FileStore(str(self.state / "leases"))
        for key in store.keys(""):
            for lease in store.load(key)[0].leases.values():
                assert str(lease.ip) not in found, "an address is held twice"
                found[str(lease.ip)] = lease.owner.key
        return found

    def records(self):
        """Return the owners that the journal knows, by role."""
        paths = (self.state / "journal").glob("*/*.json")
        return sorted((path.parent.name, path.name.split("%2B")[0]) for path in paths)

    def temporary(self):
        """Return files of the state that are neither records, blocks nor locks."""
        known = (".json", ".block", ".lock", ".changes")
        return sorted(
            str(path.relative_to(self.state))
            for path in self.state.rglob("*")
            if path.is_file() and not path.name.endswith(known) and path.parent.name != "locks"
        )

    def age(self):
        """Let left-overs be of another day."""
        for path in self.state.rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - 86400,) * 2, follow_symlinks=False)

    def new_host_links(self):
        return sorted({name for _, name in socket.if_nameindex()} - set(self.host_links))

    def assert_no_address_twice(self):
        """Compare the leases with the addresses that links have: each address, one owner."""
        leases, seen = self.leases(), {}
        for each in self.containers:
            for ifname, address in addresses(each).items():
                assert address not in seen, f"{each.name} and {seen[address]} have {address}"
                seen[address] = each.name
                assert leases.get(address) == (each.name, ifname), f"{address} of {each.name}"


def links(container):
    """Return the links of a sandbox but lo; none where there is no sandbox."""
    if container.namespace.fd < 0:
        return []
    with inside(container.namespace.fd):
        return sorted(name for _, name in socket.if_nameindex() if name != "lo")


def addresses(container):
    """Return interface → IPv4 address, asked of the kernel by ioctl."""
    found = {}
    for name in links(container):
        fd = container.namespace.fd
        with inside(fd), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


@contextmanager
def rig_in(folder):
    """Be on a node; everything ends with the block."""
    machine = Namespace()
    try:
        with inside(machine.fd):
            ip("link", "add", "eth1", "type", "veth", "peer", "name", "far1")
            ip("link", "set", "far1", "up")
            ip("link", "set", "eth1", "up")
            rig = Rig(folder, machine)
            try:
                yield rig
            finally:
                rig.close()
    finally:
        machine.end()


def call(settings, verb, config, *, container="", netns="", ifname="", step=None, **variables):
    """Call a plugin as a runtime does, in this process; return exit code and answer."""
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": ifname,
        "CNI_PATH": "/nowhere",
        **variables,
    }
    data = config if isinstance(config, bytes) else json.dumps(config).encode()

    def plugin(asked):
        from attrs import evolve

        given = {} if step is None else {"step": step}
        with House(settings, **given) as house:
            return perform(house, evolve(asked, timeout=settings.timeout))

    response = skel.handle(
        environ, lambda: data, plugin, same_netns=main.is_own_netns, about="podnet"
    )
    out = json.loads(response.stdout) if response.stdout else None
    return [response.exit_code, out]


class PluginWay:
    """podnet as a runtime's plugin.

    Attributes:
        ifname: the interface that the runtime asks for.
        interfaces: what a sandbox has in the end.
        host_links: how many links a sandbox has on the node.
    """

    def __init__(self, rig, config, ifname, interfaces, host_links):
        self._rig = rig
        self.config = config
        self.ifname = ifname
        self.interfaces = interfaces
        self.host_links = host_links

    def _call(self, verb, container, step, **extra):
        return call(
            self._rig.settings,
            verb,
            {**self.config, **extra},
            container=container.name,
            netns=container.netns,
            ifname=self.ifname,
            step=step,
        )

    def add(self, container, step=None):
        return self._call("ADD", container, step)

    def delete(self, container, step=None):
        return self._call("DEL", container, step)

    def check(self, container, step=None):
        return self._call("CHECK", container, step, prevResult=container.result)

    def gc(self, valid, step=None):
        entries = [{"containerID": each.name, "ifname": self.ifname} for each in valid]
        config = {**self.config, "cni.dev/valid-attachments": entries}
        return call(self._rig.settings, "GC", config, step=step)


class NodeWay:
    """podnet as a library."""

    ifname = "eth0"
    interfaces = ("eth0", "eth1")
    host_links = 1

    def __init__(self, rig):
        self._rig = rig

    def _do(self, step, do):
        given = {} if step is None else {"step": step}
        try:
            with Node(settings=self._rig.settings, **given) as node:
                return [0, do(node)]
        except PodnetError as error:
            return [1, json.loads(print_error(error))]

    def add(self, container, step=None):
        def do(node):
            attached = node.attach(
                container.netns,
                "macvlan-conf-1@eth1",
                pod=Pod("default", container.name),
                container_id=container.name,
                default_network=str(self._rig.default),
            )
            return {"ips": [{"address": ip} for each in attached.networks for ip in each.ips]}

        return self._do(step, do)

    def delete(self, container, step=None):
        return self._do(step, lambda node: len(node.detach(container_id=container.name)))

    def check(self, container, step=None):
        return self._do(step, lambda node: len(node.check(container_id=container.name)))

    def gc(self, valid, step=None):
        pairs = [(each.name, self.ifname) for each in valid]
        return self._do(step, lambda node: len(node.gc(pairs)))


def way_of(rig, name):
    """Return one of the three ways podnet is called; imports are done, so children start fast."""
    over_nad = {**DELEGATING, "clusterNetwork": str(rig.default)}
    way = {
        "macvlan": lambda: PluginWay(rig, MACVLAN, "eth1", ("eth1",), 0),
        "podnet": lambda: PluginWay(rig, over_nad, "eth0", ("eth0", "eth1"), 1),
        "node": lambda: NodeWay(rig),
    }[name]()
    first = rig.container("first")
    assert way.add(first)[0] == 0
    assert way.delete(first)[0] == 0
    rig.end(first)
    return way
