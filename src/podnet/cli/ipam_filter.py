"""Options that say which leases are meant."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from podnet.cli.ipam_common import parse_addresses, parse_duration
from podnet.cli.output import UsageError

if TYPE_CHECKING:
    from podnet.ipam.usage_filter import Filter


class _Once(argparse.Action):
    """Refuses to be given twice, under whatever name: the first would be dropped."""

    def __call__(
        self, _: object, namespace: argparse.Namespace, value: object, option: str | None = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, f"{option}: leases are narrowed by it already")
        setattr(namespace, self.dest, value)


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; several of them together narrow."""
    group = parser.add_argument_group("which leases; several options together narrow")
    for option, meta, help_ in (
        ("--pool", "NAME", "of the pool of that name"),
        ("--domain", "NAME", "of that collision domain"),
        ("--network", "NAME", "for that CNI network"),
        ("--node", "NAME", "of owners on that node; '' for leases that tell none"),
        ("--namespace", "NAME", "of pods in that namespace"),
        ("--pod", "[NS/]NAME", "of the pod of that name"),
        ("--container", "ID", "of the container whose id begins so"),
        ("--interface", "NAME", "of interfaces of that name"),
        ("--claim", "NAME", "kept by that claim; '' for those that none keeps"),
        ("--address", "ADDRESS|CIDR|FIRST-LAST", "on these addresses"),
        ("--older-than", "TIME", "granted longer ago: 90s, 5m, 2h, 3d"),
    ):
        group.add_argument(option, metavar=meta, help=help_, action=_Once)
    group.add_argument(
        "--cidr", dest="address", metavar="CIDR", help="the same as --address", action=_Once
    )


def filter_of(args: argparse.Namespace, now: float) -> Filter:
    """Return what the options say.

    Args:
        args: with the attributes of ``add_filter_options``.
        now: seconds since the epoch.

    Raises:
        UsageError: an option has a value that cannot be.
    """
    from podnet.ipam.usage_filter import Filter

    namespace, pod = args.namespace, args.pod
    if pod is not None and "/" in pod:
        given, _, pod = pod.partition("/")
        if namespace not in (None, given) or not given or not pod or "/" in pod:
            raise UsageError(f"--pod {args.pod!r} is not NAMESPACE/NAME, or of another --namespace")
        namespace = given
    older = args.older_than
    return Filter(
        pool=args.pool,
        domain=args.domain,
        network=args.network,
        node=args.node,
        namespace=namespace,
        pod=pod,
        container=args.container and args.container.removesuffix("…"),
        interface=args.interface,
        claim=args.claim,
        addresses=None if args.address is None else parse_addresses(args.address),
        before=None if older is None else now - parse_duration(older),
    )
