"""``podnet ipam release``: take addresses back by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from podnet.cli.ipam_common import (
    add_options,
    add_yes_option,
    confirmed,
    lease_document,
    opened,
    whose,
)
from podnet.cli.ipam_filter import add_filter_options, filter_of
from podnet.cli.ipam_known import require_known
from podnet.cli.output import Table, UsageError
from podnet.errors import UnknownContainerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.ipam_common import Opened
    from podnet.cli.output import Screen
    from podnet.model.lease import Lease

_EPILOG = """\
What is released is the very lease that was shown: one that was granted or renewed since stays.
A lease whose owner lives on this node, as its journal and kernel tell, and one that a claim keeps
are released with --force only. Of other nodes nothing is known here.

examples:
  podnet ipam release 192.168.60.20
  podnet ipam release --container 3f1c8b9a --yes
  podnet ipam release --pod default/web-0
"""

_SEVERAL = "release them one by one, or say --all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="addresses to release")
    add_filter_options(parser)
    parser.add_argument(
        "--all", action="store_true", help="all that fit, if several owners have them"
    )
    parser.add_argument(
        "--force", action="store_true", help="also if the owner lives, or a claim keeps the lease"
    )
    add_yes_option(parser)
    add_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Find the leases, ask, and release."""
    with opened(args) as here:
        found, missing = _found(args, here)
        owners = {lease.owner.container_id for lease in found}
        if len(owners) > 1 and not args.all and len(found) > len(args.addresses):
            shown = ", ".join(f"{lease.ip} of {whose(lease)}" for lease in found[:5])
            raise UsageError(f"{len(found)} leases of {len(owners)} owners fit: {_SEVERAL}", shown)
        if not args.force:
            _refuse_live(here, found)
        screen.table(
            Table(
                ("address", "pool", "owner", "node"),
                [(str(e.cidr), e.pool, whose(e), e.node) for e in found],
            )
        )
        for text in missing:
            screen.complain(f"no lease on {text} fits")
        if not confirmed(f"release {_count(found)}", args, screen):
            screen.say("nothing was released", "note")
            return 1
        released = [lease for lease in found if here.ipam.release(lease)]
    stayed = [lease for lease in found if lease not in released]
    for lease in released:
        screen.say(f"released {lease.ip} of {whose(lease)}", "good")
    for lease in stayed:
        screen.say(f"{lease.ip} was renewed or released meanwhile, and is as it is", "note")
    screen.document(
        {
            "released": [lease_document(lease) for lease in released],
            "changed": [lease_document(lease) for lease in stayed],
            "missing": missing,
        }
    )
    return 1 if missing else 0


def _found(args: argparse.Namespace, here: Opened) -> tuple[list[Lease], list[str]]:
    """Return the leases that are meant, and the given addresses that none of them is on."""
    from attrs import evolve

    from podnet.cli.ipam_common import parse_addresses
    from podnet.engine.usage_leases import search

    wanted = filter_of(args, time.time())
    if args.addresses and args.address is not None:
        raise UsageError("addresses are given twice: as ADDRESS and as --address")
    spans = [parse_addresses(text) for text in args.addresses]
    filters = [evolve(wanted, addresses=span) for span in spans] or [wanted]
    narrow = (wanted.addresses, wanted.container, wanted.pod, wanted.claim)
    if not spans and not any(narrow):
        raise UsageError("say which: an ADDRESS, --address, --container, --pod or --claim")
    found = list(dict.fromkeys(lease for each in filters for lease in search(here.store, each)))
    if not found:
        require_known(
            here,
            domain=wanted.domain,
            pool=wanted.pool,
            network=wanted.network,
            node=wanted.node,
        )
        raise UnknownContainerError("no lease fits")
    domains = sorted({lease.domain for lease in found})
    if len(domains) > 1 and not args.domain and not args.all:
        raise UsageError(
            f"leases of several domains fit: say --domain, one of {', '.join(domains)}"
        )
    missing = [
        text
        for text, span in zip(args.addresses, spans, strict=True)
        if not any(lease.ip in span for lease in found)
    ]
    return found, missing


def _refuse_live(here: Opened, found: Sequence[Lease]) -> None:
    from podnet.engine.reconcile_node import NodeWitness

    witness = NodeWitness(here.house)
    reasons = []
    for lease in found:
        if lease.claim:
            reasons.append(f"{lease.ip}: {whose(lease)} keeps it")
        elif lease.node in ("", here.settings.node):
            told = witness.of_journal(lease)
            if told is not None and told.alive:
                reasons.append(f"{lease.ip} of {lease.owner}: {told.why}")
    if reasons:
        raise UsageError(
            "addresses in use need --force: others may get them at once",
            "; ".join(reasons),
        )


def _count(found: Sequence[Lease]) -> str:
    return str(found[0].ip) if len(found) == 1 else f"{len(found)} addresses"
