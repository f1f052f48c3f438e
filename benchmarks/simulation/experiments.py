"""What is compared with what, and the columns in which it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from .medium import KUBERNETES, POSTGRESQL, Medium
from .pods import Workload
from .runs import ONE_OBJECT, OWNED, PER_ADDRESS, SHARED, Case, Outcome
from .shared import Manner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES = (64, 128, 256, 512, 1024, 2048, 4096)


def _number(value: float) -> str:
    """Return a number with three digits that count, and no more of them."""
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


COLUMNS: dict[str, Callable[[Outcome], str]] = {
    "case": lambda o: o.note,
    "mode": lambda o: o.mode,
    "block": lambda o: str(o.block or "-"),
    "nodes": lambda o: _count(o.nodes),
    "leases": lambda o: _count(o.leases),
    "writes": lambda o: _number(o.writes),
    "conflicts": lambda o: _number(o.conflicts),
    "reads": lambda o: _number(o.reads),
    "p50 ms": lambda o: _number(o.p50),
    "p99 ms": lambda o: _number(o.p99),
    "stranded": lambda o: f"{_count(o.stranded)} ({o.stranded_share:.1%})",
    "kB": lambda o: _number(o.kilobytes),
    "objects": lambda o: _count(o.objects),
    "gave up": lambda o: _count(o.refused),
    "MB/s": lambda o: _number(o.kilobytes * o.leases / 1000 / max(1, o.more["seconds"])),
    "recalls": lambda o: _count(o.more["recalls"]),
    "untold": lambda o: _count(o.more["untold"]),
}
"""Headings and what stands under them; counts are for each lease granted, over its whole life."""

_USUAL = (
    "mode", "block", "nodes", "leases", "writes", "conflicts", "reads", "p50 ms", "p99 ms",
    "stranded", "kB", "objects", "gave up",
)  # fmt: skip


def _count(value: int) -> str:
    return f"{value:,}".replace(",", " ")


@frozen(kw_only=True)
class Experiment:
    """Cases that are told in one table.

    Attributes:
        name: short.
        title: what is compared.
        columns: names of ``COLUMNS``.
        cases: in the order of the rows.
    """

    name: str
    title: str
    columns: tuple[str, ...] = _USUAL
    cases: Sequence[Case]

    def row(self, outcome: Outcome) -> tuple[str, ...]:
        """Return an outcome as the cells of a row."""
        return tuple(COLUMNS[column](outcome) for column in self.columns)


def _without(*columns: str) -> tuple[str, ...]:
    return tuple(column for column in _USUAL if column not in columns)


def _noted(*more: str) -> tuple[str, ...]:
    return ("case", *_without("nodes", "leases", "block", "objects"), *more)


def sizes(nodes: int, held: int, pool: int, medium: Medium = KUBERNETES) -> Experiment:
    """Compare block sizes in both modes."""
    workload = Workload(nodes=nodes, held=held)
    return Experiment(
        name="sizes",
        title=f"Block sizes: {nodes} nodes, {_count(held)} leases and churn, "
        f"a pool of {_count(pool)}, {medium.name}",
        columns=_without("nodes", "leases"),
        cases=[
            Case(mode=mode, block=block, pool=pool, workload=workload, medium=medium)
            for mode in (SHARED, OWNED)
            for block in SIZES
        ],
    )


def million(leases: int = 1_000_000, nodes: int = 2000) -> Experiment:
    """Have a million leases granted on two thousand nodes."""
    workload = Workload(nodes=nodes, held=leases * 4 // 5)
    return Experiment(
        name="million",
        title=f"{_count(leases)} leases granted on {_count(nodes)} nodes, a pool of 2 097 152",
        cases=[
            Case(mode=OWNED, block=block, pool=1 << 21, workload=workload) for block in (256, 512)
        ],
    )


def others(nodes: int = 10, held: int = 800) -> Experiment:
    """Compare with other designs."""
    workload = Workload(nodes=nodes, held=held, rate=5.0)
    return Experiment(
        name="designs",
        title=f"Other designs: {nodes} nodes, {_count(held)} leases and churn, 5 pods/s, a pool of "
        "8 192",
        columns=_without("nodes", "leases", "block"),
        cases=[
            Case(mode=mode, pool=8192, workload=workload)
            for mode in (ONE_OBJECT, PER_ADDRESS, SHARED, OWNED)
        ],
    )


def pools(nodes: Sequence[int] = (10, 50), most: int = 64) -> Experiment:
    """Compare the modes in pools of few blocks and many, each half full."""
    cases = []
    for number in nodes:
        for blocks in (1, 2, 4, 8, 16, 32, 64, 128):
            if blocks > most or blocks * 64 < number:
                continue
            held = min(blocks * 256, 80 * number)
            workload = Workload(nodes=number, held=held, churn=0.5, deaths=0.0)
            note = f"{number} nodes, {blocks} block{'s' * (blocks > 1)}"
            cases += [
                Case(mode=mode, pool=blocks * 512, workload=workload, note=note)
                for mode in (SHARED, OWNED)
            ]
    return Experiment(
        name="pools",
        title="From which pool on it pays to own blocks of 512: half of the pool held at most",
        columns=_noted("recalls"),
        cases=cases,
    )


def publishing(nodes: int = 100, held: int = 20_000) -> Experiment:
    """Compare how long nodes wait before they tell what they did."""
    workload = Workload(nodes=nodes, held=held)
    return Experiment(
        name="publishing",
        title=f"When nodes tell what they did: {nodes} nodes, {_count(held)} leases and churn",
        columns=("case", "writes", "kB", "MB/s", "p99 ms", "untold"),
        cases=[
            Case(
                mode=OWNED,
                pool=1 << 16,
                workload=workload,
                manner=Manner(publish_every=seconds),
                note=f"after {seconds:g} s",
            )
            for seconds in (5.0, 30.0, 60.0, 120.0, 300.0, 900.0)
        ],
    )


def together() -> Experiment:
    """Compare ways of one node, and of several, to serve requests that come at once."""
    one = Workload(nodes=1, held=480, deployment=32, burst=0.002, rate=64.0, churn=0.0)
    ten = Workload(nodes=10, held=2000, deployment=100, burst=1.0, rate=50.0, deaths=0.0)
    manners = {
        "one by one": Manner(together=False),
        "together": Manner(),
        "together, after 5 ms": Manner(linger=0.005),
        "together, after 20 ms": Manner(linger=0.02),
        "together, pauses to 1 s": Manner(back_off=0.02, pause_most=1.0),
    }
    return Experiment(
        name="together",
        title="Group commit, shared mode: callers of one node by 32, and 10 nodes in bursts",
        columns=("case", "writes", "conflicts", "p50 ms", "p99 ms", "gave up"),
        cases=[
            Case(mode=SHARED, pool=pool, workload=workload, manner=manner, note=f"{who}: {how}")
            for who, workload, pool in (("1 node", one, 512), ("10 nodes", ten, 4096))
            for how, manner in manners.items()
        ],
    )


def ways() -> Experiment:
    """Compare what the engine does, which is marked, with what else it could do."""
    by_name = Manner(start="node", few_blocks=1)
    manners = [
        (SHARED, "lowest block first, all read", Manner(start="lowest", few_blocks=8)),
        (SHARED, "block by name, all read", Manner(start="node", few_blocks=8)),
        (SHARED, "block by name", by_name),
        (OWNED, "borrows, lowest block first", Manner(borrow="lowest", ask_when_lost=False)),
        (OWNED, "borrows, block by name", Manner(ask_when_lost=False)),
        (OWNED, "and asks for one when it loses", Manner()),
    ]
    cases = []
    for nodes, blocks in ((50, 8), (50, 16), (50, 32), (200, 32)):
        held = min(blocks * 256, 80 * nodes)
        workload = Workload(nodes=nodes, held=held, churn=0.5, deaths=0.0)
        for mode, how, manner in manners:
            mark = " ◂" if manner == Manner() else ""
            note = f"{nodes} nodes, {blocks} blocks: {how}{mark}"
            cases.append(
                Case(mode=mode, pool=blocks * 512, workload=workload, manner=manner, note=note)
            )
    return Experiment(
        name="ways",
        title="Many nodes on few blocks; ◂ marks what podnet does",
        columns=_noted("recalls"),
        cases=cases,
    )


def troubles(nodes: int = 20, held: int = 4000) -> Experiment:
    """Compare the modes while the store is away, slow or drops answers, and in a full pool."""
    workload = Workload(nodes=nodes, held=held)
    media = {
        "as usual": KUBERNETES,
        "store away for 60 s": evolve(KUBERNETES, outage=(100.0, 60.0)),
        "1 % of answers lost": evolve(KUBERNETES, lost=0.01),
        "50 writes/s at most": evolve(KUBERNETES, writes_per_second=50.0),
        "postgresql": POSTGRESQL,
    }
    cases = [
        Case(mode=mode, pool=1 << 14, workload=workload, medium=medium, note=note)
        for note, medium in media.items()
        for mode in (SHARED, OWNED)
    ]
    full = evolve(workload, held=15_500, churn=0.1)
    cases += [
        Case(mode=mode, pool=1 << 14, workload=full, note="pool 95 % full")
        for mode in (SHARED, OWNED)
    ]
    return Experiment(
        name="troubles",
        title=f"When things go wrong: {nodes} nodes, a pool of 16 384",
        columns=_noted("recalls"),
        cases=cases,
    )


def tiny() -> list[Experiment]:
    """Return what CI runs, and compares with the docs, in a few seconds."""
    small = sizes(nodes=8, held=800, pool=4096)
    cases = [case for case in small.cases if case.block in (64, 512, 4096)]
    return [evolve(small, cases=cases), others(nodes=4, held=60)]


def page() -> list[Experiment]:
    """Return what the docs show; three minutes."""
    return [
        sizes(nodes=50, held=10_000, pool=1 << 15),
        others(),
        pools(),
        ways(),
        together(),
        publishing(),
        troubles(),
        million(),
    ]


PROFILES = {"tiny": tiny, "page": page}
