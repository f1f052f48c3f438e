from __future__ import annotations

import pytest

from podnet.kernel.sandbox import Kernel
from podnet.testing.namespaces import Namespace, inside, ip


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
