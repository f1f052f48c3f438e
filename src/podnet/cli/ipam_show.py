"""``podnet ipam show``: how full pools are, by whom, and where in the address space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.cli import ipam_map
from podnet.cli.ipam_common import add_options, complain, fault_documents, number, opened
from podnet.cli.ipam_progress import progress
from podnet.cli.output import Table
from podnet.errors import IOFailureError, NetworkNotFoundError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.ipam_common import Opened
    from podnet.cli.output import Screen
    from podnet.engine.usage_leases import Faults
    from podnet.engine.usage_pools import Defined
    from podnet.ipam.usage import Usage

_EPILOG = """\
Pools are those that the network definitions of the settings tell of, and what the leases in the
store tell besides. A pool of which no definition is known here is shown without its size.

examples:
  podnet ipam show
  podnet ipam show storage
  podnet ipam show 192.168.60.0/24 --svg pool.svg
"""

# With more pools than these, maps are drawn of those only that are asked for by name.
_FEW = 4
_CELLS = 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "what",
        nargs="?",
        metavar="POOL|DOMAIN|NETWORK",
        help="name or network of a pool, a collision domain, or a CNI network; default: all",
    )
    parser.add_argument("--no-map", action="store_true", help="no map of the address space")
    parser.add_argument("--svg", metavar="FILE", help="write the maps as SVG as well")
    add_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Show pools."""
    from podnet.engine.usage_pools import defined

    damaged: Faults = []
    with opened(args) as here:
        known = defined(here.house)
        drawn = not (args.no_map or screen.json)
        usages = _count(args, here, known, _CELLS if args.svg or drawn else 0, damaged)
        moving = _moving(here)
    _say(screen, usages, moving, maps=drawn and (bool(args.what) or len(usages) <= _FEW))
    if args.svg:
        _write_svg(args.svg, usages)
        screen.say(f"wrote {args.svg}", "good")
    faults = (*known.faults, *damaged)
    complain(screen, faults)
    screen.document(
        {
            "pools": [document(usage) for usage in usages],
            "moving": [{"domain": domain, "what": what} for domain, what in moving],
            "faults": fault_documents(faults),
        }
    )
    return 1 if damaged else 0


def _count(
    args: argparse.Namespace, here: Opened, known: Defined, cells: int, damaged: Faults
) -> tuple[Usage, ...]:
    from attrs import evolve

    from podnet.engine.usage import usage

    names = {id(pool): networks for pool, networks in known.pools}
    pools = [
        pool for pool, networks in known.pools if not args.what or _is(args.what, pool, networks)
    ]
    # What no definition tells of may be what is asked for.
    only = bool(args.what and pools)
    with progress("reading blocks") as shown:
        found = usage(
            here.store,
            pools if only else [pool for pool, _ in known.pools],
            node=here.settings.node,
            cells=cells,
            only=only,
            progress=shown.step,
            faults=damaged,
        )
    usages = [evolve(each, networks=names.get(id(each.pool), ())) for each in found]
    wanted = [each for each in usages if not args.what or _is(args.what, each.pool, each.networks)]
    if args.what and not wanted:
        there = sorted({each.pool.name for each in usages} | {each.pool.domain for each in usages})
        raise NetworkNotFoundError(
            f"no pool, domain or network is called {args.what}",
            f"there are {', '.join(there)}"
            if there
            else "the store is empty, and no network known",
        )
    return tuple(wanted)


def _is(what: str, pool: Any, networks: Sequence[str]) -> bool:
    names = {pool.name, pool.domain, str(pool.network), *networks}
    return what in names | {name.rpartition("/")[2] for name in networks}


def _moving(here: Opened) -> tuple[tuple[str, str], ...]:
    from podnet.engine.usage import moving

    return tuple(moving(here.store.home))


def _write_svg(path: str, usages: Sequence[Usage]) -> None:
    from podnet.cli.ipam_svg import render

    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(render(usages))
    except OSError as error:
        raise IOFailureError(f"cannot write {path}", error.strerror or "") from error


def _say(
    screen: Screen,
    usages: Sequence[Usage],
    moving: Sequence[tuple[str, str]],
    *,
    maps: bool,
) -> None:
    if usages:
        screen.table(Table(_COLUMNS, [_row(usage) for usage in usages]))
    else:
        screen.say("no pool is known, and there are no leases", "note")
    nodes = [row for usage in usages for row in _nodes(usage)]
    if nodes:
        screen.say()
        screen.table(Table(("pool", "node", "leases", "own blocks"), nodes))
    for usage in usages if maps else ():
        if usage.cells:
            screen.say()
            screen.say(f"{usage.pool.name}{_part(usage)}", "head")
            ipam_map.draw(usage, screen)
    for domain, what in moving:
        screen.say(f"domain {domain} {what}", "note")


_COLUMNS = ("pool", "domain", "network", "size", "used", "free", "resting", "kept", "closed")


def _row(usage: Usage) -> tuple[str, ...]:
    pool = usage.pool
    head = (pool.name, pool.domain, str(pool.network))
    if not usage.defined:
        return (*head, "?", number(usage.used), "?", "", number(usage.kept), "")
    free = number(usage.free)
    if usage.longest_free < usage.free:
        free += f" in {number(usage.free_runs)} runs"
    return (
        *head,
        number(usage.size),
        f"{number(usage.used)} ({_percent(usage.used, usage.size)})",
        free,
        number(usage.resting),
        number(usage.kept),
        number(usage.closed),
    )


def _percent(part: int, whole: int) -> str:
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    # 100% is said of a full pool only.
    return "<1%" if share < 1 else f"{int(share)}%"


def _nodes(usage: Usage) -> list[tuple[str, ...]]:
    names = sorted(usage.by_node.keys() | usage.holders.keys())
    return [
        (
            usage.pool.name,
            name or "(unknown)",
            number(usage.by_node.get(name, 0)),
            number(usage.holders.get(name, 0)),
        )
        for name in names
    ]


def _part(usage: Usage) -> str:
    from podnet.ipam.usage import window
    from podnet.model.addresses import Address

    first, last = usage.cells[0].first, usage.cells[-1].last
    if (first, last) == window(usage.pool, None, 1):
        return ""
    version = usage.pool.network.version
    return f": {Address(version, first)} to {Address(version, last)}, nothing elsewhere is in use"


def document(usage: Usage) -> dict[str, Any]:
    """Return the usage of a pool as a JSON object; what is not known of it is null."""
    pool = usage.pool

    def known(value: int) -> int | None:
        return value if usage.defined else None

    return {
        "pool": pool.name,
        "domain": pool.domain,
        "network": str(pool.network),
        "networks": list(usage.networks),
        "defined": usage.defined,
        "size": known(usage.size),
        "used": usage.used,
        "free": known(usage.free),
        "resting": known(usage.resting),
        "kept": usage.kept,
        "closed": known(usage.closed),
        "outside": usage.outside,
        "freeRuns": known(usage.free_runs),
        "longestFree": known(usage.longest_free),
        "blocks": usage.blocks,
        "nodes": [
            {
                "node": name,
                "leases": usage.by_node.get(name, 0),
                "ownBlocks": usage.holders.get(name, 0),
            }
            for name in sorted(usage.by_node.keys() | usage.holders.keys())
        ],
    }
