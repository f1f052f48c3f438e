"""Without an agent: the plugin beside the shim that needs none, or an error that tells the way."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from shim_bench import Bench, FakeAgent, answer, finish

NAME = ".podnet-plugin"


def put(bench: Bench, text: str, mode: int = 0o755) -> Path:
    path = bench.folder / NAME
    path.write_text(text)
    path.chmod(mode)
    return path


def assert_not_running(bench: Bench, path: Path | None = None) -> None:
    error = bench.run(PODNET_SOCKET=str(path or bench.socket)).error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent is not running"
    assert str(path or bench.socket) in error["details"]
    assert "podnet agent" in error["details"]
    assert "systemctl start podnet-agent" in error["details"]


def test_without_either(bench: Bench) -> None:
    assert_not_running(bench)


def test_a_folder_that_is_none(bench: Bench) -> None:
    assert_not_running(bench, bench.folder / "shim" / "agent.sock")


def test_a_file_that_is_no_socket(bench: Bench) -> None:
    assert_not_running(bench, bench.folder / "shim")


def test_an_agent_that_has_ended(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bench.socket))
        listener.listen()
    assert_not_running(bench)


@pytest.mark.parametrize("size", [0, 1, 300_000, 8 << 20])
def test_it_is_run_as_the_shim_was(bench: Bench, size: int) -> None:
    put(bench, '#!/bin/sh\nprintf %s "$CNI_ARGS$OTHER"\ncat\necho note >&2\nexit 7\n')
    config = (b"config\0" * (size // 7 + 1))[:size]
    ended = bench.run(config, CNI_ARGS="A=1", OTHER="o")
    assert (ended.code, ended.stdout, ended.stderr) == (7, b"A=1o" + config, b"note\n")


def test_it_is_called_by_the_same_name(bench: Bench) -> None:
    # A script never learns it, so this one is not the file but what the file's program reads.
    (bench.folder / NAME).symlink_to("/bin/sh")
    assert bench.run(b'echo "$0"').stdout == f"{bench.folder}/macvlan\n".encode()


def test_a_script_learns_the_name_too(bench: Bench) -> None:
    put(bench, '#!/bin/sh\necho "$PODNET_CALLED_AS"\n')
    assert bench.run().stdout == f"{bench.folder}/macvlan\n".encode()


def test_signals_are_as_they_were(bench: Bench) -> None:
    put(bench, "#!/bin/sh\ngrep SigIgn /proc/self/status\n")
    assert int(bench.run().stdout.split()[1], 16) == 0


def test_no_file_stays_open(bench: Bench) -> None:
    put(bench, "#!/bin/sh\nexec ls /proc/self/fd\n")
    assert len(bench.run().stdout.split()) == 4  # ls itself opens one


def test_stdin_that_was_not_read_is_handed_on(bench: Bench) -> None:
    put(bench, "#!/bin/sh\nread line\necho got $line\n")
    reading, writing = os.pipe()
    try:
        process = bench.start(stdin=reading, CNI_COMMAND="VERSION")
        os.write(writing, b"late\n")
        assert finish(process).stdout == b"got late\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_an_agent_is_preferred(bench: Bench) -> None:
    put(bench, "#!/bin/sh\necho fallback\n")
    with FakeAgent(bench.socket, answer(0, b"agent\n")):
        assert bench.run().stdout == b"agent\n"
    assert bench.run().stdout == b"fallback\n"


def test_it_is_found_beside_the_file_not_the_link(bench: Bench) -> None:
    put(bench, "#!/bin/sh\necho fallback\n")
    links = bench.folder / "links"
    links.mkdir()
    (links / "macvlan").symlink_to(bench.folder / "shim")
    (links / NAME).write_text("#!/bin/sh\necho wrong\n")
    (links / NAME).chmod(0o755)
    ran = subprocess.run(
        [links / "macvlan"], env=bench.environment({}), input=b"", capture_output=True, check=True
    )
    assert ran.stdout == b"fallback\n"


@pytest.mark.parametrize("how", [os.link, os.symlink, shutil.copy])
def test_the_shim_itself_is_none(bench: Bench, how: object) -> None:
    assert callable(how)
    how(bench.folder / "shim", bench.folder / NAME)
    assert_not_running(bench)


def test_a_file_that_may_not_be_run_is_none(bench: Bench) -> None:
    put(bench, "#!/bin/sh\necho fallback\n", mode=0o644)
    assert_not_running(bench)


def test_a_folder_is_none(bench: Bench) -> None:
    (bench.folder / NAME).mkdir()
    assert_not_running(bench)


@pytest.mark.parametrize("text", ["#!/nowhere/python\n", "no program"])
def test_a_file_that_cannot_be_run(bench: Bench, text: str) -> None:
    path = put(bench, text)
    error = bench.run().error
    assert error["code"] == 11
    assert error["msg"] == "podnet's agent is not running"
    assert f"and {path} cannot be run: " in error["details"]
