"""Planning one attachment: milliseconds of pure decisions, and netlink sends of the whole.

Sends are counted on the real kernel, in namespaces of the benchmark's own, where these can be had.
Exit code 1: a figure is off its target.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time

from podnet.errors import PodnetError
from podnet.interface import macvlan, ptp
from podnet.model.attachment import Call
from podnet.model.ops import CreateLink
from podnet.model.result import IP, Result, Route
from podnet.testing.driver_contract import MASTER, SANDBOX, machine

ANSWER = Result(
    ips=(IP("10.1.0.5/24", "10.1.0.1"), IP("fd00::5/64", "fd00::1")),
    routes=(Route("0.0.0.0/0"), Route("::/0"), Route("192.168.0.0/16", "10.1.0.9")),
)
CONFIGS = {
    "macvlan": (macvlan, {"type": "macvlan", "master": MASTER, "ipam": {"type": "static"}}),
    "ptp": (ptp, {"type": "ptp", "ipam": {"type": "static"}}),
}
TARGET_MS = 1.0
TARGET_SENDS = {"macvlan": (3, 2), "ptp": (3, 4)}
ROUNDS = 500


def planning(name):
    """Return the median of reading, creating, configuring and telling one attachment, in ms."""
    driver, config = CONFIGS[name]
    call = Call(
        plugin=name,
        verb="ADD",
        container_id="c1",
        netns=SANDBOX,
        ifname="eth1",
        config={"name": "net", **config},
    )
    with machine().open(SANDBOX) as sandbox:
        facts = sandbox.probe(driver.parents(driver.read(call)))
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        want = driver.read(call, node="node-1")
        have = facts
        for op in driver.plan(want, have):
            if isinstance(op, CreateLink):
                have = have.created(op)
        want = driver.configured(want, ANSWER)
        driver.plan(want, have)
        driver.result(want, have)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def sends(name):
    """Return the netlink sends of ADD and of DEL on the real kernel; None where it is not to be."""
    from podnet.kernel.sandbox import Kernel
    from podnet.testing.namespaces import Namespace, inside, ip
    from podnet.testing.plugin_room import Room

    try:
        node, pod = Namespace(), Namespace()
    except BaseException as error:  # pytest's skip, which is no Exception
        print(f"no namespaces: {error}", file=sys.stderr)
        return None
    with inside(node.fd), Kernel() as kernel, tempfile.TemporaryDirectory() as folder:
        ip("link", "add", MASTER, "type", "veth", "peer", "name", "far0")
        ip("link", "set", MASTER, "up")
        room = Room(folder, kernel, ANSWER)
        call = room.call("ADD", pod.path, CONFIGS[name][1])
        room.run(call)
        add = kernel.sends
        room.again(call, "DEL")
        counts = (add, kernel.sends - add)
    pod.end()
    node.end()
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    figures, missed = {}, []
    for name in CONFIGS:
        milliseconds = planning(name)
        figures[name] = {"plan_ms": round(milliseconds, 3), "target_ms": TARGET_MS}
        if milliseconds >= TARGET_MS:
            missed.append(f"{name}: planning takes {milliseconds:.3f} ms")
        try:
            counts = sends(name)
        except PodnetError as error:
            counts = None
            print(f"{name}: {error}", file=sys.stderr)
        if counts is not None:
            figures[name]["sends"] = {"add": counts[0], "del": counts[1]}
            if any(count > limit for count, limit in zip(counts, TARGET_SENDS[name], strict=True)):
                missed.append(f"{name}: {counts[0]} and {counts[1]} sends")
    if options.json:
        print(json.dumps({"figures": figures, "missed": missed}, indent=2))
    else:
        for name, figure in figures.items():
            counts = figure.get("sends", {"add": "-", "del": "-"})
            print(
                f"{name:8} plan {figure['plan_ms']:6.3f} ms (target < {TARGET_MS} ms), "
                f"netlink sends: ADD {counts['add']}, DEL {counts['del']}"
            )
    for line in missed:
        print(f"off target: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
