"""``podnet ipam``: look at addresses and look after them."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podnet.cli.output import Screen

# Each is a module `podnet.cli.ipam_<verb>` with `configure(parser)` and `run(args, screen)`.
VERBS = {
    "show": "show pools: how full they are, by whom, and where",
    "leases": "list leases",
    "release": "release addresses by hand",
    "reserve": "keep addresses for other uses, or give them back",
    "reconcile": "find leases without a live owner, and release them",
    "migrate": "move pools from one store to another while pods come and go",
    "crds": "print the manifests that a cluster needs for the kubernetes: store",
}

_EPILOG = """\
examples:
  podnet ipam show
  podnet ipam leases --node worker-1
  podnet ipam reconcile --dry-run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments and those of its verbs."""
    parser.epilog = _EPILOG
    parser.set_defaults(output="auto")  # for want of a verb that has it
    verbs = parser.add_subparsers(title="commands", metavar="VERB", dest="verb")
    for verb, summary in VERBS.items():
        child = verbs.add_parser(
            verb,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        child.set_defaults(parser=child)
        _module(verb).configure(child)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Do the verb; without one list them."""
    if args.verb is None:
        args.parser.print_help(sys.stderr)
        return 2
    return int(_module(args.verb).run(args, screen))


def _module(verb: str) -> Any:
    return import_module(f"podnet.cli.ipam_{verb}")
