"""``podnet agent``: the process that stays on a node and serves its executables."""

from __future__ import annotations

import gc
import os
import pkgutil
import signal
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING

from podnet.cli.options import add_state_options

if TYPE_CHECKING:
    import argparse

    from podnet.agent.server import Server
    from podnet.cli.output import Screen
    from podnet.engine.house import House

_EPILOG = """\
The executables that `podnet plugin install` puts into the runtime's folder bring their calls to
this process, which has everything open that they would have to open. It ends on SIGTERM when all
that came in is answered. Started once more, it takes the socket over, and the other one ends.

examples:
  podnet agent
  podnet agent --socket /run/podnet/agent.sock --store kubernetes:
"""
_TICK = 1.0
# What serves calls, without the adapters that settings choose.
_PACKAGES = tuple(
    f"podnet.{name}"
    for name in ("engine", "kernel", "interface", "delegation", "ipam", "model", "execs", "sources")
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--socket", metavar="PATH", help="where executables find it ($PODNET_SOCKET)"
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=32, help="calls served at once (32)"
    )
    add_state_options(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Serve until SIGTERM or SIGINT."""
    from podnet.agent import listener
    from podnet.agent.desk import Desk
    from podnet.agent.server import Limits, Server
    from podnet.engine import settings
    from podnet.engine.house import House

    path = args.socket or os.environ.get("PODNET_SOCKET") or listener.SOCKET
    loaded = settings.load(os.environ, state_dir=args.state_dir, store=args.store)
    with House(loaded, resident=True) as house:
        _warm(house)
        handed = listener.inherited()
        listening = handed or listener.listen(path)
        mine = (0, 0) if handed else listener.place(path)
        desk = Desk(house)
        server = Server(listening, desk.answer, limits=Limits(workers=args.workers))
        over = threading.Event()
        seer = threading.Thread(
            target=_see_to, args=(house, server, over, path, mine), name="podnet-tick", daemon=True
        )
        seer.start()

        def end(_number: int, _frame: object) -> None:
            if not handed and listener.place(path) == mine:
                os.unlink(path)
            server.stop(backlog=not handed)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        screen.say(f"serving {path}", "good")
        listener.notify("READY=1")
        server.run()
        listener.notify("STOPPING=1")
        over.set()
        seer.join()
        listening.close()
    screen.document({"socket": path, **dict(server.counts)})
    return 0


def _warm(house: House) -> None:
    """Import and open what calls need, so that none of them has to."""
    for package in _PACKAGES:
        found = import_module(package)
        for module in pkgutil.iter_modules(found.__path__, f"{package}."):
            import_module(module.name)
    house.kernel  # noqa: B018 - opened by being looked at
    house.store()
    gc.collect()
    # What is there now stays: no collection has to go through it again.
    gc.freeze()


def _see_to(
    house: House, server: Server, over: threading.Event, path: str, mine: tuple[int, int]
) -> None:
    """Do what is due every second, and make room for a successor."""
    from podnet.agent import listener

    while not over.wait(_TICK):
        try:
            house.tick()
        except Exception as error:  # what goes wrong with one block must not end it for all
            print(f"{time.strftime('%FT%TZ', time.gmtime())} {error}", file=sys.stderr, flush=True)
        if mine != (0, 0) and listener.place(path) not in (mine, (0, 0)):
            server.stop(backlog=True)
            mine = 0, 0
