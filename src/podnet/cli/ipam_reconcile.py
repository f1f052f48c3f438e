"""``podnet ipam reconcile``: leases without a live owner."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from podnet.cli.ipam_common import (
    add_options,
    add_yes_option,
    age,
    confirmed,
    counted,
    lease_document,
    opened,
    parse_duration,
    whose,
)
from podnet.cli.ipam_known import require_known
from podnet.cli.output import Table, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.ipam_common import Opened
    from podnet.cli.output import Screen
    from podnet.engine.reconcile import Finding

_EPILOG = """\
The leases of this node are compared with its journal and with the network namespaces that there
are. A lease is released if its owner's namespace is gone. One of which there is no record, and
whose address no namespace of this node has, is told only: a device in user space, such as one of
DPDK, has an address that nobody sees. --without-record releases these as well.
Never released are leases of other nodes, leases that a claim or an administrator keeps, and leases
that their owners have for less than the grace.
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
    parser.add_argument(
        "--without-record",
        action="store_true",
        help="release also what podnet has no record of and no namespace has the address of",
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
    from podnet.engine.reconcile import carry_out

    now = time.time()
    with opened(args) as here:
        node = here.settings.node
        findings = _judged(args, here, now)
        if not findings:
            require_known(here, domain=args.domain)
        dead = sum(each.verdict == "dead" for each in findings)
        asked = dead > 0 and not args.dry_run and not args.yes
        if asked:
            _show(args, screen, findings, now)
            if not confirmed(f"release {counted(dead, 'lease')}", args, screen):
                screen.say("nothing was released", "note")
                return 1
        if not args.dry_run:
            findings = [carry_out(here.ipam, each) for each in findings]
    if not asked:
        _show(args, screen, findings, now)
    _count(args, screen, findings)
    screen.document(
        {
            "node": node,
            "dryRun": args.dry_run,
            "findings": [_document(finding) for finding in findings],
        }
    )
    return 0


def _judged(args: argparse.Namespace, here: Opened, now: float) -> list[Finding]:
    from podnet.engine.reconcile import reconcile
    from podnet.engine.reconcile_node import NodeWitness

    return list(
        reconcile(
            here.ipam,
            [NodeWitness(here.house, without_record=args.without_record)],
            node=here.settings.node,
            now=now,
            grace=parse_duration(args.grace),
            domain=args.domain,
            unnamed=here.settings.store.partition(":")[0] in _OWN,
            dry_run=True,
        )
    )


def _show(
    args: argparse.Namespace, screen: Screen, findings: Sequence[Finding], now: float
) -> None:
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


def _count(args: argparse.Namespace, screen: Screen, findings: Sequence[Finding]) -> None:
    counts = {name: sum(each.verdict == name for each in findings) for name in _SAYS}
    for name, says in _SAYS.items():
        if counts[name]:
            screen.say(f"{counts[name]} {says}", "bad" if name == "reported" else "note")
    # Whoever was not seen is kept for want of rights, perhaps.
    unseen = Counter(each.why for each in findings if not each.sure)
    for why, count in unseen.items() if not args.all else ():
        screen.say(f"{count} of them: {why}", "bad")
    if not findings:
        screen.say("this node has no leases", "note")


_SAYS = {
    "released": "released",
    "dead": "would be released",
    "unrecorded": "without a record: --without-record releases them, if no pod has them",
    "reported": "to be looked at: the address is blocked, and whose it is cannot be told",
    "kept": "kept",
}


def _document(finding: Finding) -> dict[str, Any]:
    return {**lease_document(finding.lease), "verdict": finding.verdict, "why": finding.why}


def _bury(args: argparse.Namespace, screen: Screen) -> int:
    """Release what a dead node had."""
    if args.domain is not None:
        raise UsageError("a dead node is dead in all domains: --domain does not go with it")
    if not args.dead_node.strip():
        raise UsageError("say which node is dead: --dead-node NAME")
    with opened(args) as here:
        if args.dead_node == here.settings.node:
            raise UsageError(
                f"{args.dead_node} is this node: it lives",
                "without --dead-node its leases are judged one by one",
            )
        found = _of_node(here, args.dead_node)
        if not found:
            require_known(here, node=args.dead_node)
        screen.say(f"node {args.dead_node}: {counted(len(found), 'lease')}", "head")
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
    free = f"{counted(len(blocks), 'block')} {'is' if len(blocks) == 1 else 'are'}"
    screen.say(f"{len(leases)} {what}; {free} free for all nodes", "note")
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
