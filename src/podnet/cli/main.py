"""The ``podnet`` command: finds the subcommand and loads nothing but that."""

from __future__ import annotations

import argparse
import os
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
    "agent": "stay on this node and serve its CNI executables",
    "ipam": "look at addresses and look after them",
    "plugin": "install, remove or list the CNI executables",
}

_OWN = ("-h", "--help", "--version")

_EPILOG = """\
example:
  podnet demo
  podnet attach -f nad.yaml pod.yaml --netns /run/netns/web-0

environment:
  PODNET_STATE_DIR  where the state is kept (/var/lib/podnet)
  PODNET_STORE      URL of the address store (files below the state)
  PODNET_CONFIG     configuration file (/etc/cni/net.d/podnet.d/podnet.conf)
  NO_COLOR          draw without colours, bold and dim
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after the program's name; the process's own if None.

    Returns:
        The exit status: 0, 1 for an error, 2 for wrong usage, 130 when interrupted, 141 when the
        reader of the output left.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as `podnet status >&-` does
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - to the end
    # Options before the command take no value, so the first other word is the command.
    command = next((word for word in arguments if not word.startswith("-")), "")
    parser = _parser(command)
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    _check_order(parser, arguments)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        # The usage of the command it was given to, not that of all commands.
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    from podnet.cli.output import Screen, guarded

    screen = Screen(args.output)
    return guarded(screen, lambda: int(args.run(args, screen)))


def _check_order(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Refuse a command's option in front of it: argparse would take its value for the command."""
    first = arguments[0] if arguments else ""
    if not first.startswith("-") or any(own.startswith(first) for own in _OWN):
        return
    command = next((word for word in arguments if word in COMMANDS), "COMMAND")
    parser.error(f"options come after the command: podnet {command} {first} ...")


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
            child.set_defaults(run=module.run, parser=child)
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
