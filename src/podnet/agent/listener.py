"""The agent's listening socket: its own, or systemd's; and telling systemd how things are."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress

from podnet import disk
from podnet.errors import InvalidEnvironmentError, IOFailureError

SOCKET = "/run/podnet/agent.sock"
"""Where the shim looks for the agent; ``PODNET_SOCKET`` names another place."""

_FIRST = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START
_BACKLOG = 4096
_LONGEST = 107  # unix(7): sun_path has 108 bytes, with a zero byte at the end


def listen(path: str) -> socket.socket:
    """Return a listening socket at a path, for its owner only, in the place of what was there.

    A shim always finds the old socket or the new one: who was already connected, or waits in the
    old one's backlog, is still the old agent's.

    Raises:
        InvalidEnvironmentError: the path is no path of a socket.
        IOFailureError: it cannot be made.
    """
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) + 9 > _LONGEST:
        raise InvalidEnvironmentError(
            f"{path!r} is no path of a socket", "it is absolute, and at most 98 bytes long"
        )
    disk.make_private_dir(os.path.dirname(path))
    fresh = f"{path}.{secrets.token_hex(4)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # bind(2) makes the file with the process's umask, and somebody may be quick.
        before = os.umask(0o177)
        try:
            listener.bind(fresh)
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        os.rename(fresh, path)
    except OSError as error:
        listener.close()
        with suppress(OSError):
            os.unlink(fresh)
        raise IOFailureError(f"cannot listen on {path}", error.strerror or "") from error
    return listener


def inherited() -> socket.socket | None:
    """Return the listening socket that systemd made (sd_listen_fds(3)), or None.

    Raises:
        InvalidEnvironmentError: what was handed over is something else.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise InvalidEnvironmentError("the agent takes exactly one socket from systemd")
    os.set_inheritable(_FIRST, False)
    listener = socket.socket(fileno=_FIRST)
    if listener.family != socket.AF_UNIX or listener.type != socket.SOCK_STREAM:
        raise InvalidEnvironmentError("the socket from systemd is no Unix stream socket")
    return listener


def place(path: str) -> tuple[int, int]:
    """Return what tells the file at a path from others; zeros if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def notify(text: str) -> None:
    """Tell systemd something (sd_notify(3)), if it listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as told:
        told.sendto(text.encode(), address)
