"""host-local's doings in a folder, written down once more in Python, and a process that is killed.

After plugins v1.9.1, host-local/backend/disk: what it opens, writes, locks and compares.
"""

from __future__ import annotations

import fcntl
import os
import signal
import warnings
from contextlib import contextmanager


class Hands:
    """What host-local does to the folder of one network."""

    def __init__(self, folder):
        self.folder = folder

    @contextmanager
    def _locked(self):
        os.makedirs(self.folder, 0o755, exist_ok=True)
        fd = os.open(os.path.join(self.folder, "lock"), os.O_CREAT | os.O_RDONLY, 0o750)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def take(self, ip, container, ifname="eth0", at=None):
        """Reserve an address; return whether it was free."""
        path = os.path.join(self.folder, ip)
        with self._locked():
            try:
                fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CREAT, 0o600)
            except FileExistsError:
                return False
            os.write(fd, f"{container.strip()}\r\n{ifname}".encode())
            os.close(fd)
            if at is not None:
                os.utime(path, (at, at))
        return True

    def free(self, container, ifname="eth0"):
        """Release what a container's interface has; return the addresses."""
        match = f"{container.strip()}\r\n{ifname}".encode()
        with self._locked():
            found = [name for name, data in self.files().items() if data.strip() == match]
            for name in found:
                os.unlink(os.path.join(self.folder, name))
        return found

    def files(self):
        """Return the content of every address's file."""
        if not os.path.isdir(self.folder):
            return {}
        names = (name for name in os.listdir(self.folder) if "." in name or ":" in name)
        return {name: self.read(name) for name in names if not name.startswith("last_reserved_ip.")}

    def owner(self, ip):
        """Return whom a file names."""
        return tuple(self.read(ip).decode().split("\r\n"))

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def write(self, name, data):
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, name), "wb") as file:
            file.write(data)

    def age(self):
        """Make every file an old one."""
        for name in os.listdir(self.folder):
            os.utime(os.path.join(self.folder, name), (1e9, 1e9))


CALLS = (
    *("open", "write", "pwrite", "ftruncate", "link", "unlink", "rename", "replace", "mkdir"),
    "fsync",
)


def in_child_killed_at(number, action):
    """Run an action in a process that is killed before its nth system call that changes the disk.

    Returns:
        Whether it was killed, and the call's name and argument.
    """
    told, tell = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            _watch(number, tell)
            action()
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told) as pipe:
        call = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status), call


def _watch(number, tell):
    write, left = os.write, [number]

    def watched(name, real):
        def call(*args, **options):
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)
            left[0] -= 1
            if not left[0]:
                write(tell, f"{name} {args}".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, watched(name, getattr(os, name)))


def ends(names):
    """Return the endings of file names."""
    return {name.rpartition(".")[2] for name in names}
