"""Real network namespaces for tests, existing only as open files of the test's process.

Nothing is mounted and no process is started, so nothing can outlive a test run, even one that is
killed: the kernel ends a namespace with its last descriptor.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from podnet.kernel import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"


def new_netns() -> int:
    """Return a descriptor of a new network namespace with ``lo`` up; skip where none can be had."""
    import pytest

    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None).unshare(_CLONE_NEWNET) != 0:
            pytest.skip("needs root, or a user namespace: unshare -Urnm")
        try:
            fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            ip("link", "set", "lo", "up")
        finally:
            libc.setns(own)
    finally:
        os.close(own)
    return fd


@contextmanager
def inside(fd: int) -> Iterator[None]:
    """Have this thread, and subprocesses that it starts, be in a namespace."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(fd)
        try:
            yield
        finally:
            libc.setns(own)
    finally:
        os.close(own)


def ip(*arguments: str) -> Any:
    """Run iproute2 where this thread is: a witness that is not podnet. Return what it shows."""
    import pytest

    if shutil.which("ip") is None:
        pytest.skip("needs iproute2")
    command = ["ip", "-j", "-d", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else []


class Namespace:
    """A namespace of a test.

    Attributes:
        path: leads to it while it lives, for any process.
    """

    def __init__(self) -> None:
        """Make it."""
        self.fd = new_netns()
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def end(self) -> None:
        """Take it away, as a runtime does when the pod ends; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def ip(self, *arguments: str) -> Any:
        """Run iproute2 in it."""
        with inside(self.fd):
            return ip(*arguments)

    def links(self) -> list[str]:
        """Return the names of its links."""
        return sorted(each["ifname"] for each in self.ip("link", "show"))

    def link(self, name: str) -> dict[str, Any] | None:
        """Return what ``ip`` shows of a link; None if there is none."""
        shown = self.ip("link", "show")
        return next((each for each in shown if each["ifname"] == name), None)

    def addresses(self, name: str) -> list[str]:
        """Return a link's addresses but the link-local ones."""
        shown = self.ip("address", "show", "dev", name)[0]["addr_info"]
        told = (each for each in shown if each["scope"] != "link")
        return sorted(f"{each['local']}/{each['prefixlen']}" for each in told)

    def sysctl(self, key: str) -> str:
        """Return a value below ``/proc/sys``."""
        with inside(self.fd), open(f"/proc/sys/{key}") as file:
            return file.read().strip()
