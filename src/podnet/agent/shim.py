"""The CNI executable that asks podnet's agent, where there is no compiled one.

It does what ``shim.c`` does, and one test suite holds both to it. The frames are described in
``frames.py``, which is not imported: this file runs alone, as ``python -I -S shim.py`` or as a copy
of any name, and starts with little more than the interpreter.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import time

_SOCKET = b"/run/podnet/agent.sock"
_FALLBACK = b".podnet-plugin"
_MAGIC = b"PDN1"
_REQUEST = struct.Struct(">4sIIII")
_ANSWER = struct.Struct(">4sIII")

_MOST_NAME = 255
_MOST_ENVIRONMENT = 256 << 10
_MOST_STDIN = 8 << 20
_MOST_OUTPUT = 16 << 20
_MOST_PATH = 107  # unix(7): sun_path has 108 bytes, with a zero byte at the end
_CHUNK = 64 << 10
_BUSY_PAUSE = 0.005

_BAD_ENVIRONMENT, _IO_FAILURE, _BAD_CONFIG, _TRY_LATER = 4, 5, 6, 11
_NO_AGENT = "podnet's agent is not running"
_NO_TIME = "podnet's agent did not answer"


class _CallError(Exception):
    """What ends the call: a CNI code, a message and its details."""

    def __init__(self, code: int, msg: str, details: bytes = b"") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def json(self) -> bytes:
        """Return it as the specification wants it."""
        # What is no UTF-8 is one surrogate for each byte.
        told = "".join(map(_escaped, self.details.decode("utf-8", "surrogateescape")))
        head = f'{{"cniVersion": "1.1.0", "code": {self.code}, "msg": "{self.msg}"'
        return f'{head}, "details": "{told}"}}\n'.encode()


def _escaped(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        return "\\ufffd"
    if character < " " or character in '"\\\x7f\ufffd':
        return f"\\u{ord(character):04x}"
    return character


class _Clock:
    """The one deadline of the call."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._deadline = _now() + seconds * 1000

    def left(self, code: int, what: str) -> int:
        """Return the milliseconds left; none are an error, of which is told what did not happen."""
        left = self._deadline - _now()
        if left <= 0:
            raise _CallError(code, f"{what} in {self._seconds} s")
        return left

    def wait_for(self, fd: int, events: int, code: int, what: str) -> None:
        """Wait until the file can be read or written, or has failed."""
        poll = select.poll()
        poll.register(fd, events)
        while not poll.poll(self.left(code, what)):
            pass


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


def main() -> int:
    """Ask the agent what the runtime asks this process; return the exit code."""
    try:
        _open_standard_files()
        code, stdout, stderr = _ask_agent()
    except _CallError as error:
        code, stdout, stderr = 1, error.json(), b""
    except MemoryError:
        code, stdout, stderr = 1, _CallError(_TRY_LATER, "out of memory").json(), b""
    _relay(2, stderr)
    _relay(1, stdout)
    return code


def _ask_agent() -> tuple[int, bytes, bytes]:
    """Return the agent's exit code, standard output and standard error."""
    name = os.path.basename(os.fsencode(sys.argv[0]))
    path = os.environb.get(b"PODNET_SOCKET") or _SOCKET
    if len(name) > _MOST_NAME:
        raise _CallError(_BAD_ENVIRONMENT, "the plugin's name is longer than 255 bytes")
    if len(path) > _MOST_PATH:
        raise _CallError(_BAD_ENVIRONMENT, "PODNET_SOCKET is longer than 107 bytes")
    clock = _Clock(_timeout())
    environment = _environment()
    stdin = _stdin(clock) if _reads_stdin() else None
    try:
        agent = _connect(path, clock)
    except OSError as error:
        _do_without_agent(path, stdin, error)
    config = stdin or b""
    sizes = len(name), len(environment), len(config), clock.left(_TRY_LATER, _NO_TIME)
    _send(agent, _REQUEST.pack(_MAGIC, *sizes) + name + environment + config, clock)
    return _receive(agent, clock)


def _open_standard_files() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _open_null()


def _open_null() -> None:
    try:
        fd = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        os.set_inheritable(fd, True)
    except OSError as error:
        what = "cannot open /dev/null in a closed file's place"
        raise _CallError(_IO_FAILURE, what, _reason(error)) from error


def _timeout() -> int:
    text = os.environb.get(b"PODNET_TIMEOUT", b"115")
    seconds = int(text) if len(text) <= 4 and text.isdigit() else 0
    if not 1 <= seconds <= 3600:
        what = "PODNET_TIMEOUT is no whole number of seconds from 1 to 3600"
        raise _CallError(_BAD_ENVIRONMENT, what)
    return seconds


def _environment() -> bytes:
    """Return the variables that are for the agent, each with a zero byte after it."""
    text = b"".join(
        b"%b=%b\0" % (name, value)
        for name, value in os.environb.items()
        if name.startswith((b"CNI_", b"PODNET_")) or name in (b"TRACEPARENT", b"TRACESTATE")
    )
    if len(text) > _MOST_ENVIRONMENT:
        what = "the variables for CNI and podnet are larger than 256 KiB"
        raise _CallError(_BAD_ENVIRONMENT, what)
    return text


