"""Address management on real stores: leases in a second, requests and memory for each.

The short profile takes a minute. ``--full`` takes many, and measures with a million leases. What
is counted has to be right on any machine, and ends it with 1 if it is not; what is timed is told
as reached or not, and counts for the exit code with ``--full`` only. Targets: issue 3.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from measures import kubernetes, rates, sizes

from podnet.cli.output import Screen, Table, add_output_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measures.figures import Figure


def plan(options: argparse.Namespace) -> dict[str, Callable[[], Iterator[Figure]]]:
    """Return what is to be measured, by name."""
    full, folder = options.full, options.dir
    rounds = 5 if full else 2
    many = 1_000_000 if full else 20_000
    return {
        "memory": lambda: rates.memory(50_000 if full else 10_000, rounds),
        "file": lambda: rates.file(8000 if full else 2000, rounds, folder),
        "sqlite": lambda: rates.sqlite(4000 if full else 800, rounds, folder),
        "postgresql": lambda: rates.postgresql(12_800 if full else 1600, rounds, folder),
        "shared": lambda: kubernetes.shared(6400 if full else 1280),
        "owned": lambda: kubernetes.owned(10_240 if full else 2048, folder),
        "flat": lambda: kubernetes.flat(many, 12 if full else 4, folder),
        "bytes": lambda: sizes.memory(100_000),
        "opening": lambda: sizes.handles(1_000_000 if full else 100_000, folder),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="measure long, and a million leases")
    parser.add_argument("--only", action="append", help="one of the parts; repeatable")
    parser.add_argument("--dir", default="/var/tmp", help="on the disk to measure")
    parser.add_argument("--json", action="store_true", help="as --output json")
    add_output_option(parser)
    options = parser.parse_args()
    screen = Screen("json" if options.json else options.output)
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    before = rates.load()
    for name, measure in plan(options).items():
        if options.only and name not in options.only:
            continue
        try:
            for figure in measure():
                figures.append(figure)
                if sys.stderr.isatty():
                    print("  ".join(figure.cells()).rstrip(), file=sys.stderr, flush=True)
        except ModuleNotFoundError as error:
            missing[name] = f"{error.name} is not installed"
    load = f"load {before} before and {rates.load()} after"
    rows = [figure.cells() for figure in figures]
    screen.table(Table(("what", "figure", "target", "reached", "note"), rows, load))
    for name, why in missing.items():
        screen.say(f"{name}: not measured: {why}", "bad")
    documents = [figure.document() for figure in figures]
    screen.document({"load": load, "figures": documents, "missing": missing})
    wrong = [f.name for f in figures if f.reached is False and (f.counted or options.full)]
    for name in wrong:
        print(f"off target: {name}", file=sys.stderr)
    return 1 if wrong or (missing and options.full) else 0


if __name__ == "__main__":
    sys.exit(main())
