"""What shim and agent say to each other: one request, one answer, each a header and its parts.

All numbers are big-endian and 32 bits wide. A request is ``PDN1``, the lengths of name, environment
and standard input, and the milliseconds that the caller waits; then these three. The environment
is ``KEY=VALUE`` texts, each with a zero byte after it. An answer is ``PDN1``, the exit code and the
lengths of standard output and standard error; then these two.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.errors import DecodingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.cni.skel import Response

MAGIC = b"PDN1"
MOST_NAME = 255
MOST_ENVIRONMENT = 256 << 10
MOST_STDIN = 8 << 20
MOST_OUTPUT = 16 << 20

_REQUEST = struct.Struct(">4sIIII")
_ANSWER = struct.Struct(">4sIII")
HEADER_BYTES = _REQUEST.size
"""Of a request: after so many its whole length is known."""

_MOST_MILLISECONDS = 3_600_000


@frozen
class Request:
    """One call of a CNI plugin, as the executable got it.

    Attributes:
        name: by which the executable was called.
        environ: its variables for CNI, podnet and tracing.
        stdin: what it read.
        seconds: that the caller waits for the answer.
    """

    name: str
    environ: Mapping[str, str]
    stdin: bytes
    seconds: float


def request_bytes(header: bytes | bytearray) -> int:
    """Return how long the whole frame is that begins with a header.

    Raises:
        DecodingError: it is no header, or tells of more than is allowed.
    """
    magic, name, environment, stdin, milliseconds = _REQUEST.unpack_from(header)
    if magic != MAGIC:
        raise DecodingError("it is no request of podnet's shim")
    for what, length, most in (
        ("name", name, MOST_NAME),
        ("environment", environment, MOST_ENVIRONMENT),
        ("network config", stdin, MOST_STDIN),
        ("time", milliseconds, _MOST_MILLISECONDS),
    ):
        if length > most:
            raise DecodingError(f"its {what} is too large: {length}, at most {most} are allowed")
    return HEADER_BYTES + int(name) + int(environment) + int(stdin)


def read_request(frame: bytes | bytearray) -> Request:
    """Return the request of a whole frame.

    Raises:
        DecodingError: it is not whole, or its environment is none.
    """
    if len(frame) < HEADER_BYTES or len(frame) != request_bytes(frame):
        raise DecodingError("it is not whole")
    _, name, environment, _, milliseconds = _REQUEST.unpack_from(frame)
    at = HEADER_BYTES + name
    text = bytes(frame[at : at + environment])
    if text and not text.endswith(b"\0"):
        raise DecodingError("its environment has no end")
    environ = {}
    for entry in text.split(b"\0")[:-1]:
        key, equals, value = entry.partition(b"=")
        if not key or not equals:
            raise DecodingError("its environment has an entry that is no KEY=VALUE")
        environ[_text(key)] = _text(value)
    called = _text(bytes(frame[HEADER_BYTES:at]))
    return Request(called, environ, bytes(frame[at + environment :]), milliseconds / 1000)


def write_request(request: Request) -> bytes:
    """Return the frame of a request; ``read_request`` is its reverse."""
    name = _bytes(request.name)
    environment = b"".join(
        _bytes(key) + b"=" + _bytes(value) + b"\0" for key, value in request.environ.items()
    )
    milliseconds = max(0, min(round(request.seconds * 1000), _MOST_MILLISECONDS))
    sizes = len(name), len(environment), len(request.stdin), milliseconds
    return _REQUEST.pack(MAGIC, *sizes) + name + environment + request.stdin


def write_answer(response: Response) -> bytes:
    """Return the frame of an answer; of standard error no more than fits is told."""
    stderr = response.stderr[:MOST_OUTPUT]
    header = _ANSWER.pack(MAGIC, response.exit_code, len(response.stdout), len(stderr))
    return header + response.stdout + stderr


def _text(data: bytes) -> str:
    # As os.fsdecode does it on Linux: what is not UTF-8 comes back as it was.
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
