"""A shell in namespaces of its own, for the console blocks of one document.

Every page starts on a fresh little node: its own network, mount and (if the user is not root)
user namespace, an uplink called eth1, a private /run and a private state folder. It ends with
the page.
"""

from __future__ import annotations

import os
import re
import secrets
import selectors
import subprocess
import sys
import tempfile
import time

SETUP = r"""
mount -t tmpfs tmpfs /run && mkdir -p /run/netns
mount -t tmpfs tmpfs /var/lib
ip link set lo up
ip link add eth1 type veth peer name uplink1
ip link set eth1 up; ip link set uplink1 up
sudo() { "$@"; }
podnet() { "$PYTHON" -m podnet.cli.main "$@"; }
python() { "$PYTHON" "$@"; }
export -f podnet python sudo
"""


class Console:
    """One bash that runs the commands of a page, one after the other."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="podnet-docs-")
        user = [] if os.geteuid() == 0 else ["-U", "--map-root-user"]
        environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "HOME": self.folder.name,
            "PYTHON": sys.executable,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }
        self._shell = subprocess.Popen(
            ["unshare", *user, "-n", "-m", "--propagation", "private", "--kill-child",
             "--fork", "bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=self.folder.name, env=environment,
        )  # fmt: skip
        code, output = self.run(SETUP)
        if code:
            self.close()
            raise RuntimeError(f"cannot make a node for the docs: {output}")

    def run(self, command: str, timeout: float = 60) -> tuple[int, str]:
        """Run one command; return its exit code and all it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        mark = f"__{secrets.token_hex(8)}__"
        self._shell.stdin.write(f"{{ {command}\n}} < /dev/null; echo {mark}$?\n".encode())
        self._shell.stdin.flush()
        seen = b""
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._shell.stdout, selectors.EVENT_READ)
            while not (end := re.search(mark.encode() + rb"(\d+)\n", seen)):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"{command!r} did not end in {timeout} s: {seen.decode()}")
                chunk = os.read(self._shell.stdout.fileno(), 65536)
                if not chunk:
                    raise RuntimeError(f"the shell ended in {command!r}: {seen.decode()}")
                seen += chunk
        return int(end[1]), seen[: end.start()].decode()

    def close(self) -> None:
        """End the shell and with it its namespaces."""
        if self._shell.stdin is not None:
            self._shell.stdin.close()
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait(10)
        if self._shell.stdout is not None:
            self._shell.stdout.close()
        self.folder.cleanup()


def commands(block: str) -> list[tuple[str, str]]:
    """Return the block's commands with the output it promises.

    A command starts with ``$ `` and goes on over lines starting with ``> ``.
    """
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line[2:], [])
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"a console block starts with a command, not with {line!r}")
    return [(command, "\n".join(output).strip()) for command, output in found]


def matches(promised: str, printed: str) -> bool:
    """Tell whether the output is the promised one; ``...`` stands for anything."""
    parts = [re.escape(part.rstrip()) for part in promised.split("...")]
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(r".*?".join(parts), lines, re.DOTALL) is not None
