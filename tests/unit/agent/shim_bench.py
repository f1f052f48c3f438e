"""A shim in a folder of its own, and an agent that does what a test tells it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from attrs import define, frozen

from podnet.agent import shim as python_shim

SOURCE = Path(python_shim.__file__).with_name("shim.c")
HERE = Path(__file__).parent
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
REQUEST = struct.Struct(">4sIIII")
ANSWER = struct.Struct(">4sIII")
PATIENCE = 60.0


def give_up(reason: str) -> NoReturn:
    """Skip; in CI, where every lane has to run, fail."""
    if os.environ.get("PODNET_TEST_ALL"):
        pytest.fail(f"every lane has to run here, but: {reason}")
    pytest.skip(reason)


def tool(name: str) -> str:
    found = shutil.which(name)
    return found or give_up(f"{name} is not installed")


def compiler() -> str:
    return shutil.which("gcc") or shutil.which("cc") or give_up("there is no C compiler")


def compile_c(target: Path, *arguments: str, source: Path = SOURCE, by: str = "") -> Path:
    subprocess.run([by or compiler(), *STRICT, *arguments, source, "-o", target], check=True)
    return target


def write_python(target: Path) -> Path:
    text = Path(python_shim.__file__).read_text()
    target.write_text(f"#!{sys.executable} -IS\n{text}")
    target.chmod(0o755)
    return target


KINDS: Mapping[str, Callable[[Path], Path]] = {
    "c": lambda target: compile_c(target, "-O2", "-static"),
    "sanitized": lambda target: compile_c(target, *SANITIZED),
    "debugged": lambda target: compile_c(target, "-g", "-O1"),
    "python": write_python,
}


@frozen
class Shim:
    kind: str
    path: Path


@frozen
class Ended:
    """What a shim did: exit code and outputs."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The CNI error, after what is common to all of them has been looked at."""
        assert self.code == 1, self
        assert self.stderr == b""
        assert self.stdout.endswith(b"}\n")
        document = json.loads(self.stdout.decode("utf-8", "strict"))
        assert sorted(document) == ["cniVersion", "code", "details", "msg"]
        assert document["cniVersion"] == "1.1.0"
        return document


@define
class Bench:
    """A folder of its own under a short path, for a socket's path is short too."""

    shim: Shim
    folder: Path = Path()

    def __enter__(self) -> Bench:
        self.folder = Path(tempfile.mkdtemp(prefix="shim", dir="/tmp"))
        self.folder.chmod(0o755)
        shutil.copy(self.shim.path, self.folder / "shim")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    def name(self, name: str = "macvlan") -> Path:
        """Return the shim's path under a name."""
        path = self.folder / name
        if not path.is_symlink():
            path.symlink_to("shim")
        return path

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        own = {"CNI_COMMAND": "ADD", "PODNET_SOCKET": str(self.socket), "PODNET_TIMEOUT": "60"}
        return {key: value for key, value in {**own, **given}.items() if value != "unset"}

    def start(
        self,
        command: Sequence[str | Path] = (),
        *,
        name: str = "macvlan",
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, self.name(name)],
            env=self.environment(environment),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )

    def run(self, stdin: bytes | int = b"{}", **given: Any) -> Ended:
        """Call the shim; standard input is bytes, or a file that is open."""
        if isinstance(stdin, int):
            process, data = self.start(stdin=stdin, **given), None
        else:
            process, data = self.start(**given), stdin
        return finish(process, data)


def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Ended:
    try:
        stdout, stderr = process.communicate(stdin, timeout=PATIENCE)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Ended(process.returncode, stdout or b"", stderr)


@frozen
class Asked:
    """A request as it arrived."""

    name: bytes
    environment: tuple[bytes, ...]
    stdin: bytes
    milliseconds: int

    @property
    def variables(self) -> dict[bytes, bytes]:
        return dict(each.split(b"=", 1) for each in self.environment)


def answer(code: int = 0, stdout: bytes = b"", stderr: bytes = b"") -> bytes:
    return ANSWER.pack(b"PDN1", code, len(stdout), len(stderr)) + stdout + stderr


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        got = connection.recv(min(size - len(data), 1 << 20))
        assert got, f"{len(data)} of {size} bytes came"
        data += got
    return bytes(data)


def read_request(connection: socket.socket) -> Asked:
    magic, name, environment, stdin, milliseconds = REQUEST.unpack(
        read_exactly(connection, REQUEST.size)
    )
    assert magic == b"PDN1"
    called = read_exactly(connection, name)
    entries = read_exactly(connection, environment)
    assert not entries or entries.endswith(b"\0")
    config = read_exactly(connection, stdin)
    return Asked(called, tuple(entries.split(b"\0")[:-1]), config, milliseconds)


class FakeAgent:
    """Serves one connection after the other by a script; keeps what it was asked.

    ``script`` is what to send when the request is there, or does all of it with the connection.
    """

    def __init__(self, path: Path, script: bytes | Callable[[FakeAgent, socket.socket], None]):
        self.asked: list[Asked] = []
        self.extra = b""
        self.script = script
        self._stop = threading.Event()
        self._trouble: list[BaseException] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._path = path
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeAgent:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        with socket.socket(socket.AF_UNIX) as last, suppress(OSError):
            last.connect(str(self._path))
        self._thread.join(PATIENCE)
        self._listener.close()
        self._path.unlink()
        if self._trouble and kind is None:
            raise self._trouble[0]

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._stop.is_set():
                    return
                connection.settimeout(PATIENCE)
                try:
                    self._answer(connection)
                except BaseException as trouble:
                    self._trouble.append(trouble)

    def _answer(self, connection: socket.socket) -> None:
        if callable(self.script):
            self.script(self, connection)
            return
        self.take(connection)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(self.script)
            connection.shutdown(socket.SHUT_WR)
            self.extra += connection.recv(1000)

    def take(self, connection: socket.socket) -> Asked:
        self.asked.append(read_request(connection))
        return self.asked[-1]

    @property
    def last(self) -> Asked:
        return self.asked[-1]
