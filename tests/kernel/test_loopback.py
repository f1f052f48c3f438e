from __future__ import annotations

import pytest

from podnet.errors import CheckFailedError, KernelError
from podnet.testing.plugin_room import Room

pytestmark = pytest.mark.kernel


@pytest.fixture
def room(tmp_path, kernel):
    return Room(tmp_path, kernel)


def flags(pod):
    return pod.link("lo")["flags"]


def test_up_and_down(room, pod):
    pod.ip("link", "set", "lo", "down")
    call = room.call("ADD", pod.path, {"type": "loopback"}, ifname="anything")
    with pytest.raises(CheckFailedError, match="set lo"):
        room.again(call, "CHECK")
    result = room.run(call)
    assert "UP" in flags(pod)
    (interface,) = result.interfaces
    assert (interface.name, interface.mac) == ("lo", "00:00:00:00:00:00")
    assert interface.sandbox == pod.path
    assert [ip.address for ip in result.ips] == ["127.0.0.1/8", "::1/128"]
    room.again(call, "CHECK")
    room.again(call, "DEL")
    assert "UP" not in flags(pod)
    pod.end()
    room.again(call, "DEL")
    assert room.records() == []


def test_strange_addresses_are_refused(room, pod):
    pod.ip("address", "add", "10.0.0.1/32", "dev", "lo")
    with pytest.raises(KernelError, match="non-loopback"):
        room.run(room.call("ADD", pod.path, {"type": "loopback"}))
