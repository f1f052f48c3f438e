from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from podnet.errors import DeadlineError, DelegateError, PluginNotFoundError, PoolExhaustedError
from podnet.execs import process
from podnet.execs.builtin import BuiltinExecutor
from podnet.execs.process import ProcessExecutor, find
from podnet.model.attachment import Call, Done
from podnet.testing import ExecutorContract, FakeExecutor
from podnet.testing.executor_contract import PLUGIN, contract_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from podnet.ports import Executor


class TestProcess(ExecutorContract):
    def open(self, folder: str) -> Executor:
        return ProcessExecutor((folder,))


class TestBuiltin(ExecutorContract):
    enforces_deadline = False

    def open(self, folder: str) -> Executor:
        return BuiltinExecutor({PLUGIN: contract_plugin})


class TestFake(ExecutorContract):
    enforces_deadline = False

    def open(self, folder: str) -> Executor:
        return FakeExecutor({PLUGIN: BuiltinExecutor({PLUGIN: contract_plugin}).run})


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    def open_files() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    before, threads = open_files(), threading.active_count()
    yield
    assert open_files() == before
    assert threading.active_count() == threads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    return str(tmp_path)


def script(folder: str, body: str, name: str = "p", interpreter: str = "/bin/sh") -> None:
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(f"#!{interpreter}\n{body}\n")
    os.chmod(path, 0o755)


def run(folder: str, timeout: float = 30.0, **config: object) -> Done:
    call = Call(plugin="p", verb="ADD", path=(folder,), config=config, timeout=timeout)
    return ProcessExecutor().run(call)


def test_built_in_errors_keep_their_code() -> None:
    def exhausted(_call: Call) -> bytes:
        raise PoolExhaustedError("no address is free", "31 held")

    def broken(_call: Call) -> bytes:
        raise KeyError("odd")

    executor = BuiltinExecutor({"a": exhausted, "b": broken})
    done = executor.run(Call(plugin="a", verb="ADD"))
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "code": 100,
        "msg": "no address is free",
        "details": "31 held",
    }
    done = executor.run(Call(plugin="b", verb="ADD"))
    assert json.loads(done.stdout)["code"] == 999
    assert "KeyError" in json.loads(done.stdout)["msg"]
    assert b"Traceback" in done.stderr
    assert b"Traceback" not in done.stdout


def test_the_fake_answers_from_its_script() -> None:
    fake = FakeExecutor({"a": [DeadlineError("late"), Done(3)]})
    call = Call(plugin="a", verb="DEL")
    with pytest.raises(DeadlineError):
        fake.run(call)
    assert fake.run(call) == Done(3)
    assert fake.run(call) == Done(0, b"{}")
    assert fake.calls == [call] * 3


def test_the_first_regular_file_wins(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "p").mkdir()
    script(str(tmp_path / "b"), "true")
    script(str(tmp_path / "c"), "true")
    path = ("", "relative", str(tmp_path / "missing"), *(str(tmp_path / n) for n in "abc"))
    assert find("p", path) == str(tmp_path / "b" / "p")
    assert find("p", ()) is None


def test_relative_folders_are_passed_over(plugins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script(plugins, "true")
    monkeypatch.chdir(plugins)
    assert find("p", ("", ".")) is None


def test_the_environment_is_a_short_list(plugins: str) -> None:
    script(plugins, "env")
    given = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TRACEPARENT": "00-1",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "PODNET_STORE": "file:/leases",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "LD_PRELOAD": "/tmp/x.so",
        "CNI_ARGS": "FROM=outside",
        "CNI_NETNS": "/outside",
    }
    call = Call(plugin="p", verb="GC", path=(plugins,), config={})
    done = ProcessExecutor(environment=given).run(call)
    seen = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert {key: value for key, value in seen.items() if key not in ("PWD", "_", "SHLVL")} == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TRACEPARENT": "00-1",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "PODNET_STORE": "file:/leases",
        "CNI_COMMAND": "GC",
        "CNI_PATH": plugins,
    }


def test_exit_code_and_both_outputs(plugins: str) -> None:
    script(plugins, "cat; echo logs >&2; exit 3")
    assert run(plugins, a=1) == Done(3, b'{"a":1}', b"logs\n")


def test_a_signal_is_a_negative_code(plugins: str) -> None:
    script(plugins, "kill -9 $$")
    assert run(plugins).exit_code == -9


