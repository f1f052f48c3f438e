"""``ipam`` of type ``dhcp``: podnet's macvlan, and Debian's executable with its daemon."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
import time

import pytest

from podnet.engine.verbs import Delegates
from podnet.errors import DelegateError
from podnet.testing.namespaces import inside, ip
from podnet.testing.plugin_room import Room

PEERS = "/usr/lib/cni"

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.peers,
    pytest.mark.skipif(
        not os.path.exists(f"{PEERS}/dhcp"), reason="needs Debian's containernetworking-plugins"
    ),
]

# Message types of option 53 (RFC 2132, 9.6).
DISCOVER, OFFER, REQUEST, ACK, RELEASE = 1, 2, 3, 5, 7
COOKIE = b"\x63\x82\x53\x63"


class Server:
    """Gives 10.5.0.9 to whoever asks on ``far0`` (RFC 2131)."""

    def __init__(self):
        self.seen = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"far0")
        self._socket.bind(("", 67))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def end(self):
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while not self._ended.is_set():
            try:
                asked = self._socket.recv(2048)
            except TimeoutError:
                continue
            options = self._options(asked[240:])
            kind = options[53][0]
            self.seen.append(kind)
            if kind in (DISCOVER, REQUEST):
                answer = self._answer(asked, OFFER if kind == DISCOVER else ACK)
                self._socket.sendto(answer, ("255.255.255.255", 68))

    def _options(self, data):
        found = {}
        while data and data[0] != 255:
            if data[0] == 0:
                data = data[1:]
                continue
            found[data[0]] = data[2 : 2 + data[1]]
            data = data[2 + data[1] :]
        return found

    def _answer(self, asked, kind):
        mine, yours = socket.inet_aton("10.5.0.1"), socket.inet_aton("10.5.0.9")
        head = struct.pack(
            "!BBBB4sHH4s4s4s4s", 2, 1, 6, 0, asked[4:8], 0, 0x8000, bytes(4), yours, mine, bytes(4)
        )
        options = {
            53: bytes([kind]),
            54: mine,
            51: struct.pack("!I", 3600),
            1: socket.inet_aton("255.255.255.0"),
            3: mine,
        }
        told = b"".join(bytes([code, len(value)]) + value for code, value in options.items())
        return head + asked[28:44] + bytes(192) + COOKIE + told + b"\xff"


@pytest.fixture
def server(node):
    ip("address", "add", "10.5.0.1/24", "dev", "far0")
    server = Server()
    yield server
    server.end()


@pytest.fixture
def daemon(node, tmp_path):
    """Have the daemon of the executable on the node; return its socket."""
    path = str(tmp_path / "dhcp.sock")
    process = subprocess.Popen(
        [f"{PEERS}/dhcp", "daemon", "-socketpath", path, "-broadcast=true"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield path
    finally:
        process.kill()
        process.wait()


def room_of(tmp_path, kernel):
    room = Room(tmp_path, kernel)
    room.house.executor = Delegates(room.house)
    return room


def test_lease_of_a_daemon(tmp_path, kernel, pod, server, daemon):
    room = room_of(tmp_path, kernel)
    ipam = {"type": "dhcp", "daemonSocketPath": daemon}
    config = {"type": "macvlan", "master": "up0", "cniVersion": "1.0.0", "ipam": ipam}
    call = room.call("ADD", pod.path, config, path=(PEERS,))
    result = room.run(call)
    assert [(each.address, each.gateway) for each in result.ips] == [("10.5.0.9/24", "10.5.0.1")]
    assert [(each.dst, each.gw) for each in result.routes] == [("0.0.0.0/0", "10.5.0.1")]
    with inside(pod.fd):
        (link,) = (each for each in ip("address", "show") if each["ifname"] == "eth1")
    assert "10.5.0.9" in [each["local"] for each in link["addr_info"]]
    assert server.seen[:2] == [DISCOVER, REQUEST]
    room.again(call, "CHECK", result)
    room.again(call, "DEL")
    # It was asked for through the link, and so it is given back.
    deadline = time.monotonic() + 5
    while RELEASE not in server.seen and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.seen[-1] == RELEASE
    assert pod.links() == ["lo"]
    assert room.records() == []


def test_without_the_daemon_nothing_is_left(tmp_path, kernel, pod):
    room = room_of(tmp_path, kernel)
    ipam = {"type": "dhcp", "daemonSocketPath": str(tmp_path / "nobody.sock")}
    config = {"type": "macvlan", "master": "up0", "cniVersion": "1.0.0", "ipam": ipam}
    call = room.call("ADD", pod.path, config, path=(PEERS,))
    with pytest.raises(DelegateError, match="dhcp"):
        room.run(call)
    assert pod.links() == ["lo"]
    # What the daemon may hold is not known: DEL is an error until it answers.
    assert len(room.records()) == 1
    with pytest.raises(DelegateError, match="dhcp"):
        room.again(call, "DEL")
