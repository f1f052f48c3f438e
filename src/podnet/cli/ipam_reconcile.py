"""``podnet ipam reconcile``: leases without a live owner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from podnet.cli.ipam_common import (
    add_options,
    add_yes_option,
    age,
    confirmed,
    lease_document,
    opened,
    parse_duration,
    whose,
)
from podnet.cli.output import Table, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.ipam_common import Opened
    from podnet.cli.output import Screen
    from podnet.engine.reconcile import Finding

_EPILOG = """\
The leases of this node are compared with its journal and with the network namespaces that there
are. A lease is released if its owner's namespace is gone, or if there is no record of it and no
namespace of this node has the address. Never released are leases of other nodes, leases that a
claim or an administrator keeps, and leases younger than the grace.
It has to be run as root: what cannot be looked at is taken for alive.

examples:
  podnet ipam reconcile --dry-run --all
  podnet ipam reconcile --grace 1h
  podnet ipam reconcile --dead-node worker-3
"""

# Stores of one node's own, whose files tell no node.
_OWN = ("host-local",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--dry-run", action="store_true", help="release nothing")
    parser.add_argument("--all", action="store_true", help="show leases of the living as well")
    parser.add_argument(
        "--grace", metavar="TIME", default="5m", help="leave leases alone that are younger (5m)"
    )
    parser.add_argument("--domain", metavar="NAME", help="only leases of that domain")
    parser.add_argument(
        "--dead-node",
        metavar="NAME",
        help="that node is dead, and stays so: release its leases, and take its blocks",
    )
    add_yes_option(parser)
    add_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Judge leases, and release those of the dead."""
    if args.dead_node is not None:
        return _bury(args, screen)
    from podnet.engine.reconcile import reconcile
    from podnet.engine.reconcile_node import NodeWitness

    now = time.time()
    with opened(args) as here:
        node = here.settings.node
        findings = list(
            reconcile(
                here.ipam,
                [NodeWitness(here.house)],
                node=node,
                now=now,
                grace=parse_duration(args.grace),
                domain=args.domain,
                unnamed=here.settings.store.partition(":")[0] in _OWN,
                dry_run=args.dry_run,
            )
        )
    _say(args, screen, findings, now)
    screen.document(
        {
            "node": node,
            "dryRun": args.dry_run,
            "findings": [_document(finding) for finding in findings],
        }
    )
    return 0


def _say(args: argparse.Namespace, screen: Screen, findings: Sequence[Finding], now: float) -> None:
    shown = [each for each in findings if args.all or each.verdict != "kept"]
    if shown:
        rows = [
            (
                str(each.lease.ip),
                each.lease.pool,
                whose(each.lease),
                age(each.lease.since, now),
                each.verdict,
                each.why,
            )
            for each in shown
        ]
        screen.table(Table(("address", "pool", "owner", "age", "verdict", "why"), rows))
    counts = {name: sum(each.verdict == name for each in findings) for name in _SAYS}
    for name, says in _SAYS.items():
        if counts[name]:
            screen.say(f"{counts[name]} {says}", "bad" if name == "reported" else "note")
    if not findings:
        screen.say("this node has no leases", "note")


_SAYS = {
    "released": "released",
    "dead": "would be released",
    "reported": "to be looked at: the address is blocked, and whose it is cannot be told",
    "kept": "kept",
}


def _document(finding: Finding) -> dict[str, Any]:
    return {**lease_document(finding.lease), "verdict": finding.verdict, "why": finding.why}


def _bury(args: argparse.Namespace, screen: Screen) -> int:
    """Release what a dead node had."""
    if args.domain is not None:
        raise UsageError("a dead node is dead in all domains: --domain does not go with it")
    with opened(args) as here:
        found = _of_node(here, args.dead_node)
        screen.say(f"node {args.dead_node}: {len(found)} leases", "head")
        leases: list[Any] = found
        blocks: tuple[str, ...] = ()
        if not args.dry_run:
            question = f"release all leases of node {args.dead_node}: is it dead, and stays so"
            if not confirmed(question, args, screen):
                screen.say("nothing was released", "note")
                return 1
            done = here.ipam.reclaim(args.dead_node)
            leases, blocks = list(done.leases), done.blocks
    what = "would be released" if args.dry_run else "released"
    rows = [(str(each.ip), each.pool, whose(each), what) for each in leases]
    if rows:
        screen.table(Table(("address", "pool", "owner", "verdict"), rows))
    screen.say(f"{len(leases)} {what}; {len(blocks)} blocks are free for all nodes", "note")
    screen.document(
        {
            "deadNode": args.dead_node,
            "dryRun": args.dry_run,
            "released": [lease_document(lease) for lease in leases],
            "blocks": list(blocks),
        }
    )
    return 0


def _of_node(here: Opened, node: str) -> list[Any]:
    from podnet.engine.usage_leases import search
    from podnet.ipam.usage_filter import Filter

    return list(search(here.store, Filter(node=node, claim="")))
