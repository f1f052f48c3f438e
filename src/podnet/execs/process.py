"""Delegates that are executables of ``CNI_PATH``."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import selectors
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING

from podnet.errors import DeadlineError, DelegateError, PluginNotFoundError
from podnet.model.attachment import Done
from podnet.model.names import plugin_type_fault
from podnet.model.wire import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podnet.model.attachment import Call

# A result is below 10 KiB; 1 MiB is the most that etcd and annotations could carry anyway.
STDOUT_LIMIT = 1 << 20
# Logs have no bound of their own: the end of them is what tells why a plugin failed.
STDERR_LIMIT = 64 << 10

# What a delegate may see of this process's environment beside CNI_*: nothing else, for an agent's
# environment holds what plugins have no business with. TRACEPARENT and the two after it are those
# of CNI 1.1.0, section 2; NODENAME is whereabouts'.
_ALLOWED = frozenset(
    ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "NODENAME", "TRACEPARENT", "TRACESTATE", "BAGGAGE")
)
# The in-cluster address of the API, for delegates that ask it (calico, whereabouts); and podnet's
# own settings, for a delegate that calls podnet back.
_ALLOWED_PREFIXES = ("KUBERNETES_", "PODNET_")

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h

# A plugin that is being replaced cannot be executed for a moment (libcni: 6 times, a second each).
_BUSY_SECONDS = 2.0
_BUSY_PAUSE = 0.02

# execve(2): no permission, no format the kernel knows, no interpreter.
_NO_EXECUTABLE = (errno.EACCES, errno.ENOEXEC, errno.ENOENT)

# A grandchild may hold the outputs open when the plugin has ended: then nothing wakes select.
_EXIT_POLL = 0.05
_CHUNK = 1 << 16
# As many as empty a pipe of the greatest size (fs.pipe-max-size, 1 MiB): what a daemon that the
# plugin left goes on to write is not the plugin's.
_LAST_READS = 17
_KILL_SECONDS = 5.0


class ProcessExecutor:
    """Runs executables, each in a session of its own, and leaves no process behind.

    Output is read while configuration is written, so neither can fill up the other. At the
    deadline, or when it prints more than ``STDOUT_LIMIT`` bytes, the plugin's whole process group
    is killed and waited for. A plugin that ends by itself may leave a daemon of its own; standard
    error keeps its last ``STDERR_LIMIT`` bytes.
    """

    def __init__(
        self, path: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """Set up.

        Args:
            path: directories that ``has`` looks in; ``run`` looks in those of its call.
            environment: what the allowed variables are taken from; this process's by default.
        """
        self._path = tuple(path)
        self._environment = environment

    def has(self, plugin: str) -> bool:
        """Tell whether the executor's own ``path`` has the plugin."""
        return find(plugin, self._path) is not None

    def run(self, call: Call) -> Done:
        """Run the plugin and return what it said; killed by a signal, its exit code is negative.

        Raises:
            PluginNotFoundError: no directory of ``call.path`` has a regular file of its name, or
                the first that has one has it not as an executable.
            DeadlineError: it did not end in ``call.timeout`` seconds, and was killed.
            DelegateError: it cannot be started, or printed too much and was killed.
        """
        executable = find(call.plugin, call.path)
        if executable is None:
            where = ":".join(call.path) or "an empty CNI_PATH"
            raise PluginNotFoundError(f"failed to find plugin {call.plugin!r} in path {where}")
        deadline = time.monotonic() + call.timeout
        environment = self._allowed() | call.environment()
        config = print_json(call.config, indent=None)
        process = _start(executable, environment, deadline)
        try:
            return _converse(process, config, call, deadline)
        finally:
            _end(process)

    def _allowed(self) -> dict[str, str]:
        source = os.environ if self._environment is None else self._environment
        return {
            key: value
            for key, value in source.items()
            if key in _ALLOWED or key.startswith(_ALLOWED_PREFIXES)
        }


