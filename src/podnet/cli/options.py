"""Options that several commands share, and the node that they open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from podnet.cli.output import UsageError, add_output_option

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from podnet.engine.node import Node
    from podnet.model.attachment import Pod


def add_state_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the state is, and ``--output``."""
    parser.add_argument(
        "--state-dir", metavar="DIR", help="where the state is kept ($PODNET_STATE_DIR)"
    )
    parser.add_argument("--store", metavar="URL", help="the address store ($PODNET_STORE)")
    add_output_option(parser)


def given_store(url: str) -> str:
    """Return the URL of a store that somebody has typed, as it means the same in every folder.

    Raises:
        UsageError: it is empty, or a path.
    """
    from podnet.engine.settings import absolute_store

    if not url:
        raise UsageError("the URL of the store is empty")
    if ":" not in url and (url[0] in "/.~" or os.path.lexists(url)):
        raise UsageError(f"{url} is a path, and no URL of a store", f"did you mean file:{url}?")
    return absolute_store(url)


def given_settings(args: argparse.Namespace) -> dict[str, str]:
    """Return what the options of ``add_state_options`` say, by the names of the settings.

    Raises:
        UsageError: the store's URL cannot be one.
    """
    given = {}
    if args.state_dir is not None:
        given["state_dir"] = args.state_dir
    if args.store is not None:
        given["store"] = given_store(args.store)
    return given


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name an existing attachment."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--netns", metavar="PATH", help="path of the network namespace")
    group.add_argument(
        "--container-id",
        metavar="ID",
        help="the container's id, or a beginning of it that no other id has",
    )
    group.add_argument("--pod", metavar="NS/NAME", help="the pod")


def target(args: argparse.Namespace) -> dict[str, Any]:
    """Return the attachment that ``add_target_options`` named, as ``Node.detach`` takes it.

    Raises:
        UsageError: the pod's name cannot be one.
    """
    return {
        "netns": args.netns,
        # As `podnet status` shows the beginning of a long one.
        "container_id": args.container_id and args.container_id.removesuffix("…"),
        "pod": None if args.pod is None else parse_pod(args.pod),
    }


def open_node(args: argparse.Namespace, networks: Sequence[str] | None = None) -> Node:
    """Open the node that the options, the environment and the configuration file describe.

    Args:
        args: with the attributes of ``add_state_options``.
        networks: files of manifests; None leaves the configured ones.

    Raises:
        PodnetError: the settings are wrong.
    """
    from podnet.engine.node import Node
    from podnet.engine.settings import load

    settings = load(os.environ, **given_settings(args))
    return Node(networks=networks, settings=settings)


def parse_pod(text: str) -> Pod:
    """Parse ``NS/NAME``, or ``NAME`` in the namespace ``default``.

    Raises:
        UsageError: it is neither.
    """
    from podnet.model.attachment import Pod

    namespace, slash, name = text.rpartition("/")
    if not name or "/" in namespace or (slash and not namespace):
        raise UsageError(f"--pod {text!r} is not NAMESPACE/NAME")
    return Pod(namespace or "default", name)
