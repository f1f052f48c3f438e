"""``podnet status``: what is attached on this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli import attached as shown
from podnet.cli.options import add_state_options, open_node

if TYPE_CHECKING:
    import argparse

    from podnet.cli.output import Screen

_EPILOG = """\
An attachment that is "unfinished" was interrupted; `podnet detach` takes down what it made.
A long container id is shown by its beginning, which `detach` and `check` take as well; with
--output json it is whole.

example:
  podnet status --output json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    add_state_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """List the attachments that the journal records."""
    with open_node(args) as node:
        attachments = node.status()
    if attachments:
        screen.table(shown.listing(attachments))
    else:
        screen.say("nothing is attached", "note")
    screen.document({"attachments": [shown.document(attached) for attached in attachments]})
    return 0
