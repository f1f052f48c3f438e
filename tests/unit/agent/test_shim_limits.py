"""Limits, on both sides of their borders, and agents that do not do their part."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shim_bench import ANSWER, PATIENCE, Bench, FakeAgent, answer, finish

from podnet.agent import shim as python_shim

FINE = answer(0, b"done")
MOST_ENVIRONMENT = 256 << 10
MOST_STDIN = 8 << 20
MOST_OUTPUT = 16 << 20


@pytest.mark.parametrize("over", [0, 1])
def test_the_environment(bench: Bench, over: int) -> None:
    own = bench.environment({})
    size = sum(len(key) + 1 + len(value) + 1 for key, value in own.items())
    rest = MOST_ENVIRONMENT + over - size
    given = {"CNI_A": "a" * 100_000, "CNI_B": "b" * 100_000}
    given["PODNET_C"] = "c" * (rest - 2 * 100_007 - len("PODNET_C=") - 1)
    with FakeAgent(bench.socket, FINE) as agent:
        ended = bench.run(**given, OTHER="x" * 100_000)
    if over:
        assert ended.error["code"] == 4
        assert "256 KiB" in ended.error["msg"]
        assert agent.asked == []
    else:
        assert ended.stdout == b"done"
        assert sum(len(each) + 1 for each in agent.last.environment) == MOST_ENVIRONMENT


@pytest.mark.parametrize("over", [0, 1])
def test_stdin(bench: Bench, over: int) -> None:
    with FakeAgent(bench.socket, FINE) as agent:
        ended = bench.run(bytes(MOST_STDIN + over))
    if over:
        assert ended.error["code"] == 6
        assert ended.error["msg"] == "network config is larger than 8 MiB"
        assert agent.asked == []
    else:
        assert ended.stdout == b"done"
        assert len(agent.last.stdin) == MOST_STDIN


@pytest.mark.parametrize("length", [107, 108, 100_000])
def test_the_sockets_path(bench: Bench, length: int) -> None:
    path = f"{bench.folder}/{'s' * length}"[:length]
    if length > 107:
        error = bench.run(PODNET_SOCKET=path).error
        assert error["code"] == 4
        assert "PODNET_SOCKET" in error["msg"]
        return
    with FakeAgent(Path(path), FINE):
        assert bench.run(PODNET_SOCKET=path).stdout == b"done"


@pytest.mark.parametrize("path", ["unset", ""])
def test_the_sockets_path_by_default(bench: Bench, path: str) -> None:
    if Path("/run/podnet/agent.sock").exists():
        pytest.skip("an agent runs on this machine")
    error = bench.run(PODNET_SOCKET=path).error
    assert error["code"] == 11
    assert "/run/podnet/agent.sock" in error["details"]


@pytest.mark.parametrize("text", ["1", "3600", "0060", "0001"])
def test_timeouts(bench: Bench, text: str) -> None:
    with FakeAgent(bench.socket, FINE) as agent:
        assert bench.run(PODNET_TIMEOUT=text).stdout == b"done"
    assert int(text) * 1000 - 1000 < agent.last.milliseconds <= int(text) * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "3601",
        "-1",
        "+1",
        "1.5",
        "1 ",
        " 1",
        "00001",
        "1s",
        "0x1",
        "1e3",
        "١",
        "9" * 100_000,
    ],
)
def test_wrong_timeouts(bench: Bench, text: str) -> None:
    error = bench.run(PODNET_TIMEOUT=text).error
    assert error["code"] == 4
    assert "PODNET_TIMEOUT" in error["msg"]


def test_a_name_that_is_too_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "n" * 256
    if bench.shim.kind != "python":
        command = ["/bin/bash", "-c", f'exec -a /x/{name} "$0"']
        assert bench.run(command=command).error["code"] == 4
        return
    # No file has such a name, and a script's is always that of its file.
    monkeypatch.setattr(sys, "argv", [f"/x/{name}"])
    with pytest.raises(python_shim._CallError) as caught:
        python_shim._ask_agent()
    assert caught.value.code == 4


@pytest.mark.parametrize("part", ["stdout", "stderr"])
def test_outputs(bench: Bench, part: str) -> None:
    text = bytes(range(256)) * (MOST_OUTPUT >> 8)
    with FakeAgent(bench.socket, answer(1, **{part: text})):
        ended = bench.run()
    assert ended.code == 1
    assert getattr(ended, part) == text


@pytest.mark.parametrize(
    "wrong",
    [
        ANSWER.pack(b"PDN1", 0, MOST_OUTPUT + 1, 0),
        ANSWER.pack(b"PDN1", 0, 0, MOST_OUTPUT + 1),
        ANSWER.pack(b"PDN1", 0, (1 << 32) - 1, (1 << 32) - 1),
        ANSWER.pack(b"PDN1", 256, 0, 0),
        ANSWER.pack(b"PDN1", (1 << 32) - 1, 0, 0),
        ANSWER.pack(b"PDN2", 0, 0, 0),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"X",
        b"PX",
        b"PDX",
        b"PDN0",
        b"\0",
    ],
)
def test_what_is_no_answer(bench: Bench, wrong: bytes) -> None:
    def script(agent: FakeAgent, connection: socket.socket) -> None:
        agent.take(connection)
        connection.sendall(wrong)
        connection.recv(1)  # until the shim has gone: it judges without waiting for more

    with FakeAgent(bench.socket, script):
        error = bench.run().error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent answered something that is no answer"


@pytest.mark.parametrize("cut", range(len(answer(0, b"out", b"er"))))
def test_broken_off(bench: Bench, cut: int) -> None:
    make_fallback(bench)
    with FakeAgent(bench.socket, answer(0, b"out", b"er")[:cut]):
        error = bench.run().error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent broke off"


@pytest.mark.parametrize("taken", [0, 1, 20, 30, 70_000])
def test_hung_up_on_while_asking(bench: Bench, taken: int) -> None:
    def script(agent: FakeAgent, connection: socket.socket) -> None:
        while taken and not connection.recv(taken):
            pass

    make_fallback(bench)
    with FakeAgent(bench.socket, script):
        error = bench.run(bytes(1 << 20)).error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent broke off"


def make_fallback(bench: Bench) -> None:
    """Leave a plugin there that must not be run: the agent may have done what it was asked."""
    path = bench.folder / ".podnet-plugin"
    path.write_text("#!/bin/sh\necho fallback\n")
    path.chmod(0o755)


@contextmanager
def within(low: float, high: float) -> Iterator[None]:
    before = time.monotonic()
    yield
    assert low <= time.monotonic() - before < high


def silent(agent: FakeAgent, connection: socket.socket) -> None:
    agent.take(connection)
    connection.recv(1)


def deaf(agent: FakeAgent, connection: socket.socket) -> None:
    time.sleep(2)


def trickling(agent: FakeAgent, connection: socket.socket) -> None:
    agent.take(connection)
    try:
        for byte in answer(0, bytes(1000)):
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        pass


@pytest.mark.parametrize("script", [silent, deaf, trickling])
def test_the_deadline(bench: Bench, script: object) -> None:
    make_fallback(bench)
    with FakeAgent(bench.socket, script), within(1, 15):  # type: ignore[arg-type]
        error = bench.run(bytes(4 << 20), PODNET_TIMEOUT="1").error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent did not answer in 1 s"


def test_a_backlog_that_stays_full(bench: Bench) -> None:
    make_fallback(bench)
    with full(bench), within(1, 15):
        error = bench.run(PODNET_TIMEOUT="1").error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent did not answer in 1 s"


def test_a_backlog_that_was_full(bench: Bench) -> None:
    with full(bench) as (listener, waiting):
        process = bench.start(stdin=subprocess.DEVNULL)
        time.sleep(0.3)
        for _ in waiting:
            listener.accept()[0].close()
        connection, _ = listener.accept()
        with connection:
            connection.sendall(FINE)
            assert finish(process).stdout == b"done"


@contextmanager
def full(bench: Bench) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bench.socket))
        listener.listen(0)
        listener.settimeout(PATIENCE)
        waiting: list[socket.socket] = []
        try:
            while True:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(bench.socket))
        except BlockingIOError:
            waiting.pop().close()
        try:
            yield listener, waiting
        finally:
            for each in waiting:
                each.close()


def test_stdin_that_does_not_end(bench: Bench) -> None:
    reading, writing = os.pipe()
    try:
        with within(1, 15):
            error = bench.run(reading, PODNET_TIMEOUT="1").error
    finally:
        os.close(reading)
        os.close(writing)
    assert error["code"] == 5
    assert error["msg"] == "the network config did not end in 1 s"


def test_stdin_that_cannot_be_read(bench: Bench) -> None:
    fd = os.open(bench.folder / "file", os.O_WRONLY | os.O_CREAT)
    try:
        error = bench.run(fd).error
    finally:
        os.close(fd)
    assert error["code"] == 5
    assert error["details"] == os.strerror(errno.EBADF)


def test_stdin_that_is_a_folder(bench: Bench) -> None:
    fd = os.open(bench.folder, os.O_RDONLY)
    try:
        ended = bench.run(fd)
    finally:
        os.close(fd)
    if bench.shim.kind == "python":  # which does not even start
        assert ended.code == 1
        return
    assert ended.error["code"] == 5
    assert ended.error["details"] == os.strerror(errno.EISDIR)


def test_a_socket_of_another_kind(bench: Bench) -> None:
    make_fallback(bench)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(bench.socket))
        error = bench.run().error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent cannot be asked"
    assert error["details"] == f"{bench.socket}: {os.strerror(errno.EPROTOTYPE)}"


def test_a_socket_of_others(bench: Bench) -> None:
    make_fallback(bench)
    with tempfile.TemporaryDirectory(dir=bench.folder) as closed:
        path = Path(closed, "agent.sock")
        Path(closed).chmod(0)
        # Root may use every file, unless that right is taken away.
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        error = bench.run(PODNET_SOCKET=str(path), command=command).error
        Path(closed).chmod(0o700)
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent may not be asked"
    assert error["details"] == f"this user may not use the socket {path}"
