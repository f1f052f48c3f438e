"""``podnet ipam crds``: what a cluster needs before podnet keeps addresses in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli.output import UsageError

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
