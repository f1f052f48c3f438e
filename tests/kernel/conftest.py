"""Machines for kernel tests: network namespaces that exist only as open files of this process.

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

import pytest

from podnet.kernel import libc
from podnet.kernel.sandbox import Kernel

CLONE_NEWNET = 0x40000000
OWN = "/proc/thread-self/ns/net"


def new_netns():
    """Return a descriptor of a new network namespace, with lo up."""
    own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            pytest.skip("needs root or a user namespace: unshare -Urnm")
        try:
            fd = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            ip("link", "set", "lo", "up")
        finally:
            libc.setns(own)
    finally:
        os.close(own)
    return fd


@contextmanager
def inside(fd):
    """Be in a namespace, subprocesses included."""
    own = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(fd)
        try:
            yield
        finally:
            libc.setns(own)
    finally:
        os.close(own)


def ip(*arguments):
    """Run iproute2 in the namespace this thread is in: a witness that is not podnet."""
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2")
    done = subprocess.run(
        ["ip", "-j", "-d", *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout) if done.stdout.strip() else []


class Pod:
    """A sandbox of a test; ``end`` is the runtime taking the namespace away."""

    def __init__(self):
        self.fd = new_netns()
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def end(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def ip(self, *arguments):
        with inside(self.fd):
            return ip(*arguments)

    def link(self, name):
        return next((each for each in self.ip("link", "show") if each["ifname"] == name), None)

    def links(self):
        return sorted(each["ifname"] for each in self.ip("link", "show"))

    def addresses(self, name):
        shown = self.ip("address", "show", "dev", name)[0]["addr_info"]
        return sorted(
            f"{each['local']}/{each['prefixlen']}" for each in shown if each["scope"] != "link"
        )

    def sysctl(self, key):
        with inside(self.fd), open(f"/proc/sys/{key}") as file:
            return file.read().strip()


class Machine(Pod):
    """A node of a test: the namespace the test's thread is in, with an uplink ``up0``."""


@pytest.fixture
def node():
    """Be on a node of its own: uplink ``up0`` with the default route, its far end ``far0``."""
    machine = Machine()
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
        made.append(Pod())
        return made[-1]

    yield make
    for pod in made:
        pod.end()


@pytest.fixture
def pod(pods):
    """Have one sandbox."""
    return pods()


@pytest.fixture
def kernel(node):
    """Have podnet's kernel, seen from the test's node."""
    with Kernel(timeout=10) as opened:
        yield opened
