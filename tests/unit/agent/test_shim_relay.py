"""What the shim asks, and that the answer comes back as it is."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shim_bench import PATIENCE, Bench, FakeAgent, answer, finish

PLAIN = answer(3, b'{"ips": []}', b"a note\n")


def repeated(size: int) -> st.SearchStrategy[bytes]:
    """Bytes that are large without being drawn one by one."""
    return st.builds(
        lambda unit, times: (unit * times)[:size],
        st.binary(max_size=64),
        st.sampled_from([0, 1, 7, 1021, 5003]),
    )


VALUES = repeated(100_000).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
NAMES = st.from_regex(r"\A(CNI|PODNET)_[A-Z_]{0,20}\Z").filter(
    lambda name: name not in ("CNI_COMMAND", "PODNET_SOCKET", "PODNET_TIMEOUT")
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    variables=st.dictionaries(NAMES, VALUES, max_size=2),
    stdin=repeated(300_000),
    code=st.integers(0, 255),
    stdout=repeated(300_000),
    stderr=repeated(300_000),
)
def test_round_trip(
    bench: Bench,
    variables: dict[str, str],
    stdin: bytes,
    code: int,
    stdout: bytes,
    stderr: bytes,
) -> None:
    with FakeAgent(bench.socket, answer(code, stdout, stderr)) as agent:
        ended = bench.run(stdin, **variables)
    assert (ended.code, ended.stdout, ended.stderr) == (code, stdout, stderr)
    assert agent.last.stdin == stdin
    assert agent.last.name == b"macvlan"
    expected = bench.environment(variables)
    assert agent.last.variables == {
        os.fsencode(key): os.fsencode(value) for key, value in expected.items()
    }
    assert agent.extra == b""


def test_only_the_agents_variables_are_forwarded(bench: Bench) -> None:
    others = {"PATH": "/bin", "CNI": "1", "XCNI_A": "1", "cni_a": "1", "TRACEPARENTS": "1"}
    ours = {"CNI_": "", "CNI_ARGS": "A=1;B=\xfc=", "PODNET_X": "", "TRACEPARENT": "t"}
    with FakeAgent(bench.socket, PLAIN) as agent:
        bench.run(**others, **ours, TRACESTATE="s")
    names = {each.partition(b"=")[0] for each in agent.last.environment}
    own = {b"CNI_COMMAND", b"PODNET_SOCKET", b"PODNET_TIMEOUT", b"TRACESTATE"}
    assert names == {os.fsencode(name) for name in ours} | own
    assert b"CNI_ARGS=A=1;B=\xc3\xbc=" in agent.last.environment


def test_of_variables_of_one_name_the_first_counts(bench: Bench) -> None:
    program = """if True:
        import ctypes, sys
        path, *entries = [each.encode() for each in sys.argv[1:]]
        texts = lambda items: (ctypes.c_char_p * (len(items) + 1))(*items, None)
        ctypes.CDLL(None).execve(path, texts([path]), texts(entries))
    """
    entries = ("CNI_A=1", f"PODNET_SOCKET={bench.socket}", "CNI_AB=2", "CNI_A=3", "CNI_COMMAND")
    command = [sys.executable, "-c", program, bench.name(), *entries]
    with FakeAgent(bench.socket, PLAIN) as agent:
        subprocess.run(command, check=False, input=b"", timeout=PATIENCE, capture_output=True)
    assert agent.last.environment == (entries[0].encode(), entries[1].encode(), b"CNI_AB=2")


@pytest.mark.parametrize("name", ["multus", "podnet", "-x", "a b", "ü", "n" * 255])
def test_the_name_is_the_files(bench: Bench, name: str) -> None:
    with FakeAgent(bench.socket, PLAIN) as agent:
        assert bench.run(name=name).code == 3
    assert agent.last.name == name.encode()


def test_the_agent_learns_how_long_it_is_waited_for(bench: Bench) -> None:
    with FakeAgent(bench.socket, PLAIN) as agent:
        bench.run(PODNET_TIMEOUT="30")
        bench.run(PODNET_TIMEOUT="unset")
    assert 10_000 < agent.asked[0].milliseconds <= 30_000
    assert 95_000 < agent.asked[1].milliseconds <= 115_000


def test_an_answer_in_single_bytes(bench: Bench) -> None:
    def script(agent: FakeAgent, connection: socket.socket) -> None:
        agent.take(connection)
        for byte in PLAIN:
            connection.sendall(bytes([byte]))
            time.sleep(0.005)

    with FakeAgent(bench.socket, script):
        ended = bench.run()
    assert (ended.code, ended.stdout, ended.stderr) == (3, b'{"ips": []}', b"a note\n")


def test_what_follows_an_answer_is_not_looked_at(bench: Bench) -> None:
    with FakeAgent(bench.socket, PLAIN + b"more"):
        assert bench.run().stdout == b'{"ips": []}'


def test_an_agent_that_reads_slowly(bench: Bench) -> None:
    def script(agent: FakeAgent, connection: socket.socket) -> None:
        time.sleep(0.3)
        agent.take(connection)
        connection.sendall(PLAIN)

    config = bytes(range(256)) * 4096
    with FakeAgent(bench.socket, script) as agent:
        assert bench.run(config).code == 3
    assert agent.last.stdin == config


def test_an_agent_that_answers_before_it_has_read(bench: Bench) -> None:
    def script(agent: FakeAgent, connection: socket.socket) -> None:
        connection.sendall(PLAIN)

    with FakeAgent(bench.socket, script):
        ended = bench.run(bytes(1 << 20))
    assert (ended.code, ended.stdout, ended.stderr) == (3, b'{"ips": []}', b"a note\n")


def test_nothing_is_written_before_the_answer_is_whole(bench: Bench) -> None:
    nearly, go_on = threading.Event(), threading.Event()

    def script(agent: FakeAgent, connection: socket.socket) -> None:
        agent.take(connection)
        connection.sendall(PLAIN[:-1])
        nearly.set()
        assert go_on.wait(PATIENCE)
        connection.sendall(PLAIN[-1:])

    with FakeAgent(bench.socket, script):
        process = bench.start(stdin=subprocess.DEVNULL)
        assert nearly.wait(PATIENCE)
        assert process.stdout
        assert process.stderr
        written, _, _ = select.select([process.stdout, process.stderr], [], [], 0.3)
        go_on.set()
        assert finish(process).code == 3
    assert written == []


def test_version_does_not_read_stdin(bench: Bench) -> None:
    reading, writing = os.pipe()
    try:
        with FakeAgent(bench.socket, answer(0, b"versions")) as agent:
            ended = bench.run(reading, CNI_COMMAND="VERSION")
    finally:
        os.close(reading)
        os.close(writing)
    assert ended.stdout == b"versions"
    assert agent.last.stdin == b""


@pytest.mark.parametrize("verb", ["unset", ""])
def test_without_a_verb_a_terminal_is_not_read(bench: Bench, verb: str) -> None:
    ours, theirs = pty.openpty()
    try:
        with FakeAgent(bench.socket, answer(0, b"", b"about\n")) as agent:
            assert bench.run(theirs, CNI_COMMAND=verb).stderr == b"about\n"
            bench.run(b"piped", CNI_COMMAND=verb)
    finally:
        os.close(ours)
        os.close(theirs)
    assert [each.stdin for each in agent.asked] == [b"", b"piped"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_files(bench: Bench, closed: str) -> None:
    with FakeAgent(bench.socket, answer(9, b"out", b"err")) as agent:
        ended = bench.run(b"config", command=["/bin/sh", "-c", f'exec "$0" {closed}'])
    assert ended.code == 9
    assert ended.stdout == (b"" if " >&-" in f" {closed}" else b"out")
    assert ended.stderr == (b"" if "2>&-" in closed else b"err")
    assert agent.last.stdin == (b"" if "<&-" in closed else b"config")
    assert agent.extra == b""


@pytest.mark.parametrize("output", [answer(7, bytes(1 << 20)), answer(7, b"", b"x"), b"garbage"])
def test_a_reader_who_has_gone_is_no_failure(bench: Bench, output: bytes) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with FakeAgent(bench.socket, output):
            ended = bench.run(stdout=writing)
    finally:
        os.close(writing)
    assert ended.code == (1 if output == b"garbage" else 7)


def test_an_output_that_does_not_block(bench: Bench) -> None:
    text = bytes(range(256)) * 2048
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with FakeAgent(bench.socket, answer(5, text)):
        process = bench.start(stdin=subprocess.DEVNULL, stdout=writing)
        os.close(writing)
        time.sleep(0.2)
        with open(reading, "rb") as file:
            assert file.read() == text
        assert finish(process).code == 5


def test_an_input_that_does_not_block(bench: Bench) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with FakeAgent(bench.socket, PLAIN) as agent:
        process = bench.start(stdin=reading)
        os.close(reading)
        for part in (b"a", b"b"):
            time.sleep(0.1)
            os.write(writing, part)
        os.close(writing)
        assert finish(process).code == 3
    assert agent.last.stdin == b"ab"


def test_stopped_and_continued(bench: Bench) -> None:
    def script(agent: FakeAgent, connection: socket.socket) -> None:
        agent.take(connection)
        for _ in range(3):
            for each in (signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH):
                process.send_signal(each)
                time.sleep(0.02)
        connection.sendall(PLAIN)

    with FakeAgent(bench.socket, script):
        process = bench.start()
        assert finish(process, b"{}").code == 3


def test_errors_are_json_whatever_the_path(bench: Bench) -> None:
    path = b'/tmp/no"\\\n\x01\x7f\xc3\xbc\xf0\x9f\x98\x80\xe2\x82-\xed\xa0\x80\xc0\xaf\xff'
    ended = bench.run(PODNET_SOCKET=os.fsdecode(path))
    assert f"{escaped(path)}: start `podnet agent`" in ended.error["details"]
    assert b"\\u000a" in ended.stdout
    assert b"\\ufffd" in ended.stdout


SURROGATES = st.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=4), SURROGATES), max_size=12))
def test_escaping_is_that_of_python(bench: Bench, parts: list[bytes]) -> None:
    path = (b"/nowhere/" + b"".join(parts).replace(b"\0", b""))[:107]
    assert escaped(path) in bench.run(PODNET_SOCKET=os.fsdecode(path)).error["details"]


def escaped(path: bytes) -> str:
    told = path.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in told)
