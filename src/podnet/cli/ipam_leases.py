"""``podnet ipam leases``: who has which address."""

from __future__ import annotations

import json
import time
from itertools import islice
from typing import TYPE_CHECKING

from podnet.cli.ipam_common import (
    add_options,
    age,
    complain,
    fault_documents,
    lease_document,
    opened,
    whose,
)
from podnet.cli.ipam_filter import add_filter_options, filter_of
from podnet.cli.ipam_known import require_known
from podnet.cli.ipam_progress import progress
from podnet.cli.letters import printable
from podnet.cli.output import Table
from podnet.errors import PodnetError
from podnet.ipam.reserve import PREFIX

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from podnet.cli.ipam_common import Opened
    from podnet.cli.output import Screen
    from podnet.engine.usage_leases import Faults
    from podnet.ipam.usage_filter import Filter
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
    faults: Faults = []
    with opened(args) as here, progress("reading blocks") as shown:
        found: Iterable[Lease] = search(here.store, wanted, shown.step, faults=faults)
        if args.sort != "address":
            found = sorted(found, key=_ORDERS[args.sort])  # type: ignore[arg-type]  # each orders itself
        found = _some(iter(found), here, wanted, faults)
        if screen.json:
            return _print_json(found, screen, faults)
        _print_rows(found, screen, now, shown.clear)
    complain(screen, faults)
    return 1 if faults else 0


def _some(found: Iterator[Lease], here: Opened, wanted: Filter, faults: Faults) -> Iterator[Lease]:
    """Pass leases on; where there are none, make sure that what was asked for is known.

    Raises:
        NetworkNotFoundError: it is not.
    """
    lease = None
    for lease in found:
        yield lease
    if lease is None and not faults:
        require_known(
            here,
            domain=wanted.domain,
            pool=wanted.pool,
            network=wanted.network,
            node=wanted.node,
        )


def _print_json(found: Iterator[Lease], screen: Screen, faults: Faults) -> int:
    """Print one document, of which a reader need not see the end: each lease has its own line.

    An error after its beginning is told beside it, and it stays without an end: nobody is to take
    it for all leases.

    Raises:
        PodnetError: nothing was printed, yet.
    """
    lease = next(found, None)
    screen.write('{\n  "leases": [')
    comma = ""
    while lease is not None:
        screen.write(f"{comma}\n    {json.dumps(lease_document(lease))}")
        comma = ","
        try:
            lease = next(found, None)
        except PodnetError as error:
            screen.write("\n")
            screen.complain(str(error))
            return 1
    screen.write("\n  ]" if comma else "]")
    if faults:
        screen.write(f',\n  "faults": {json.dumps(fault_documents(faults))}')
    screen.write("\n}\n")
    complain(screen, faults)
    return 1 if faults else 0


def _print_rows(
    found: Iterable[Lease], screen: Screen, now: float, clear: Callable[[], None]
) -> None:
    rows = (_row(run, now) for run in _folded(found))
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


def _folded(found: Iterable[Lease]) -> Iterator[tuple[Lease, Lease]]:
    """Yield leases as first and last of a run: addresses of one reservation are one row."""
    run: tuple[Lease, Lease] | None = None
    for lease in found:
        if run is not None and _continues(run[1], lease):
            run = run[0], lease
            continue
        if run is not None:
            yield run
        run = lease, lease
    if run is not None:
        yield run


def _continues(last: Lease, lease: Lease) -> bool:
    return (
        lease.claim.startswith(PREFIX)
        and lease.ip.value == last.ip.value + 1
        and (lease.claim, lease.domain, lease.length, lease.since, lease.ip.version)
        == (last.claim, last.domain, last.length, last.since, last.ip.version)
    )


def _row(run: tuple[Lease, Lease], now: float) -> tuple[str, ...]:
    lease, last = run
    container = lease.owner.container_id
    cells = (
        str(lease.cidr) if lease is last else f"{lease.ip}-{last.ip}",
        lease.pool,
        whose(lease),
        container if len(container) <= 26 else f"{container[:12]}…",
        lease.node,
        lease.network,
        age(lease.since, now),
    )
    return tuple(printable(cell) or "-" for cell in cells)
