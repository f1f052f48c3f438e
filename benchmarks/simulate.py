"""What address management costs in a cluster: thousands of nodes and a million leases, simulated.

Nodes behave as ``podnet.engine`` does, on a modelled store and in virtual time, and the same seed
gives the same run. Prints, for each lease granted and over its whole life, writes, conflicts, reads
and bytes; how long allocations took; and how many free addresses are in blocks that some node
holds. Tables on a terminal, JSON elsewhere. ``docs/explanation/choosing-modes-and-block-size.md``
is written by ``--write``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, evolve
from simulation import drawing, experiments, pages
from simulation.experiments import Experiment
from simulation.medium import MEDIA
from simulation.pods import Workload
from simulation.runs import MODES, Case, Outcome, run

from podnet.cli.output import Screen, Table, add_output_option

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import SynchronizedArray

DOCS = Path(__file__).parents[1] / "docs" / "explanation"
PAGE = DOCS / "choosing-modes-and-block-size.md"
PLOT = DOCS / "block-sizes.svg"
_LOOK = 0.2

_done: SynchronizedArray[int]


def _begin(done: SynchronizedArray[int]) -> None:
    global _done  # noqa: PLW0603 - how a pool's processes are given what they share
    _done = done


def _one(number: int, case: Case) -> Outcome:
    def note(leases: int) -> None:
        _done[number] = leases

    outcome = run(case, note)
    _done[number] = case.leases
    return outcome


class Progress:
    """How far it has come, on standard error where somebody looks at it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = time.monotonic()
        self._shown = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Draw the line anew."""
        if self._shown:
            part = min(1.0, done / self._total)
            bar = "█" * int(30 * part) + "░" * (30 - int(30 * part))
            spent = time.monotonic() - self._begun
            left = f", {spent / part - spent:.0f} s left" if part > 0.02 else ""
            text = f"{bar} {part:4.0%}  {done:,} of {self._total:,} leases{left}"
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Wipe it away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run_all(cases: list[Case], jobs: int) -> list[Outcome]:
    """Run cases side by side, the longest first."""
    done = multiprocessing.Array("q", len(cases), lock=False)
    progress = Progress(sum(case.leases for case in cases))
    order = sorted(range(len(cases)), key=lambda n: -cases[n].leases)
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=(done,)) as pool:
        futures = {n: pool.submit(_one, n, cases[n]) for n in order}
        while not all(future.done() for future in futures.values()):
            progress.show(sum(done))
            time.sleep(_LOOK)
        progress.end()
        return [futures[n].result() for n in range(len(cases))]


def chosen(options: argparse.Namespace) -> list[Experiment]:
    """Return what is to be run."""
    if options.nodes is None and options.leases is None:
        found = experiments.PROFILES[options.profile]()
        return [each for each in found if not options.only or each.name in options.only]
    nodes, leases = options.nodes or 10, options.leases or 1000
    workload = Workload(nodes=nodes, held=leases * 4 // 5)
    medium = MEDIA[options.store]
    outage = (options.away[0], options.away[1]) if options.away else (0.0, 0.0)
    medium = evolve(medium, lost=options.lost, outage=outage)
    cases = [
        Case(
            mode=mode,
            block=block,
            pool=options.pool or leases * 2,
            workload=workload,
            medium=medium,
        )
        for mode in options.mode or MODES[:2]
        for block in options.block or [512]
    ]
    return [Experiment(name="chosen", title=f"On {medium.name}", cases=cases)]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=experiments.PROFILES, default="tiny")
    parser.add_argument("--only", action="append", help="an experiment of the profile; repeatable")
    one = parser.add_argument_group("a run of one's own, in place of a profile")
    one.add_argument("--nodes", type=int)
    one.add_argument("--leases", type=int, help="to be granted")
    one.add_argument("--pool", type=int, help="addresses; twice the leases if not given")
    one.add_argument("--mode", action="append", choices=MODES)
    one.add_argument("--block", action="append", type=int, help="addresses of a block; repeatable")
    one.add_argument("--store", choices=MEDIA, default="kubernetes")
    one.add_argument("--lost", type=float, default=0.0, help="share of answers that are lost")
    one.add_argument("--away", type=float, nargs=2, metavar=("FROM", "SECONDS"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--plot", type=Path, help="write the table of block sizes as SVG")
    parser.add_argument("--write", action="store_true", help="write tables and plot of the docs")
    add_output_option(parser)
    options = parser.parse_args(arguments)
    known = [each.name for each in experiments.PROFILES[options.profile]()]
    if unknown := sorted(set(options.only or ()) - set(known)):
        parser.error(f"no experiment is called {', '.join(unknown)}; there is {', '.join(known)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    found = [
        evolve(each, cases=[evolve(case, seed=options.seed) for case in each.cases])
        for each in chosen(options)
    ]
    cases = [case for each in found for case in each.cases]
    outcomes = iter(run_all(cases, min(options.jobs, len(cases))))
    told = {each.name: (each, [next(outcomes) for _ in each.cases]) for each in found}
    screen = Screen(options.output)
    for each, came in told.values():
        rows = [each.row(outcome) for outcome in came]
        screen.table(Table(each.columns, rows, each.title))
        screen.say()
        if each.name == "sizes" and options.plot:
            options.plot.write_text(drawing.draw(each.columns, rows), encoding="utf-8")
    screen.document({name: [asdict(one) for one in came] for name, (_, came) in told.items()})
    if options.write:
        write(told, options.profile)
    return 0


def write(told: dict[str, tuple[Experiment, list[Outcome]]], profile: str) -> None:
    """Put tables and plot into the docs."""
    page = PAGE.read_text(encoding="utf-8")
    for name, (each, came) in told.items():
        rows = [each.row(outcome) for outcome in came]
        place = name if profile == "page" else f"{profile}-{name}"
        page = pages.replaced(page, place, pages.markdown(each.title, each.columns, rows))
        if place == "sizes":
            PLOT.write_text(drawing.draw(each.columns, rows), encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
