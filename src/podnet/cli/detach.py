"""``podnet detach``: what was attached goes, from the record alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli import attached as shown
from podnet.cli.options import add_state_options, add_target_options, open_node, target

if TYPE_CHECKING:
    import argparse

    from podnet.cli.output import Screen

_EPILOG = """\
Needs no manifest and no namespace: the record of the attachment is enough.
Detaching what is not attached is no error.

example:
  podnet detach --netns /run/netns/web-0
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    add_target_options(parser)
    add_state_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Detach and name what went."""
    with open_node(args) as node:
        gone = node.detach(**target(args))
    for attached in gone:
        interfaces = ", ".join(n.interface for n in attached.networks)
        screen.say(f"detached {shown.label(attached)}: {interfaces or 'nothing made'}", "good")
    if not gone:
        screen.say("nothing was attached there", "note")
    screen.document({"detached": [shown.document(attached) for attached in gone]})
    return 0
