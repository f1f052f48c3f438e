"""The ``podnet`` command: finds the subcommand and loads nothing but that."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each module has `configure(parser)` and `run(args, screen) -> exit status`.
COMMANDS = {
    "demo": "build two throw-away pods, show them, ping between them, take them down",
    "attach": "attach a network namespace to a pod's networks",
    "detach": "take an attachment down",
    "check": "compare an attachment with the kernel and the store",
    "status": "list what is attached on this node",
    "plugin": "install, remove or list the CNI executables",
}

_EPILOG = """\
example:
  podnet demo
  podnet attach -f nad.yaml pod.yaml --netns /run/netns/web-0

environment:
  PODNET_STATE_DIR  where the state is kept (/var/lib/podnet)
  PODNET_STORE      URL of the address store (file:… below the state)
  PODNET_CONFIG     configuration file (/etc/cni/net.d/podnet.d/podnet.conf)
  NO_COLOR          draw without colours
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after the program's name; the process's own if None.

    Returns:
        The exit status: 0, 1 for an error, 2 for wrong usage, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Options before the command take no value, so the first other word is the command.
    command = next((word for word in arguments if not word.startswith("-")), "")
    args = _parser(command).parse_args(arguments)
    from podnet.cli.output import Screen, guarded

    screen = Screen(args.output)
    return guarded(screen, lambda: int(args.run(args, screen)))


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser with the arguments of ``command`` and the names of all others."""
    parser = argparse.ArgumentParser(
        prog="podnet",
        description="Several network interfaces for Kubernetes pods.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, dest=argparse.SUPPRESS, help="print the version and exit"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for name, summary in COMMANDS.items():
        child = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == command:
            module: Any = import_module(f"podnet.cli.{name}")
            child.set_defaults(run=module.run)
            module.configure(child)
    return parser


class _Version(argparse.Action):
    """``--version``, which reads the package's metadata only when asked."""

    def __init__(self, **given: Any) -> None:
        super().__init__(nargs=0, **given)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("podnet")
        except PackageNotFoundError:
            number = "(not installed: run from a source tree)"
        print(f"podnet {number}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
