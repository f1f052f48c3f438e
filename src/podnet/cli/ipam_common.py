"""What the verbs of ``podnet ipam`` share: options, the open store, and how leases are told."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.cli.options import add_state_options
from podnet.cli.output import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from podnet.cli.output import Screen
    from podnet.engine.house import House
    from podnet.engine.leases import Ipam
    from podnet.engine.migration_follow import Following
    from podnet.engine.settings import Settings
    from podnet.model.addresses import Span
    from podnet.model.lease import Lease

add_options = add_state_options


@frozen(kw_only=True)
class Opened:
    """What a verb works with.

    Attributes:
        settings: of this node.
        house: its journal, manifests and kernel.
        store: the store, which follows domains to where they moved.
        ipam: address management over it; it bears this node's name.
    """

    settings: Settings
    house: House
    store: Following
    ipam: Ipam


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Opened]:
    """Open what the options, the environment and the configuration file describe.

    Args:
        args: with the attributes of ``add_options``.

    Raises:
        PodnetError: the settings are wrong, or the store cannot be opened.
    """
    from podnet.engine.house import House
    from podnet.engine.leases import Ipam
    from podnet.engine.migration_follow import follow

    settings = load_settings(args)
    store = follow(settings.store)
    try:
        with House(settings, store=store) as house:
            ipam = Ipam(store, node=settings.node)
            yield Opened(settings=settings, house=house, store=store, ipam=ipam)
    finally:
        store.close()


def load_settings(args: argparse.Namespace) -> Settings:
    """Return the settings, with what the options say.

    Raises:
        PodnetError: they are wrong.
    """
    from podnet.engine.settings import absolute_store, load

    given = {"state_dir": args.state_dir, "store": args.store and absolute_store(args.store)}
    return load(os.environ, **{k: v for k, v in given.items() if v is not None})


def lease_document(lease: Lease) -> dict[str, Any]:
    """Return a lease as a JSON object; ``since`` is null where it is not known."""
    owner = lease.owner
    return {
        "address": str(lease.ip),
        "prefixLength": lease.length,
        "pool": lease.pool,
        "domain": lease.domain,
        "network": lease.network,
        "node": lease.node,
        "containerId": owner.container_id,
        "interface": owner.ifname,
        "namespace": owner.pod_namespace,
        "pod": owner.pod_name,
        "uid": owner.pod_uid,
        "since": moment(lease.since),
        "claim": lease.claim,
    }


def moment(seconds: float) -> str | None:
    """Return a time as RFC 3339 text; None where it is not known."""
    if not seconds:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def age(since: float, now: float) -> str:
    """Return how long ago something was in two units at most: ``3d4h``; empty if not known."""
    if not since:
        return ""
    left = max(0, int(now - since))
    parts: list[str] = []
    for letter, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count or (letter == "s" and not parts):
            parts.append(f"{count}{letter}")
        if len(parts) == 2 or (parts and not count):
            break
    return "".join(parts)


def parse_duration(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``5m``, ``2h`` or ``3d``.

    Raises:
        UsageError: it is none of them.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{text!r} is no duration such as 90s, 5m, 2h or 3d")
    return seconds


def parse_addresses(text: str) -> Span:
    """Return the addresses that an address, a CIDR or ``first-last`` means.

    Raises:
        UsageError: it is none of them.
    """
    from podnet.model.addresses import parse_span

    try:
        return parse_span(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def whose(lease: Lease) -> str:
    """Name the owner of a lease in a line of text."""
    if lease.claim:
        return lease.claim if lease.claim.startswith("reserved:") else f"claim {lease.claim}"
    return str(lease.owner)


def confirmed(question: str, args: argparse.Namespace, screen: Screen) -> bool:
    """Ask a person; ``--yes`` has answered.

    Raises:
        UsageError: nobody is there to be asked.
    """
    if args.yes:
        return True
    if screen.json or not sys.stdin.isatty():
        raise UsageError(f"{question}: nobody is there to be asked", "--yes says so")
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def add_yes_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes``."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def number(value: int) -> str:
    """Return a count as people read it: of very many, its magnitude is enough."""
    return str(value) if value < 10_000_000 else f"{value:.3g}".replace("e+", "e")
