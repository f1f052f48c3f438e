"""``podnet ipam leases``: who has which address."""

from __future__ import annotations

import json
import time
from itertools import islice
from typing import TYPE_CHECKING

from podnet.cli.ipam_common import add_options, age, lease_document, opened, whose
from podnet.cli.ipam_filter import add_filter_options, filter_of
from podnet.cli.ipam_progress import progress
from podnet.cli.letters import printable
from podnet.cli.output import Table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from podnet.cli.output import Screen
    from podnet.model.lease import Lease

_EPILOG = """\
Leases come in the order of domains and addresses. A million of them cost no more memory than a
thousand, unless another order is asked for.

examples:
  podnet ipam leases --pool storage --node worker-1
  podnet ipam leases --cidr 192.168.60.0/28 --older-than 3d
  podnet ipam leases --output json | jq '.leases[].address'
"""

# Rows that columns are measured by; what comes after them is printed as it comes.
_MEASURED = 2000
_COLUMNS = ("address", "pool", "owner", "container", "node", "network", "age")

_ORDERS: dict[str, Callable[[Lease], object]] = {
    "since": lambda lease: lease.since,
    "node": lambda lease: (lease.node, lease.domain, lease.ip),
    "pod": lambda lease: (lease.owner.pod_namespace, lease.owner.pod_name, lease.ip),
    "pool": lambda lease: (lease.domain, lease.pool, lease.ip),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    add_filter_options(parser)
    parser.add_argument(
        "--sort", choices=("address", *_ORDERS), default="address", help="order (address)"
    )
    add_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """List leases."""
    from podnet.engine.usage_leases import search

    now = time.time()
    wanted = filter_of(args, now)
    with opened(args) as here, progress("reading blocks") as shown:
        found: Iterable[Lease] = search(here.store, wanted, shown.step)
        if args.sort != "address":
            found = sorted(found, key=_ORDERS[args.sort])  # type: ignore[arg-type]  # each orders itself
        if screen.json:
            _print_json(found, screen)
        else:
            _print_rows(found, screen, now, shown.clear)
    return 0


def _print_json(found: Iterable[Lease], screen: Screen) -> None:
    """Print one document, of which a reader need not see the end: each lease has its own line."""
    screen.write('{\n  "leases": [')
    comma = ""
    for lease in found:
        screen.write(f"{comma}\n    {json.dumps(lease_document(lease))}")
        comma = ","
    screen.write("\n  ]\n}\n" if comma else "]\n}\n")


def _print_rows(
    found: Iterable[Lease], screen: Screen, now: float, clear: Callable[[], None]
) -> None:
    rows = (_row(lease, now) for lease in found)
    first = list(islice(rows, _MEASURED))
    clear()
    if not first:
        screen.say("no lease fits", "note")
    elif len(first) < _MEASURED:
        screen.table(Table(_COLUMNS, first))
    else:
        for line in _lines(first, rows):
            screen.write(line)


def _lines(first: list[tuple[str, ...]], rest: Iterator[tuple[str, ...]]) -> Iterator[str]:
    head = tuple(column.upper() for column in _COLUMNS)
    widths = [max(len(row[n]) for row in (head, *first)) for n in range(len(_COLUMNS))]
    for rows in ((head,), first, rest):
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(cells).rstrip() + "\n"


def _row(lease: Lease, now: float) -> tuple[str, ...]:
    container = lease.owner.container_id
    cells = (
        str(lease.cidr),
        lease.pool,
        whose(lease),
        container if len(container) <= 26 else f"{container[:12]}…",
        lease.node,
        lease.network,
        age(lease.since, now),
    )
    return tuple(printable(cell) or "-" for cell in cells)
