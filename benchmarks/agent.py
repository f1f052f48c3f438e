"""What a call costs through shim and agent, against Debian's CNI plugins in the same run.

Makes a network namespace of its own (root, or an unprivileged user namespace), and in turns has
each side attach and detach a sandbox: macvlan with static addresses and with host-local. The ratio
of the medians is the figure. Targets are those of the agent: 0.6 for ADD; at most half for VERSION.
Exit code 2 if the peers are missing, 1 off target with ``--check``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from podnet.cli.output import Screen, Table, add_output_option

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = "/usr/lib/cni"
COMMAND = [sys.executable, "-m", "podnet.cli.main"]
INSIDE = "PODNET_BENCH_INSIDE"
IPAM = {
    "static": {"type": "static", "addresses": [{"address": "10.9.0.9/24"}]},
    "host-local": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
}
TARGETS = {"VERSION": 0.5, "ADD static": 0.6, "ADD host-local": 0.6}


def inside() -> int:
    """Run this script again in namespaces that end with it."""
    user = [] if os.geteuid() == 0 else ["-U", "--map-root-user"]
    command = ["unshare", *user, "-n", "-m", "--propagation", "private", "--kill-child", "--fork"]
    return subprocess.run(
        [*command, sys.executable, *sys.argv], env={**os.environ, INSIDE: "1"}, check=False
    ).returncode


def sandbox(names: list[str]) -> None:
    """Make the uplink and the sandboxes."""
    commands = [
        ["mount", "-t", "tmpfs", "tmpfs", "/run"],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0"],
        ["ip", "link", "set", "up0", "up"],
        ["ip", "link", "set", "far0", "up"],
        *(["ip", "netns", "add", name] for name in names),
    ]
    for command in commands:
        subprocess.run(command, check=True)


@contextmanager
def agent(folder: Path) -> Iterator[Path]:
    """Have the shim installed and an agent running; return the folder of the executables."""
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    install = [*COMMAND, "plugin", "install", "--bin-dir", str(bin_dir), "--agent", "--name"]
    subprocess.run([*install, "macvlan"], check=True, stdout=subprocess.DEVNULL)
    os.environ["PODNET_SOCKET"] = str(folder / "agent" / "agent.sock")
    os.environ["PODNET_STATE_DIR"] = str(folder / "state")
    process = subprocess.Popen([*COMMAND, "agent"], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(os.environ["PODNET_SOCKET"]):
            if process.poll() is not None:
                raise SystemExit("the agent ended")
            time.sleep(0.05)
        yield bin_dir
    finally:
        process.terminate()
        process.wait(30)


def call(program: Path | str, verb: str, name: str, config: dict[str, object]) -> float:
    """Return the milliseconds of one call from start to end."""
    environ = {
        **{key: value for key, value in os.environ.items() if key.startswith("PODNET_")},
        "PATH": "/usr/bin:/bin",
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": name,
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth1",
        "CNI_PATH": PEERS,
    }
    data = json.dumps(config).encode()
    begin = time.perf_counter()
    done = subprocess.run([str(program)], input=data, env=environ, capture_output=True, check=False)
    spent = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{program} {verb}: {done.stdout.decode()}")
    return spent * 1000


def measure(bin_dir: Path, folder: Path, rounds: int) -> list[dict[str, object]]:
    """Return medians of both sides and their ratio, for each case."""
    sides = {"podnet": bin_dir / "macvlan", "peer": Path(PEERS, "macvlan")}
    found: dict[str, dict[str, list[float]]] = {}

    def note(case: str, side: str, spent: float) -> None:
        found.setdefault(case, {}).setdefault(side, []).append(spent)

    for number in range(rounds):
        for side, program in sides.items():
            note("VERSION", side, call(program, "VERSION", "p0", {}))
            for kind, ipam in IPAM.items():
                config = {
                    "cniVersion": "1.0.0",
                    "name": f"bench-{side}",
                    "type": "macvlan",
                    "master": "up0",
                    "ipam": {**ipam, "dataDir": f"{folder}/leases-{side}"},
                }
                name = f"p{number % 2}"
                note(f"ADD {kind}", side, call(program, "ADD", name, config))
                note(f"DEL {kind}", side, call(program, "DEL", name, config))
    rows = []
    for case, spent in found.items():
        ours, theirs = (statistics.median(spent[side]) for side in sides)
        rows.append(
            {
                "case": case,
                "podnet_ms": round(ours, 2),
                "peer_ms": round(theirs, 2),
                "ratio": round(ours / theirs, 2),
                "target": TARGETS.get(case),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    add_output_option(parser)
    options = parser.parse_args()
    if not os.access(f"{PEERS}/macvlan", os.X_OK):
        print("apt install containernetworking-plugins", file=sys.stderr)
        return 2
    if INSIDE not in os.environ:
        return inside()
    screen = Screen(options.output)
    sandbox(["p0", "p1"])
    with (
        tempfile.TemporaryDirectory(prefix="podnet-bench-", dir="/var/tmp") as name,
        agent(Path(name)) as bin_dir,
    ):
        rows = measure(bin_dir, Path(name), options.rounds)
    columns = ("case", "podnet_ms", "peer_ms", "ratio", "target")
    cells = [tuple("" if row[c] is None else str(row[c]) for c in columns) for row in rows]
    screen.table(Table(tuple(c.replace("_", " ") for c in columns), cells))
    screen.document({"cases": rows})
    off = [row for row in rows if row["target"] and row["ratio"] > row["target"]]  # type: ignore[operator]
    return 1 if off and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