def _reads_stdin() -> bool:
    verb = os.environb.get(b"CNI_COMMAND")
    if not verb:
        return not os.isatty(0)
    return verb != b"VERSION"  # some callers leave it open


def _stdin(clock: _Clock) -> bytes:
    data = bytearray()
    while True:
        clock.wait_for(0, select.POLLIN, _IO_FAILURE, "the network config did not end")
        try:
            got = os.read(0, _CHUNK)
        except BlockingIOError:
            continue
        except OSError as error:
            what = "cannot read the network config from stdin"
            raise _CallError(_IO_FAILURE, what, _reason(error)) from error
        if not got:
            return bytes(data)
        data += got
        if len(data) > _MOST_STDIN:
            raise _CallError(_BAD_CONFIG, "network config is larger than 8 MiB")


def _connect(path: bytes, clock: _Clock) -> socket.socket:
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    agent.setblocking(False)
    while True:
        try:
            agent.connect(path)
        except BlockingIOError:  # the backlog is full
            time.sleep(_BUSY_PAUSE)
            clock.left(_TRY_LATER, _NO_TIME)
        else:
            return agent


def _do_without_agent(path: bytes, stdin: bytes | None, error: OSError) -> None:
    """Run the plugin that needs no agent, if that is why there is no connection; else tell why."""
    if isinstance(error, PermissionError):
        told = b"this user may not use the socket " + path
        raise _CallError(_TRY_LATER, "podnet's agent may not be asked", told)
    if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        told = b"%b: %b" % (path, _reason(error))
        raise _CallError(_TRY_LATER, "podnet's agent cannot be asked", told)
    told = b"nothing listens on " + path
    fallback = _find_fallback()
    if not fallback:
        told += b": start `podnet agent`, or `systemctl start podnet-agent`"
        raise _CallError(_TRY_LATER, _NO_AGENT, told)
    try:
        if stdin is not None:
            _restore_stdin(stdin)
        _default_signals()
        # Of a file that begins with #! the kernel tells its interpreter the path alone.
        os.environ["PODNET_CALLED_AS"] = sys.argv[0]
        os.execv(fallback, sys.argv)  # noqa: S606 - it is the same call, without a shell
    except OSError as reason:
        told += b", and %b cannot be run: %b" % (fallback, _reason(reason))
        raise _CallError(_TRY_LATER, _NO_AGENT, told) from reason


def _find_fallback() -> bytes | None:
    """Return the path of the plugin that needs no agent, if there is one beside this file."""
    own = os.path.realpath(os.fsencode(__file__))
    path = os.path.join(os.path.dirname(own), _FALLBACK)
    if not os.path.isfile(path) or os.path.samefile(path, own) or not os.access(path, os.X_OK):
        return None
    return path


def _restore_stdin(data: bytes) -> None:
    """Have stdin hold again what was read from it."""
    try:
        fd = os.memfd_create("stdin")
    except (OSError, AttributeError):  # Python may have been built where there was none
        fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)  # noqa: S108
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)


def _default_signals() -> None:
    """Undo what Python's start did, for what is executed inherits it."""
    import signal

    for each in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(each, signal.SIG_DFL)


def _send(agent: socket.socket, request: bytes, clock: _Clock) -> None:
    view = memoryview(request)
    while view:
        try:
            view = view[agent.send(view, socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            clock.wait_for(agent.fileno(), select.POLLOUT, _TRY_LATER, _NO_TIME)
        except OSError:
            return  # whoever hangs up on it may have answered first: reading shows it


def _receive(agent: socket.socket, clock: _Clock) -> tuple[int, bytes, bytes]:
    received = bytearray()
    while True:
        clock.wait_for(agent.fileno(), select.POLLIN, _TRY_LATER, _NO_TIME)
        try:
            got = agent.recv(_CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            got = b""
        if not got:
            told = b"it may have done what it was asked"
            raise _CallError(_TRY_LATER, "podnet's agent broke off", told)
        received += got
        answer = _read_answer(received)
        if answer:
            return answer


def _read_answer(received: bytearray) -> tuple[int, bytes, bytes] | None:
    """Return exit code, standard output and standard error; None if that is not all of it."""
    fits = received[:4] == _MAGIC[: len(received)]
    code, out, err = 0, 0, 0
    if fits and len(received) >= _ANSWER.size:
        _, code, out, err = _ANSWER.unpack_from(received)
    if not fits or code > 255 or out > _MOST_OUTPUT or err > _MOST_OUTPUT:
        raise _CallError(_TRY_LATER, "podnet's agent answered something that is no answer")
    end = _ANSWER.size + out
    if len(received) < end + err:
        return None
    return code, bytes(received[_ANSWER.size : end]), bytes(received[end : end + err])


def _relay(descriptor: int, data: bytes) -> None:
    """Write it all; a reader who has gone misses it, which is no failure of the call."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            return


def _reason(error: OSError) -> bytes:
    return os.fsencode(error.strerror or "")


if __name__ == "__main__":
    os._exit(main())  # nothing is buffered, and to tear Python down takes longer than the call
