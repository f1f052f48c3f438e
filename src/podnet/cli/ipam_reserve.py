"""``podnet ipam reserve``: addresses that no pod is to get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli.ipam_common import add_options, lease_document, opened, parse_addresses, whose
from podnet.cli.ipam_known import names, shown
from podnet.cli.output import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.ipam_common import Opened
    from podnet.cli.output import Screen
    from podnet.model.addresses import Span
    from podnet.model.lease import Lease
    from podnet.model.pool import Pool

_EPILOG = """\
Reservations are kept in the store and honoured by all nodes at once. Addresses that somebody has
stay his, are told, and are not reserved; the exit status is 1 then.
Of more than 65536 addresses use `reserved` of podnet.conf or of the pool.

examples:
  podnet ipam reserve 192.168.60.240/28 --reason printers
  podnet ipam reserve 192.168.60.240-192.168.60.243 --remove
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("addresses", metavar="ADDRESS|CIDR|FIRST-LAST", help="which addresses")
    parser.add_argument("--reason", metavar="TEXT", help="what they are kept for; told to others")
    parser.add_argument("--domain", metavar="NAME", help="of that collision domain")
    parser.add_argument("--pool", metavar="NAME", help="of the domain of the pool of that name")
    parser.add_argument("--remove", action="store_true", help="give reserved addresses back")
    add_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Reserve, or give back."""
    span = parse_addresses(args.addresses)
    if not args.remove and not (args.reason or "").strip():
        raise UsageError("say what the addresses are kept for: --reason TEXT")
    with opened(args, make=not args.remove) as here:
        domain, length = _place(args, here, span)
        if args.remove:
            return _remove(args, here, domain, span, screen)
        from podnet.engine.reserving import reserve

        done = reserve(here.store, domain, span, args.reason.strip(), length=length)
    for text in _told(done.made):
        screen.say(f"reserved {text} for {args.reason.strip()}", "good")
    for lease in done.held:
        screen.say(f"{lease.ip} is held by {whose(lease)}, and not reserved", "bad")
    if not done.made and not done.held:
        screen.say("all of it was reserved already", "note")
    screen.document(
        {
            "domain": domain,
            "reserved": [lease_document(lease) for lease in done.made],
            "held": [lease_document(lease) for lease in done.held],
        }
    )
    return 1 if done.held else 0


def _remove(args: argparse.Namespace, here: Opened, domain: str, span: Span, screen: Screen) -> int:
    from podnet.engine.reserving import free

    gone = free(here.store, domain, span, args.reason and args.reason.strip())
    for text in _told(gone):
        screen.say(f"{text} may be handed out again", "good")
    if not gone:
        screen.say("nothing of it was reserved", "note")
    screen.document({"domain": domain, "removed": [lease_document(lease) for lease in gone]})
    return 0


def _place(args: argparse.Namespace, here: Opened, span: Span) -> tuple[str, int]:
    """Return the domain that is meant, and the prefix length of its addresses there.

    Raises:
        UsageError: several may be meant, or none is known, or not the one that is named.
    """
    from podnet.engine.usage_pools import defined
    from podnet.model.addresses import BITS, Address

    first = Address(span.version, span.first)
    pools = [pool for pool, _ in defined(here.house).pools]
    fitting = [
        pool
        for pool in pools
        if (first in pool.network or Address(span.version, span.last) in pool.network)
        and args.pool in (None, pool.name)
        and args.domain in (None, pool.domain)
    ]
    domains = sorted({pool.domain for pool in fitting})
    if not fitting and args.domain is None:
        domains = _of_leases(here, span, args.pool)
    elif not fitting:
        _require_domain(args.domain, here, pools)
        domains = [args.domain]
    if len(domains) == 1:
        length = max((pool.network.length for pool in fitting), default=BITS[span.version])
        return domains[0], length
    known = ", ".join(sorted({pool.domain for pool in pools}))
    raise UsageError(
        f"{span} may be of several domains: say --domain"
        if domains
        else f"no pool with {span} is known here: say --domain",
        ", ".join(domains) or (f"known are {known}" if known else ""),
    )


def _require_domain(domain: str, here: Opened, pools: Sequence[Pool]) -> None:
    """Refuse a domain that nobody hands addresses out of, unless nothing is known at all, yet.

    Raises:
        UsageError: others are known.
    """
    from podnet.model.block import domain_prefix

    if domain in {pool.domain for pool in pools}:
        return
    if next(iter(here.store.keys(domain_prefix(domain))), None) is not None:
        return
    if known := names(here)["domain"]:
        raise UsageError(f"no domain is called {domain!r}", shown(known))


def _of_leases(here: Opened, span: Span, pool: str | None) -> list[str]:
    """Return the domains whose leases tell of a network with the addresses."""
    from podnet.engine.usage_leases import search
    from podnet.ipam.usage_filter import Filter
    from podnet.model.addresses import Address

    first = Address(span.version, span.first)
    found = search(here.store, Filter(pool=pool))
    return sorted({lease.domain for lease in found if first in lease.cidr.masked})


def _told(leases: Sequence[Lease]) -> list[str]:
    """Return runs of addresses as texts."""
    from podnet.model.addresses import Span

    runs: list[Span] = []
    for ip in sorted(lease.ip for lease in leases):
        if runs and ip.value == runs[-1].last + 1 and ip.version == runs[-1].version:
            runs[-1] = Span(ip.version, runs[-1].first, ip.value)
        else:
            runs.append(Span(ip.version, ip.value, ip.value))
    return [str(run) for run in runs]
