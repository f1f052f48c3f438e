"""The agent's socket: who is served, who is not, and that nobody harms others."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest

from podnet.agent import frames, listener
from podnet.agent.frames import Request
from podnet.agent.server import Limits, Server
from podnet.cni.skel import Response
from podnet.errors import InvalidEnvironmentError

ASKED = Request("macvlan", {"CNI_COMMAND": "ADD"}, b"{}", 20)


def echo(request, _came):
    return Response(len(request.stdin) % 256, request.stdin, request.name.encode())


@contextmanager
def serving(path, answer=echo, **options):
    with listener.listen(str(path)) as listening:
        server = Server(listening, answer, **options)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            server.stop(backlog=True)
            thread.join(10)
            assert not thread.is_alive()
            assert server.busy == server._buffered == 0


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def answered(client):
    with client, client.makefile("rb") as stream:
        head = stream.read(16)
        if not head:
            return None
        magic, code, out, err = struct.unpack(">4sIII", head)
        assert magic == b"PDN1"
        found = code, stream.read(out), stream.read(err)
        assert stream.read() == b""
        return found


def ask(path, request=ASKED):
    client = connect(path)
    client.sendall(frames.write_request(request))
    return answered(client)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sock" / "agent.sock"


def test_a_request_is_answered(path):
    with serving(path) as server:
        assert ask(path) == (2, b"{}", b"macvlan")
        big = os.urandom(3 << 20)
        assert ask(path, Request("x", {}, big, 5)) == (0, big, b"x")
    assert server.counts == {"answered": 2}


def test_the_socket_is_its_owners(path):
    with serving(path):
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert os.stat(path.parent).st_mode & 0o777 == 0o700


def test_other_users_are_turned_away(path):
    with serving(path, users=frozenset({4711})) as server:
        code, out, _ = answered(connect(path))
        assert code == 1
        assert json.loads(out)["msg"] == f"user {os.geteuid()} may not use podnet's agent"
    assert server.counts == {"refused": 1}


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PDN1" + b"\xff" * 16])
def test_what_is_no_request_is_refused(path, data):
    with serving(path):
        client = connect(path)
        client.sendall(data)
        code, out, _ = answered(client)
        assert (code, json.loads(out)["code"]) == (1, 6)
        assert ask(path)[0] == 2


def test_half_requests_end_after_a_while_and_keep_nobody(path):
    frame = frames.write_request(ASKED)
    with serving(path, limits=Limits(workers=1, reading=0.3)) as server:
        slow = [connect(path) for _ in range(50)]
        for n, client in enumerate(slow):
            client.sendall(frame[: n % len(frame)])
        started = time.monotonic()
        assert ask(path)[0] == 2
        assert time.monotonic() - started < 0.3
        for client in slow:
            code, out, _ = answered(client)
            assert (code, json.loads(out)["code"]) == (1, 11)
        assert server.counts["refused"] == 50


def test_who_leaves_is_forgotten(path):
    done = []
    gate = threading.Event()

    def answer(request, came):
        done.append(request.name)
        gate.wait(10)
        return echo(request, came)

    with serving(path, answer, limits=Limits(workers=1)) as server:
        first = connect(path)
        first.sendall(frames.write_request(ASKED))
        while not done:
            time.sleep(0.01)
        gone = connect(path)
        gone.sendall(frames.write_request(Request("gone", {}, b"", 5)))
        while server.busy < 2:
            time.sleep(0.01)
        gone.close()
        gate.set()
        assert answered(first)[0] == 2
        assert ask(path)[0] == 2
    assert done == ["macvlan", "macvlan"], "what nobody waits for was begun"
    assert server.counts["broken off"] == 1


def test_an_answer_that_nobody_takes_keeps_no_worker(path):
    big = Request("x", {}, b"x" * (4 << 20), 5)
    with serving(path, limits=Limits(workers=1, writing=0.2)):
        deaf = connect(path)
        deaf.sendall(frames.write_request(big))
        assert ask(path)[0] == 2
        deaf.close()


def test_above_its_limits_it_reads_no_more(path):
    gate = threading.Event()

    def answer(request, came):
        gate.wait(10)
        return echo(request, came)

    limits = Limits(workers=1, connections=8, buffered=1 << 20)
    asked = Request("x", {}, b"x" * (300 << 10), 9)
    found = []
    with serving(path, answer, limits=limits) as server:
        threads = [
            threading.Thread(target=lambda: found.append(ask(path, asked))) for _ in range(40)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        assert server._buffered <= limits.buffered + 8 * len(asked.stdin)
        assert server.busy <= 8
        gate.set()
        for thread in threads:
            thread.join(20)
    assert found == [(0, asked.stdin, b"x")] * 40


def test_many_at_once(path):
    with serving(path) as server:
        found = []
        threads = [threading.Thread(target=lambda: found.append(ask(path))) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert found == [(2, b"{}", b"macvlan")] * 200
    assert server.counts == {"answered": 200}


def test_a_new_agent_takes_over_and_no_request_is_lost(path):
    """While one after the other starts in the same place, every client gets an answer."""
    found, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            found.append(ask(path))

    with listener.listen(str(path)) as first:
        servers = [Server(first, echo)]
        runs = [threading.Thread(target=servers[0].run)]
        runs[0].start()
        clients = [threading.Thread(target=client) for _ in range(4)]
        for each in clients:
            each.start()
        for _ in range(5):
            listening = listener.listen(str(path))
            servers.append(Server(listening, echo))
            runs.append(threading.Thread(target=servers[-1].run))
            runs[-1].start()
            servers[-2].stop(backlog=True)
            runs[-2].join(10)
            servers[-2]._listener.close()
            time.sleep(0.05)
        stop.set()
        for each in clients:
            each.join(10)
        servers[-1].stop(backlog=True)
        runs[-1].join(10)
        servers[-1]._listener.close()
    assert set(found) == {(2, b"{}", b"macvlan")}
    assert sum(server.counts["answered"] for server in servers) == len(found)


def test_what_systemd_hands_over(monkeypatch, tmp_path):
    assert listener.inherited() is None
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(InvalidEnvironmentError, match="exactly one"):
        listener.inherited()


def test_systemd_is_told(monkeypatch, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        listener.notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
    listener.notify("READY=1")  # nobody listens


@pytest.mark.parametrize("path", ["agent.sock", "/" + "x" * 100, "/a\0b"])
def test_paths_that_no_socket_can_have(path):
    with pytest.raises(InvalidEnvironmentError, match="no path of a socket"):
        listener.listen(path)
