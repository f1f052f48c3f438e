"""``podnet plugin``: the executables that container runtimes call, one file under many names."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from podnet.cli.launcher import BESIDE, MAIN, Found, inspect, place, render, shim
from podnet.cli.output import Table, UsageError, add_output_option
from podnet.errors import IOFailureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podnet.cli.output import Screen

_EPILOG = """\
examples:
  podnet plugin list
  podnet plugin install --bin-dir /opt/cni/bin
  podnet plugin install --bin-dir /opt/cni/bin --name macvlan whereabouts
  podnet plugin uninstall --bin-dir /opt/cni/bin
"""

_INSTALL = """\
`podnet` is always installed; the names asked for are links to it. A file of one of these
names that podnet did not put there is refused, unless --force replaces it.

example:
  podnet plugin install --bin-dir /opt/cni/bin --name macvlan whereabouts
"""

_UNINSTALL = """\
Without --name, everything that podnet put there goes. What others put there stays.

example:
  podnet plugin uninstall --bin-dir /opt/cni/bin
"""

_LIST = """\
example:
  podnet plugin list --bin-dir /opt/cni/bin
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(title="commands", metavar="VERB", dest="verb", required=True)
    for verb, summary, epilog in (
        ("install", "put the CNI executable into a folder", _INSTALL),
        ("uninstall", "remove it again", _UNINSTALL),
        ("list", "tell the names podnet can be installed under", _LIST),
    ):
        child = verbs.add_parser(
            verb,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        child.add_argument(
            "--bin-dir", metavar="DIR", required=verb != "list", help="the runtime's CNI bin_dir"
        )
        if verb != "list":
            child.add_argument(
                "--name",
                dest="names",
                metavar="NAME",
                nargs="+",
                action="extend",
                default=[],
                help="plugin types; `podnet plugin list` tells which there are",
            )
        if verb == "install":
            child.add_argument(
                "--agent",
                action="store_true",
                help="have calls done by `podnet agent`, and in their own process without it",
            )
            child.add_argument(
                "--force", action="store_true", help="replace files that are not podnet's"
            )
        add_output_option(child)
        child.set_defaults(parser=child)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Do the verb."""
    names = () if args.verb == "list" else _checked(args.names)
    if args.bin_dir is not None and not os.path.isdir(args.bin_dir):
        raise IOFailureError(f"--bin-dir {args.bin_dir} is not a folder")
    if args.verb == "list":
        return _list(args.bin_dir, screen)
    if args.verb == "install":
        return _install(args.bin_dir, names, screen, force=args.force, agent=args.agent)
    return _uninstall(args.bin_dir, names, screen)


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names once each, in order.

    Raises:
        UsageError: some are no plugins of podnet; the known ones are listed.
    """
    known = _known()
    wrong = [name for name in names if name not in known]
    if wrong:
        raise UsageError(
            f"podnet has no plugin {', '.join(map(repr, wrong))}", f"it has {', '.join(known)}"
        )
    return tuple(dict.fromkeys(names))


def _known() -> tuple[str, ...]:
    from podnet.engine.registry import PLUGINS

    return tuple(dict.fromkeys((MAIN, *PLUGINS)))


def _install(
    bin_dir: str, names: Sequence[str], screen: Screen, *, force: bool, agent: bool
) -> int:
    """Install ``podnet`` and links; nothing is touched if anything is refused."""
    wanted = tuple(dict.fromkeys((MAIN, *names)))
    found = {name: inspect(os.path.join(bin_dir, name)) for name in wanted}
    folders = [name for name in wanted if found[name] is Found.FOLDER]
    if folders:
        raise IOFailureError(f"in {bin_dir}: {', '.join(folders)} is a folder")
    foreign = [name for name in wanted if found[name] is Found.FOREIGN]
    if foreign and not force:
        raise IOFailureError(
            f"in {bin_dir}: {', '.join(foreign)} was not put there by podnet",
            "--force replaces it",
        )
    kind = "in-process"
    if agent:
        executable, native = shim(sys.executable)
        kind = "compiled" if native else "python"
        # Before the shim, which looks for it.
        place(bin_dir, BESIDE, render(sys.executable))
        place(bin_dir, MAIN, executable)
    else:
        place(bin_dir, MAIN, render(sys.executable))
        _remove_beside(bin_dir)
    for name in wanted[1:]:
        place(bin_dir, name, None)
    for name in wanted:
        note = ", replacing a file that was not podnet's" if name in foreign else ""
        screen.say(f"{os.path.join(bin_dir, name)}{note}", "good")
    if kind == "python":
        screen.say(
            "there is no C compiler: calls start a Python interpreter to ask the agent", "note"
        )
    screen.document(
        {"binDir": bin_dir, "installed": list(wanted), "replaced": foreign, "executable": kind}
    )
    return 0


def _remove_beside(bin_dir: str) -> None:
    path = os.path.join(bin_dir, BESIDE)
    if inspect(path) is Found.OURS:
        os.unlink(path)


def _uninstall(bin_dir: str, names: Sequence[str], screen: Screen) -> int:
    """Remove what is podnet's: links first, so that none ever points to nothing."""
    ours = [n for n in _known() if inspect(os.path.join(bin_dir, n)) in (Found.OURS, Found.LINK)]
    foreign = [
        n for n in names if inspect(os.path.join(bin_dir, n)) in (Found.FOREIGN, Found.FOLDER)
    ]
    if foreign:
        raise IOFailureError(f"in {bin_dir}: {', '.join(foreign)} was not put there by podnet")
    gone = [n for n in ours if not names or n in names]
    links = [n for n in ours if n != MAIN and n not in gone]
    if MAIN in gone and links:
        raise UsageError(f"{', '.join(links)} would point to nothing", "uninstall them as well")
    gone.sort(key=lambda name: name == MAIN)
    for name in gone:
        os.unlink(os.path.join(bin_dir, name))
        screen.say(f"removed {os.path.join(bin_dir, name)}", "good")
    if MAIN in gone:
        _remove_beside(bin_dir)
    if not gone:
        screen.say("nothing of podnet's is there", "note")
    screen.document({"binDir": bin_dir, "removed": gone})
    return 0


def _list(bin_dir: str | None, screen: Screen) -> int:
    names = _known()
    if bin_dir is None:
        screen.table(Table(("name",), [(name,) for name in names]))
        screen.document({"names": list(names)})
        return 0
    state = {name: inspect(os.path.join(bin_dir, name)).value for name in names}
    screen.table(Table(("name", "state"), [*state.items()], title=bin_dir))
    screen.document({"binDir": bin_dir, "names": state})
    return 0
