"""What valgrind, strace, sanitizers and a fuzzer see in the compiled shim."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from shim_bench import (
    ANSWER,
    HERE,
    SANITIZED,
    SOURCE,
    Bench,
    FakeAgent,
    Shim,
    answer,
    compile_c,
    tool,
)

PLAIN = answer(3, b"out", b"err")
# Its main is left out, and so much else is not used.
FUZZED = (f"-I{SOURCE.parent}", "-Wno-unused-function")


@pytest.mark.parametrize("script", [PLAIN, PLAIN[:-1], b"garbage", None])
def test_valgrind_finds_nothing(
    build: Callable[[str], Shim], script: bytes | None, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    checks = ["--leak-check=full", "--track-fds=yes", "--error-exitcode=99", f"--log-file={log}"]
    command = [tool("valgrind"), "-q", *checks]
    with Bench(build("debugged")) as bench:
        if script is None:
            ended = bench.run(bytes(200_000), command=command)
        else:
            with FakeAgent(bench.socket, script):
                ended = bench.run(bytes(200_000), command=command)
    assert ended.code == (3 if script == PLAIN else 1), log.read_text()
    assert "definitely lost" not in log.read_text()


def test_calls_of_the_kernel(build: Callable[[str], Shim], tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    with Bench(build("c")) as bench, FakeAgent(bench.socket, PLAIN):
        ended = bench.run(command=["strace", "-o", str(log)])
    if ended.code != 3:
        pytest.skip("strace may not trace here")
    calls = re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE)
    ours = calls[calls.index("fcntl") :]
    assert len(ours) <= 24, ours


@pytest.mark.parametrize("number", ["EINTR", "EAGAIN"])
def test_interrupted_calls_are_made_again(
    build: Callable[[str], Shim], number: str, tmp_path: Path
) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    inject = f"inject=poll,read,write,connect,sendto,recvfrom:error={number}:when=1+2"
    command = ["strace", "-o", str(tmp_path / "log"), "-e", inject]
    with Bench(build("c")) as bench, FakeAgent(bench.socket, PLAIN) as agent:
        ended = bench.run(b"config", command=command)
    if "INJECTED" not in (tmp_path / "log").read_text():
        pytest.skip("strace may not trace here")
    assert (ended.code, ended.stdout, ended.stderr) == (3, b"out", b"err")
    assert agent.last.stdin == b"config"


@pytest.mark.parametrize("kind", ["c", "python"])
def test_the_fallback_gets_stdin_from_an_old_kernel(
    build: Callable[[str], Shim], kind: str, tmp_path: Path
) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    command = ["strace", "-o", str(log), "-e", "inject=memfd_create:error=ENOSYS"]
    with Bench(build(kind)) as bench:
        path = bench.folder / ".podnet-plugin"
        path.write_text("#!/bin/sh\ncat\n")
        path.chmod(0o755)
        ended = bench.run(b"config" * 10_000, command=command)
    if "INJECTED" not in log.read_text():
        pytest.skip("strace may not trace here")
    assert ended.stdout == b"config" * 10_000


def inputs(count: int) -> list[bytes]:
    """Return answers and paths, most of them damaged; the same ones every time."""
    chance = random.Random(20)
    seeds = [
        PLAIN,
        answer(255, bytes(40), b'"\\'),
        "/tmp/ü😀\ufffd\x7f\n".encode(),
        b"\xed\xa0\x80",
    ]
    seeds += [ANSWER.pack(b"PDN1", 0, (1 << 32) - 1, 17), b"PDN1", b"\xf4\x90\x80\x80\xe0\x80\xaf"]
    made = [b"", *seeds]
    while len(made) < count:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data) + 1)
            how = chance.randrange(4)
            if how == 0:
                data[at:at] = chance.randbytes(chance.randrange(1, 4))
            elif how == 1:
                del data[at : at + chance.randrange(1, 4)]
            elif how == 2:
                data[at : at + 1] = bytes([chance.choice((0, 1, 16, 127, 128, 191, 237, 244, 255))])
            else:
                data += chance.choice(seeds)
        made.append(bytes(data))
    return made


def test_damaged_input(tmp_path: Path) -> None:
    driver = compile_c(
        tmp_path / "driver", *SANITIZED, "-DSHIM_DRIVER", *FUZZED, source=HERE / "fuzz_shim.c"
    )
    made = inputs(8000)
    frames = b"".join(struct.pack(">I", len(each)) + each for each in made)
    ran = subprocess.run([driver], input=frames, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert int(ran.stdout) == len(made)


@pytest.mark.skipif("PODNET_TEST_LONG" not in os.environ, reason="PODNET_TEST_LONG is not set")
def test_libfuzzer(tmp_path: Path) -> None:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    fuzzer = compile_c(
        tmp_path / "fuzzer",
        *("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"),
        *FUZZED,
        source=HERE / "fuzz_shim.c",
        by="clang",
    )
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, each in enumerate(inputs(30)):
        (corpus / str(number)).write_bytes(each)
    ran = subprocess.run(
        [fuzzer, "-max_total_time=10", f"-artifact_prefix={tmp_path}/", corpus],
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")[-5000:]
