"""``podnet demo``: the whole life of two pods in a sandbox that leaves no trace."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.cli.output import Table, add_output_option, guarded
from podnet.cli.ping import ping
from podnet.cli.sandbox import in_child, isolate
from podnet.errors import DecodingError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.inventory import Lab, Seen
    from podnet.cli.output import Screen
    from podnet.cli.ping import Ping
    from podnet.engine.attached import Attached
    from podnet.engine.node import Node
    from podnet.engine.settings import Settings

SCENARIO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scenario")

_EPILOG = """\
Works as root, or as any user where the kernel grants user namespaces. Everything happens in
network and mount namespaces of its own: the machine's interfaces are never touched, and all of
it ends with the command.

example:
  podnet demo
  podnet demo --output json
"""

_POD = "test-webhook"
_TWIN = "test-webhook-2"
_INTERFACE = "eth1"


@frozen(kw_only=True)
class Guest:
    """A pod of the demo: where it is, what podnet told, what the kernel shows."""

    pod: str
    netns: str
    attached: Attached
    interfaces: tuple[Seen, ...]

    @property
    def address(self) -> str:
        """The first address on ``eth1``, as the kernel has it; empty if there is none."""
        found = [a for i in self.interfaces if i.name == _INTERFACE for a in i.assigned]
        return found[0].partition("/")[0] if found else ""

    def network(self, interface: str) -> str:
        """Return the name of the network that an interface is on; empty if on none."""
        return next((n.name for n in self.attached.networks if n.interface == interface), "")

    def short(self, interface: str) -> str:
        """Return the network's name as the pod's own annotation may say it."""
        return self.network(interface).removeprefix(f"{self.pod.partition('/')[0]}/")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    add_output_option(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:  # noqa: ARG001 - every command's signature
    """Play the demo in a child process, so that it ends with it whatever happens.

    Raises:
        DecodingError: its manifests cannot be read without PyYAML.
    """
    if find_spec("yaml") is None:
        raise DecodingError(
            "the demo's manifests are YAML, and PyYAML is not installed",
            "install podnet with its extra 'cli'",
        )
    with tempfile.TemporaryDirectory(prefix="podnet-demo-") as root:
        return in_child(lambda: guarded(screen, lambda: _play(root, screen)))


def _play(root: str, screen: Screen) -> int:
    from podnet.cli.inventory import Lab, left_behind
    from podnet.engine import registry
    from podnet.engine.node import Node

    machine = isolate(root)
    settings = _settings(root)
    with closing(registry.resolve(registry.KERNEL)()) as kernel:
        lab = Lab(machine, kernel)
        lab.build_uplink()
        screen.say("a node with an uplink, in namespaces of their own", "good")
        places = {name: lab.add(name) for name in (_POD, _TWIN)}
        before = lab.snapshot()
        with Node(settings=settings) as node:
            guests = [_attach(lab, node, screen, name, path) for name, path in places.items()]
            _show(screen, guests)
            pings = _ping_all(lab, screen, guests)
            _check(node, screen, guests)
            _detach(node, screen, guests)
            left = sorted(lab.snapshot() - before) + list(left_behind(settings, node))
    problems = [
        f"{p['from']} cannot reach {p['to']}: {p['problem']}" for p in pings if p["problem"]
    ]
    problems += [f"left behind: {thing}" for thing in left]
    if not left:
        screen.say(
            "nothing is left: no link, address or route, no lease, no record, no file", "good"
        )
    for problem in problems:
        screen.complain(problem)
    screen.document(
        {
            "pods": [_document(guest) for guest in guests],
            "pings": pings,
            "checked": True,
            "left": left,
            "ok": not problems,
        }
    )
    return 1 if problems else 0


def _settings(root: str) -> Settings:
    """Return settings that owe nothing to this machine's configuration."""
    from podnet.engine.settings import load

    config = os.path.join(root, "podnet.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write("{}")
    return load(
        {"PODNET_CONFIG": config},
        state_dir=os.path.join(root, "state"),
        networks=_manifests(root),
        conf_dir=os.path.join(root, "net.d"),
        node="demo",
    )


def _manifests(root: str) -> tuple[str, ...]:
    """Return the scenario's two files as they are, and its pod once more under another name."""
    paths = [os.path.join(SCENARIO, name) for name in ("nad.yaml", "pod.yaml")]
    with open(paths[1], encoding="utf-8") as file:
        pod = file.read()
    twin = os.path.join(root, "pod-2.yaml")
    with open(twin, "w", encoding="utf-8") as file:
        # The first name of the manifest is the pod's own, in its metadata.
        file.write(pod.replace(f'name: "{_POD}"', f'name: "{_TWIN}"', 1))
    return (*paths, twin)


def _attach(lab: Lab, node: Node, screen: Screen, name: str, path: str) -> Guest:
    from podnet.model.attachment import Pod

    pod = Pod("default", name)
    start = time.monotonic()
    attached = node.attach(
        path, pod=pod, default_network=os.path.join(SCENARIO, "default.conflist")
    )
    took = (time.monotonic() - start) * 1000
    interfaces = ", ".join(network.interface for network in attached.networks)
    screen.say(f"attached {pod}: {interfaces} in {took:.0f} ms", "good")
    return Guest(pod=str(pod), netns=path, attached=attached, interfaces=lab.interfaces(path))


def _show(screen: Screen, guests: Sequence[Guest]) -> None:
    screen.say()
    screen.say(picture(guests))
    screen.say()
    columns = ("iface", "kind", "addresses", "mac", "mtu", "state", "network")
    for guest in guests:
        rows = [
            (i.name, i.kind, i.assigned, i.mac, str(i.mtu), i.state, guest.short(i.name))
            for i in guest.interfaces
        ]
        screen.table(Table(columns, rows, title=f"pod {guest.pod}"))
        screen.say()


def picture(guests: Sequence[Guest]) -> str:
    """Draw who is connected to whom."""
    from podnet.cli.inventory import GATEWAY, UPLINK

    trunk = f"uplink {GATEWAY} ── node {UPLINK} "
    lines = []
    for n, guest in enumerate(guests):
        last = n == len(guests) - 1
        fork = ("─" if last else "┬") if n == 0 else ("└" if last else "├")
        kind = next((i.kind for i in guest.interfaces if i.name == _INTERFACE), "missing")
        name = guest.pod.rpartition("/")[2]
        start = trunk if n == 0 else " " * len(trunk)
        lines.append(f"{start}{fork}─ {kind} ── {name} {_INTERFACE} {guest.address}")
    return "\n".join(lines)


def _ping_all(lab: Lab, screen: Screen, guests: Sequence[Guest]) -> list[dict[str, Any]]:
    """Ping from each pod to the other and to the gateway beyond the uplink."""
    from podnet.cli.inventory import GATEWAY

    done = []
    for guest in guests:
        others = [other.address for other in guests if other is not guest]
        for target in (*others, GATEWAY):
            seen = _ping(lab, guest, target)
            arrow = f"ping {guest.address} → {target} over {_INTERFACE}"
            if seen.milliseconds is None:
                screen.say(f"{arrow}: {seen.problem}", "bad")
            else:
                screen.say(f"{arrow}: {seen.milliseconds:.2f} ms", "good")
            done.append(
                {
                    "from": guest.address,
                    "to": target,
                    "interface": _INTERFACE,
                    "ms": None if seen.milliseconds is None else round(seen.milliseconds, 3),
                    "problem": seen.problem,
                }
            )
    return done


def _ping(lab: Lab, guest: Guest, target: str) -> Ping:
    return ping(lambda: lab.machine.inside(guest.netns), target, _INTERFACE)


def _check(node: Node, screen: Screen, guests: Sequence[Guest]) -> None:
    for guest in guests:
        node.check(guest.netns)
    screen.say("checked: kernel and leases are as attached", "good")


def _detach(node: Node, screen: Screen, guests: Sequence[Guest]) -> None:
    for guest in guests:
        start = time.monotonic()
        node.detach(guest.netns)
        screen.say(f"detached {guest.pod} in {(time.monotonic() - start) * 1000:.0f} ms", "good")


def _document(guest: Guest) -> dict[str, Any]:
    return {
        "pod": guest.pod,
        "interfaces": [
            {
                "name": i.name,
                "kind": i.kind,
                "mac": i.mac,
                "addresses": list(i.addresses),
                "mtu": i.mtu,
                "state": i.state,
                "network": guest.network(i.name) or None,
            }
            for i in guest.interfaces
        ],
        "networkStatus": guest.attached.network_status,
    }