def test_a_plugin_need_not_read(plugins: str) -> None:
    script(plugins, "exec <&-; echo ok")
    assert run(plugins, filler="x" * 300_000) == Done(0, b"ok\n")


def test_a_plugin_may_close_its_outputs_and_go_on(plugins: str) -> None:
    script(plugins, "exec >&- 2>&-; sleep 0.2; exit 4")
    assert run(plugins).exit_code == 4
    script(plugins, "exec >&- 2>&-; exec sleep 60")
    with pytest.raises(DeadlineError):
        run(plugins, timeout=0.3)


def test_too_much_output_ends_it(plugins: str) -> None:
    script(plugins, "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done")
    before = time.monotonic()
    with pytest.raises(DelegateError, match="printed more than"):
        run(plugins)
    assert time.monotonic() - before < 20


def test_of_the_logs_the_end_is_kept(plugins: str) -> None:
    script(
        plugins,
        "import sys; sys.stderr.write('x' * 500_000 + 'the end'); print('{}')",
        interpreter=f"{sys.executable} -IS",
    )
    done = run(plugins)
    assert done.exit_code == 0
    assert done.stderr.endswith(b"the end")
    assert len(done.stderr) == process.STDERR_LIMIT


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_deadline_ends_the_whole_group(plugins: str) -> None:
    pids = os.path.join(plugins, "pids")
    script(plugins, f"sleep 60 & echo $! $$ >{pids}; trap '' TERM; wait; sleep 60")
    with pytest.raises(DeadlineError, match=r"p did not end in 0\.5 s"):
        run(plugins, timeout=0.5)
    with open(pids) as file:
        found = [int(pid) for pid in file.read().split()]
    assert len(found) == 2
    limit = time.monotonic() + 5
    while any(map(alive, found)) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not any(map(alive, found))


def test_a_daemon_that_holds_the_outputs_does_not_hold_the_call(plugins: str) -> None:
    pid = os.path.join(plugins, "pid")
    script(plugins, f"sleep 60 & echo $! >{pid}; echo done")
    before = time.monotonic()
    done = run(plugins)
    assert time.monotonic() - before < 10
    assert done == Done(0, b"done\n")
    with open(pid) as file:
        os.kill(int(file.read()), 9)


def test_a_daemon_that_floods_the_logs_does_not_hold_the_call(
    plugins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_slowly(fd: int, into: bytearray) -> bool:
        more = read(fd, into)
        time.sleep(0.01)  # the daemon has filled its pipe again
        return more

    read = process._read
    monkeypatch.setattr(process, "_read", read_slowly)
    pid = os.path.join(plugins, "pid")
    script(plugins, f"yes >&2 & echo $! >{pid}; echo done")
    before = time.monotonic()
    try:
        done = run(plugins)
        assert time.monotonic() - before < 10
        assert (done.exit_code, done.stdout) == (0, b"done\n")
    finally:
        with open(pid) as file, contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read()), 9)


def test_what_cannot_be_executed(plugins: str) -> None:
    path = os.path.join(plugins, "p")
    with open(path, "wb") as file:
        file.write(b"\x7fELF garbage")
    os.chmod(path, 0o755)
    with pytest.raises(PluginNotFoundError, match="cannot execute"):
        run(plugins)
    os.chmod(path, stat.S_IRUSR)
    with pytest.raises(PluginNotFoundError, match="Permission denied"):
        run(plugins)
    script(plugins, "", interpreter="/no/such/interpreter")
    with pytest.raises(PluginNotFoundError, match="cannot execute"):
        run(plugins)


def test_zero_bytes_in_the_environment_are_an_error(plugins: str) -> None:
    script(plugins, "true")
    call = Call(plugin="p", verb="DEL", netns="/run/\0", path=(plugins,), config={})
    with pytest.raises(DelegateError, match="cannot execute"):
        ProcessExecutor().run(call)


def test_a_busy_executable_is_tried_again(plugins: str) -> None:
    path = os.path.join(plugins, "p")
    with open("/bin/true", "rb") as file:
        content = file.read()
    with open(path, "wb") as busy:
        busy.write(content)
        busy.flush()
        os.chmod(path, 0o755)
        # Not an interpreter's script: only what the kernel itself executes is "text".
        with pytest.raises(DelegateError, match="busy"):
            run(plugins, timeout=0.2)
        closer = threading.Timer(0.2, busy.close)
        closer.start()
        assert run(plugins).exit_code == 0
        closer.join()
