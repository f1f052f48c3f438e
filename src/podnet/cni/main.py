"""The CNI executable: one call of the runtime, served in this process.

The file answers to many names (``podnet``, ``macvlan``, ``whereabouts`` …). The name it was
called by decides which plugin it is, because an IPAM plugin reads the configuration, and so the
``type``, of the plugin that delegates to it (CNI 1.1.0, section 4).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from podnet.cni import skel
from podnet.engine.registry import PLUGINS

if TYPE_CHECKING:
    from podnet.model.attachment import Call
    from podnet.model.result import Result

_OWN_NETNS = "/proc/self/ns/net"


def main() -> int:
    """Serve the call in the process's environment and standard input; return the exit code."""
    _open_standard_files()
    name = os.path.basename(sys.argv[0])
    response = skel.handle(
        os.environ,
        _read_stdin,
        lambda call: serve(name, call),
        same_netns=is_own_netns,
        about=f"{name}: podnet, CNI plugin; see https://www.cni.dev/docs/spec/",
    )
    # A result nobody reads is no reason to fail: what was done stays done, and DEL undoes it.
    _write(2, response.stderr)
    _write(1, response.stdout)
    return response.exit_code


def serve(name: str, call: Call) -> Result | None:
    """Do the call with settings from the environment.

    Args:
        name: the plugin's name as the runtime called it; where podnet has no such plugin, the
            configuration's ``type`` decides.
        call: what the runtime asks.

    Raises:
        PodnetError: the verb failed.
    """
    from attrs import evolve

    from podnet.engine import settings
    from podnet.engine.house import House
    from podnet.engine.verbs import perform

    loaded = settings.load(os.environ)
    timed = evolve(call, timeout=loaded.timeout)
    with House(loaded) as house:
        return perform(house, timed, name=plugin_name(name, call))


def plugin_name(name: str, call: Call) -> str:
    """Return which built-in plugin a call is for; ``name`` is what the executable was called by."""
    return name if name in PLUGINS and name not in ("podnet", "multus") else call.plugin


def is_own_netns(path: str) -> bool:
    """Tell whether the path is the network namespace this process runs in."""
    try:
        theirs, ours = os.stat(path), os.stat(_OWN_NETNS)
    except OSError:
        return False
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _open_standard_files() -> None:
    """Have 0, 1 and 2 be open: else what is opened next would be read or written as one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _read_stdin() -> bytes:
    with open(0, "rb", closefd=False) as stdin:
        return stdin.read()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError:
            return
