"""Nodes and pods for kernel tests, in namespaces that end with the test.

A user who is not root gets a user namespace for the whole run, entered before anything else is
done; where there is none to be had, the run fails and says why.
"""

from __future__ import annotations

import ctypes
import os

import pytest

from podnet.kernel.sandbox import Kernel
from podnet.testing.namespaces import Namespace, inside, ip

USER_NET_AND_MOUNT = 0x10000000 | 0x40000000 | 0x00020000  # CLONE_NEWUSER, _NEWNET, _NEWNS


def pytest_configure():
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        return
    if ctypes.CDLL(None).unshare(USER_NET_AND_MOUNT) != 0:
        raise pytest.UsageError("kernel tests need root, or a kernel that grants user namespaces")
    maps = (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1"))
    for name, text in maps:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    # pytest names its folder after the user, who is called root from here on: not root's folder.
    os.environ["LOGNAME"] = f"user-{user}"


@pytest.fixture
def node():
    """Be on a node of its own: uplink ``up0`` with the default route, its far end ``far0``."""
    machine = Namespace()
    try:
        with inside(machine.fd):
            ip("link", "add", "up0", "type", "veth", "peer", "name", "far0")
            ip("link", "set", "far0", "up")
            ip("link", "set", "up0", "up")
            ip("address", "add", "172.30.0.2/24", "dev", "up0")
            ip("route", "add", "default", "via", "172.30.0.1")
            yield machine
    finally:
        machine.end()


@pytest.fixture
def pods(node):
    """Make sandboxes; all end with the test."""
    made = []

    def make():
        made.append(Namespace())
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def pod(pods):
    """Have one sandbox."""
    return pods()


@pytest.fixture
def kernel(node):
    """Have podnet's kernel, seen from the test's node."""
    with Kernel(timeout=10) as opened:
        yield opened
