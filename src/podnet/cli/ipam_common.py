"""What the verbs of ``podnet ipam`` share: options, the open store, and how leases are told."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.cli.options import add_state_options, given_settings
from podnet.cli.output import UsageError
from podnet.errors import StoreError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from podnet.cli.output import Screen
    from podnet.engine.house import House
    from podnet.engine.leases import Ipam
    from podnet.engine.migration_follow import Following
    from podnet.engine.settings import Settings
    from podnet.errors import PodnetError
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
def opened(args: argparse.Namespace, *, make: bool = False) -> Iterator[Opened]:
    """Open what the options, the environment and the configuration file describe.

    Args:
        args: with the attributes of ``add_options``.
        make: a store that ``--store`` names may be a new one.

    Raises:
        PodnetError: the settings are wrong, or the store cannot be opened.
    """
    from podnet.engine.house import House
    from podnet.engine.leases import Ipam
    from podnet.engine.migration_follow import follow

    settings = load_settings(args)
    if args.store and not make:
        require_there(settings.store)
    store = follow(settings.store)
    try:
        with House(settings, store=store) as house:
            ipam = Ipam(store, node=settings.node)
            yield Opened(settings=settings, house=house, store=store, ipam=ipam)
    finally:
        store.close()


def require_there(url: str) -> None:
    """Refuse to look for leases where there is no file or folder; opening it would make one.

    Args:
        url: of a store, as ``absolute_store`` returns it.

    Raises:
        StoreError: there is nothing at the URL's path.
    """
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and path.startswith("//"):
        path = path[2:].partition("/")[2]  # behind the host, which is empty or this one
    if scheme in ("file", "sqlite", "host-local") and path and not os.path.lexists(path):
        raise StoreError(f"store {url!r} does not exist: nothing is at {path}")


def load_settings(args: argparse.Namespace) -> Settings:
    """Return the settings, with what the options say.

    Raises:
        PodnetError: they are wrong.
    """
    from podnet.engine.settings import load

    return load(os.environ, **given_settings(args))


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
        UsageError: nobody can be asked.
    """
    if args.yes:
        return True
    if screen.json or not sys.stdin.isatty():
        raise UsageError(f"{question}: not a terminal", "confirm with --yes")
    print(f"{question}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def add_yes_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes``."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def counted(value: int, what: str) -> str:
    """Return a count with what is counted: ``1 lease``, ``2 leases``."""
    return f"{value} {what}" if value == 1 else f"{value} {what}s"


def fault_documents(faults: Iterable[tuple[str, PodnetError]]) -> list[dict[str, str]]:
    """Return what could not be read, as JSON objects."""
    return [{"where": where, "what": str(error)} for where, error in faults]


def complain(screen: Screen, faults: Iterable[tuple[str, PodnetError]]) -> None:
    """Tell on standard error what could not be read."""
    for where, error in faults:
        what = str(error)
        screen.complain(what if where in what else f"{where}: {what}")


def number(value: int) -> str:
    """Return a count as people read it: of very many, its magnitude is enough."""
    return str(value) if value < 10_000_000 else f"{value:.3g}".replace("e+", "e")