def find(plugin: str, path: Sequence[str]) -> str | None:
    """Return the first regular file of that name in the directories, or None.

    Names that are no file names are never found, and no path is built of them. Relative
    directories are passed over: they would depend on where this process stands.
    """
    if plugin_type_fault(plugin):
        return None
    for directory in path:
        if not directory.startswith("/"):
            continue
        candidate = os.path.join(directory, plugin)
        with contextlib.suppress(OSError, ValueError):
            if stat.S_ISREG(os.stat(candidate).st_mode):
                return candidate
    return None


def _die_with(parent: int) -> None:
    """Have the kernel end this child when the process that waits for it is killed.

    Otherwise a delegate would go on alone, and could finish its ADD after the DEL that undoes it
    (prctl(2), PR_SET_PDEATHSIG).
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def _start(
    executable: str, environment: dict[str, str], deadline: float
) -> subprocess.Popen[bytes]:
    dying = functools.partial(_die_with, os.getpid())
    busy_until = min(deadline, time.monotonic() + _BUSY_SECONDS)
    while True:
        try:
            return subprocess.Popen(
                [executable],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                preexec_fn=dying,  # noqa: PLW1509 - it only makes two system calls
            )
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the environment
            number = error.errno if isinstance(error, OSError) else None
            if number in _NO_EXECUTABLE:
                # What never ran needs no DEL, and none could be had of it.
                what = f"cannot execute {executable}: {os.strerror(number)}"
                raise PluginNotFoundError(what) from error
            if number != errno.ETXTBSY or time.monotonic() >= busy_until:
                raise DelegateError(f"cannot execute {executable}: {error}") from error
        time.sleep(_BUSY_PAUSE)


def _converse(process: subprocess.Popen[bytes], config: bytes, call: Call, deadline: float) -> Done:
    """Write the configuration and read both outputs until the plugin has ended."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    stdin, stdout, stderr = process.stdin, process.stdout.fileno(), process.stderr.fileno()
    rest = memoryview(config)
    said = {stdout: bytearray(), stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for fd in (stdin.fileno(), stdout, stderr):
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ if fd in said else selectors.EVENT_WRITE)
        last_reads = 0
        while selector.get_map() and last_reads < _LAST_READS:
            # Asked before reading: all that was said before the end is in the pipes by now.
            ended = process.poll() is not None
            last_reads += ended
            ready = selector.select(0 if ended else min(_EXIT_POLL, _left(deadline, call)))
            if ended and not ready:
                break
            for key, _ in ready:
                if key.fd in said:
                    more = _read(key.fd, said[key.fd])
                else:
                    rest = rest[_write(key.fd, rest) :]
                    more = len(rest) > 0
                if not more:
                    selector.unregister(key.fd)
                    if key.fd not in said:
                        stdin.close()
            _bound(said[stdout], said[stderr], call)
    return Done(_exit_code(process, call, deadline), bytes(said[stdout]), bytes(said[stderr]))


def _exit_code(process: subprocess.Popen[bytes], call: Call, deadline: float) -> int:
    """Return it, waiting for a plugin that has only closed its outputs."""
    code = process.poll()
    try:
        return process.wait(_left(deadline, call)) if code is None else code
    except subprocess.TimeoutExpired:
        raise _late(call) from None


def _read(fd: int, into: bytearray) -> bool:
    """Read what is there; False at the end."""
    chunk = os.read(fd, _CHUNK)
    into += chunk
    return bool(chunk)


def _write(fd: int, rest: memoryview) -> int:
    """Write what goes and return how much that was; all of it if nobody reads any more."""
    try:
        return os.write(fd, rest[:_CHUNK])
    except BrokenPipeError:  # VERSION, for one, need not read its input
        return len(rest)


def _bound(stdout: bytearray, stderr: bytearray, call: Call) -> None:
    if len(stdout) > STDOUT_LIMIT:
        raise DelegateError(f"plugin {call.plugin} printed more than {STDOUT_LIMIT} bytes")
    del stderr[:-STDERR_LIMIT]


def _left(deadline: float, call: Call) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _late(call)
    return left


def _late(call: Call) -> DeadlineError:
    return DeadlineError(f"plugin {call.plugin} did not end in {call.timeout:g} s and was killed")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group if its leader was not waited for, and close the pipes."""
    if process.returncode is None:
        # Not waited for, so the number of the group is still its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Only a process inside the kernel outlives this; the caller must not wait for that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
