from __future__ import annotations

import subprocess
import sys

import pytest

from podnet.errors import CheckFailedError, InterfaceExistsError
from podnet.model.result import IP, Result, Route
from podnet.testing.namespaces import inside, ip
from podnet.testing.plugin_room import Room

pytestmark = pytest.mark.kernel

ANSWER = Result(
    ips=(IP("10.1.0.5/24", "10.1.0.1"), IP("fd00::5/64", "fd00::1")),
    routes=(Route("0.0.0.0/0"), Route("::/0")),
)
PTP = {"type": "ptp", "ipam": {"type": "static"}}


@pytest.fixture
def room(tmp_path, kernel):
    return Room(tmp_path, kernel, ANSWER)


def host_links():
    return sorted(each["ifname"] for each in ip("link", "show"))


def destinations(shown):
    return sorted((each["dst"], each.get("gateway")) for each in shown)


def test_routes_go_through_the_gateway(room, pod):
    call = room.call("ADD", pod.path, {**PTP, "mtu": 1400})
    result = room.run(call)
    outer = result.interfaces[0].name
    assert destinations(pod.ip("-4", "route", "show")) == [
        ("10.1.0.0/24", "10.1.0.1"),
        ("10.1.0.1", None),
        ("default", "10.1.0.1"),
    ]
    assert destinations(pod.ip("-6", "route", "show")) == [
        ("default", "fd00::1"),
        ("fd00::/64", "fd00::1"),
        ("fd00::1", None),
        ("fe80::/64", None),
    ]
    assert ("10.1.0.5", None) in destinations(ip("-4", "route", "show", "dev", outer))
    assert ("fd00::5", None) in destinations(ip("-6", "route", "show", "dev", outer))
    (shown,) = ip("address", "show", "dev", outer)
    assert {"10.1.0.1", "fd00::1"} <= {each["local"] for each in shown["addr_info"]}
    assert (shown["mtu"], pod.link("eth1")["mtu"]) == (1400, 1400)
    assert shown["address"] == result.interfaces[0].mac
    assert pod.link("eth1")["address"] == result.interfaces[1].mac
    for key, value in {
        f"net/ipv6/conf/{outer}/accept_ra": "0",
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
    }.items():
        with open(f"/proc/sys/{key}") as file:
            assert file.read().strip() == value
    room.again(call, "CHECK", result)
    room.again(call, "DEL", result)
    assert pod.links() == ["lo"]
    assert host_links() == ["far0", "lo", "up0"]


KNOCK = """
import socket, sys
knocking = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
knocking.settimeout(5)
try:
    knocking.connect((sys.argv[1], 9))
except ConnectionRefusedError:
    sys.exit(0)
sys.exit(1)
"""


def connects(pod, address):
    """Tell whether a TCP reset comes back: that needs neither raw sockets nor a ping binary."""
    with inside(pod.fd):
        return subprocess.run([sys.executable, "-c", KNOCK, address], check=False).returncode == 0


@pytest.mark.parametrize("gateway", ["10.1.0.1", "fd00::1"])
def test_the_host_is_reached_at_once(room, pod, gateway):
    room.run(room.call("ADD", pod.path, PTP))
    assert connects(pod, gateway)


def test_single_addresses_reach_their_gateway(tmp_path, kernel, pod):
    """The peer fails: it adds the default route while the gateway is not yet reachable."""
    answer = Result(ips=(IP("10.1.0.5/32", "169.254.1.1"),), routes=(Route("0.0.0.0/0"),))
    room = Room(tmp_path, kernel, answer)
    call = room.call("ADD", pod.path, PTP)
    result = room.run(call)
    assert destinations(pod.ip("-4", "route", "show")) == [
        ("169.254.1.1", None),
        ("default", "169.254.1.1"),
    ]
    room.again(call, "CHECK", result)
    assert connects(pod, "169.254.1.1")


@pytest.mark.parametrize("end", ["inner", "outer"])
def test_an_existing_link_of_either_name_is_left_alone(room, pod, end):
    call = room.call("ADD", pod.path, PTP)
    name = room.run(call).interfaces[0].name
    room.again(call, "DEL")
    if end == "inner":
        pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "other0")
    else:
        ip("link", "add", name, "type", "veth", "peer", "name", "other0")
    before = (pod.ip("link", "show"), ip("link", "show"))
    with pytest.raises(InterfaceExistsError):
        room.run(call)
    room.again(call, "DEL")
    assert (pod.ip("link", "show"), ip("link", "show")) == before
    assert room.records() == []


def test_sandbox_gone_before_del(room, pod):
    call = room.call("ADD", pod.path, PTP)
    room.run(call)
    pod.end()
    room.again(call, "DEL")
    assert host_links() == ["far0", "lo", "up0"]
    assert room.records() == []


def test_check_tells_what_differs_on_both_sides(room, pod):
    call = room.call("ADD", pod.path, PTP)
    result = room.run(call)
    outer = result.interfaces[0].name
    ip("route", "del", "10.1.0.5", "dev", outer)
    pod.ip("route", "del", "10.1.0.1", "dev", "eth1")
    with pytest.raises(CheckFailedError) as caught:
        room.again(call, "CHECK", result)
    assert f"add route 10.1.0.5/32 on {outer} (host)" in caught.value.details
    assert "add route 10.1.0.1/32 on eth1 (sandbox)" in caught.value.details


def test_kill_between_any_two_ops_then_del(tmp_path, kernel, pods):
    class Killed(BaseException):
        pass

    for number in range(100):
        pod = pods()
        seen = iter(range(1000))

        def step(_name, seen=seen, number=number):
            if next(seen) == number:
                raise Killed

        room = Room(tmp_path, kernel, ANSWER, step=step)
        call = room.call("ADD", pod.path, PTP)
        try:
            room.run(call)
        except Killed:
            after = Room(tmp_path, kernel, ANSWER)
            after.again(call, "DEL")
            assert pod.links() == ["lo"]
            assert host_links() == ["far0", "lo", "up0"]
            assert after.records() == []
        else:
            assert number > 15
            return
