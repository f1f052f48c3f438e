"""``podnet attach``: a namespace gets the interfaces that its pod selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli import attached as shown
from podnet.cli.options import add_state_options, open_node, parse_pod
from podnet.cli.output import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.cli.output import Screen
    from podnet.engine.node import Node
    from podnet.model.attachment import Pod

_EPILOG = """\
examples:
  podnet attach -f nad.yaml pod.yaml --netns /run/netns/web-0
  podnet attach -f networks/*.yaml --netns /run/netns/web-0 --networks 'storage@eth1,backup'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="FILE",
        nargs="+",
        action="extend",
        help="YAML or JSON manifests of pods and NetworkAttachmentDefinitions; "
        "a file may hold several",
    )
    parser.add_argument("--netns", metavar="PATH", required=True, help="the network namespace")
    parser.add_argument(
        "--pod",
        metavar="NS/NAME",
        help="the pod it belongs to; not needed if the files hold one pod",
    )
    parser.add_argument("--container-id", metavar="ID", help="the container's id")
    parser.add_argument(
        "--default-network",
        metavar="NAME|FILE",
        help="network of eth0: a definition's name or a CNI configuration file; "
        "without it the pod's networks count from net1",
    )
    parser.add_argument(
        "--networks", metavar="TEXT", help="use this text in place of the pod's annotation"
    )
    add_state_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Attach and show what was made."""
    wanted = parse_pod(args.pod) if args.pod else None
    with open_node(args, args.files) as node:
        attached = node.attach(
            args.netns,
            args.networks,
            pod=_pod(node, args.files, wanted, annotated=args.networks is None),
            container_id=args.container_id,
            default_network=args.default_network,
        )
    screen.table(shown.table(attached))
    screen.document(shown.document(attached))
    return 0


def _pod(
    node: Node, files: Sequence[str] | None, wanted: Pod | None, *, annotated: bool
) -> Pod | None:
    """Choose the pod: the one asked for, or the only one of the files.

    Args:
        node: holds the manifests.
        files: the manifests that were named; none leaves the configured ones.
        wanted: the pod that was named.
        annotated: whether the networks come from the pod's annotation.

    Raises:
        UsageError: it must be named, and the message lists the choice, or it is not there.
        PodnetError: a file is broken, or a pod is in two files.
    """
    pods = node.pods()
    if annotated and not pods and not files:
        raise UsageError("nothing says which networks to attach: -f or --networks is needed")
    names = ", ".join(sorted(map(str, pods)))
    if wanted is not None:
        found = next(
            (p for p in pods if (p.namespace, p.name) == (wanted.namespace, wanted.name)), None
        )
        if found is None and annotated:
            raise UsageError(f"no pod {wanted} in the files", f"they hold {names or 'no pod'}")
        return found or wanted
    if len(pods) == 1:
        return pods[0]
    if not annotated:
        return None
    if pods:
        raise UsageError("the files hold several pods; choose one with --pod", names)
    raise UsageError("the files hold no pod; give one, or say --networks")
