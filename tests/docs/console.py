"""A shell in namespaces of its own, for the console blocks of one document.

Every page starts on a fresh little node: its own network, mount and (if the user is not root)
user namespace, an uplink called eth1, a private /run, and private folders where podnet keeps its
state and where its configuration would be. It ends with the page.

The shell's output is a terminal, as a reader's is: commands print tables where people would see
tables, and JSON into a pipe.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

import podnet

SETUP = r"""
mount -t tmpfs tmpfs /run && mkdir -p /run/netns
mount -t tmpfs tmpfs /var/lib
if [ -d /etc/cni ]; then mount -t tmpfs tmpfs /etc/cni; fi
ip link set lo up
ip link add eth1 type veth peer name uplink1
ip link set eth1 up; ip link set uplink1 up
sudo() { "$@"; }
python() { "$PYTHON" "$@"; }
export -f python sudo
"""

# For machines without ping, which minimal images lack: the same echo, and iputils' own words.
PING = """#!{python}
import contextlib, sys, time
from podnet.cli.ping import ping
start = time.monotonic()
# In a namespace that `ip netns exec` has entered; the sandbox's name for the interface is given.
interface, target = sys.argv[sys.argv.index("-I") + 1], sys.argv[-1]
seen = ping(contextlib.nullcontext, target, interface)
got = seen.milliseconds is not None
print(f"PING {{target}} ({{target}}) 56(84) bytes of data.")
if got:
    print(f"64 bytes from {{target}}: icmp_seq=1 ttl=64 time={{seen.milliseconds:.3f}} ms")
print(f"\\n--- {{target}} ping statistics ---")
print(f"1 packets transmitted, {{int(got)}} received, {{0 if got else 100}}% packet loss, "
      f"time {{(time.monotonic() - start) * 1000:.0f}}ms")
if got:
    print("rtt min/avg/max/mdev = " + "/".join([f"{{seen.milliseconds:.3f}}"] * 3) + "/0.000 ms")
sys.exit(not got)
"""


class Console:
    """One bash that runs the commands of a page, one after the other."""

    def __init__(self, folder: Path) -> None:
        """Start it in an existing folder."""
        self._folder = folder
        self._tools = tempfile.TemporaryDirectory(prefix="podnet-docs-tools-")
        self._terminal, theirs = pty.openpty()
        tty.setraw(theirs)  # lines end as they were printed, without a carriage return
        user = [] if os.geteuid() == 0 else ["-U", "--map-root-user"]
        self._shell = subprocess.Popen(
            ["unshare", *user, "-n", "-m", "--propagation", "private", "--kill-child",
             "--fork", "bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE, stdout=theirs, stderr=theirs,
            cwd=self._folder, env=self._environment(), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        code, output = self.run(SETUP)
        if code:
            self.close()
            raise RuntimeError(f"cannot make a node for the docs: {output}")

    def _environment(self) -> dict[str, str]:
        path = f"{self._tools.name}:{os.environ['PATH']}:/usr/sbin:/sbin"
        # A file, as an installed one is: what is started in the background has its process id.
        podnet_ = Path(self._tools.name, "podnet")
        podnet_.write_text('#!/bin/sh\nexec "$PYTHON" -m podnet.cli.main "$@"\n')
        podnet_.chmod(0o755)
        if shutil.which("ping", path=path) is None:
            ping = Path(self._tools.name, "ping")
            ping.write_text(PING.format(python=sys.executable))
            ping.chmod(0o755)
        return {
            "PATH": path,
            "HOME": str(self._folder),
            "TMPDIR": self._tools.name,
            "PYTHON": sys.executable,
            # The podnet that is being tested, whatever folder a command runs in.
            "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(podnet.__file__))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "COLUMNS": "110",
        }

    def run(self, command: str, timeout: float = 60) -> tuple[int, str]:
        """Run one command; return its exit code and all it printed."""
        assert self._shell.stdin is not None
        mark = f"__{secrets.token_hex(8)}__"
        self._shell.stdin.write(f"{{ {command}\n}} < /dev/null; echo {mark}$?\n".encode())
        self._shell.stdin.flush()
        seen = b""
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._terminal, selectors.EVENT_READ)
            while not (end := re.search(mark.encode() + rb"(\d+)\n", seen)):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"{command!r} did not end in {timeout} s: {seen.decode()}")
                try:
                    seen += os.read(self._terminal, 65536)
                except OSError:  # EIO: nobody has the terminal any more
                    raise RuntimeError(f"the shell ended in {command!r}: {seen.decode()}") from None
        return int(end[1]), seen[: end.start()].decode()

    def close(self) -> None:
        """End the shell and with it its namespaces."""
        if self._shell.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._shell.stdin.close()
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait(10)
        # What a page left in the background, because it failed, ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        os.close(self._terminal)
        self._tools.cleanup()


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
