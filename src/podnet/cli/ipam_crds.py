"""``podnet ipam crds``: what a cluster needs before podnet keeps addresses in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli.output import add_output_option

if TYPE_CHECKING:
    import argparse

    from podnet.cli.output import Screen

_EPILOG = """\
example:
  podnet ipam crds | kubectl apply -f -
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--whereabouts",
        action="store_true",
        help="what the whereabouts: store needs, instead of the kubernetes: store's",
    )
    add_output_option(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Print the manifests: YAML also into a pipe; a Kubernetes List where JSON is asked for."""
    from podnet import manifests

    text = manifests.render(manifests.WHEREABOUTS if args.whereabouts else manifests.FILES)
    if args.output != "json":
        screen.write(text)
        return 0
    import yaml

    items = [document for document in yaml.safe_load_all(text) if document]
    screen.document({"apiVersion": "v1", "kind": "List", "items": items})
    return 0
