"""``podnet check``: an attachment against the kernel and the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli import attached as shown
from podnet.cli.options import add_state_options, add_target_options, open_node, target

if TYPE_CHECKING:
    import argparse

    from podnet.cli.output import Screen

_EPILOG = """\
Needs no manifest. Exit status 0: everything is as it was made; 1: something differs, and
the error says what.

example:
  podnet check --pod default/web-0
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    add_target_options(parser)
    add_state_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Check and name what was found right.

    Raises:
        UnknownContainerError: nothing is attached there, so nothing can be right.
        CheckFailedError: something differs.
    """
    with open_node(args) as node:
        checked = node.check(**target(args))
    for attached in checked:
        interfaces = ", ".join(n.interface for n in attached.networks)
        screen.say(f"{shown.label(attached)}: {interfaces} as attached", "good")
    screen.document({"checked": [shown.document(attached) for attached in checked]})
    return 0
