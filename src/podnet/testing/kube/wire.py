"""HTTP/1.1 on a socket, as much of it as clients of the API server use."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from podnet.testing.kube.reading import Cut
from podnet.testing.kube.requests import BODY_MOST, Reply, Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import IO


class Hangup(Exception):  # noqa: N818 - a planned end
    """The connection is closed now.

    Attributes:
        reply: what is sent half before, or None.
    """

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__()
        self.reply = reply


class Server(socketserver.ThreadingTCPServer):
    """Serves one answerer on 127.0.0.1, a thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    # Connections are told to end; waiting for each thread would make every test wait.
    block_on_close = False

    def __init__(
        self, answer: Callable[[Request], Reply], port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        """Bind; ``serve_forever`` serves.

        Args:
            answer: gives the reply to a request, or raises Hangup.
            port: to listen on; 0 for any that is free.
            tls: serve HTTPS with it.
        """
        self.answer = answer
        self.tls = tls
        self.connections: set[socket.socket] = set()
        self.guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Connection)

    def hang_up(self) -> None:
        """Close every connection."""
        with self.guard:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what tests are about."""


class _Connection(socketserver.BaseRequestHandler):
    """One client's connection."""

    server: Server

    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.tls is not None:
            connection = self.server.tls.wrap_socket(connection, server_side=True)
        with self.server.guard:
            self.server.connections.add(connection)
        try:
            with connection.makefile("rb") as file:
                while self._turn(connection, file):
                    pass
        except (OSError, ValueError):
            # The client went away, or speaks something else than HTTP: there is nobody to tell.
            pass
        finally:
            with self.server.guard:
                self.server.connections.discard(connection)
            connection.close()

    def _turn(self, connection: socket.socket, file: IO[bytes]) -> bool:
        """Answer one request; tell whether another may follow."""
        request = _read(file)
        if request is None:
            return False
        try:
            reply = self.server.answer(request)
        except Hangup as hangup:
            if hangup.reply is not None:
                whole = _head(hangup.reply) + hangup.reply.body
                connection.sendall(whole[: len(whole) - len(hangup.reply.body) // 2 - 1])
            _reset(connection)
            return False
        if reply.lines is not None:
            return self._stream(connection, reply)
        connection.sendall(_head(reply) + reply.body)
        return request.headers.get("connection", "").lower() != "close"

    @staticmethod
    def _stream(connection: socket.socket, reply: Reply) -> bool:
        connection.sendall(_head(reply))
        try:
            for line in reply.lines or ():
                connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
        except Cut:
            _reset(connection)
            return False
        connection.sendall(b"0\r\n\r\n")
        return True


def _reset(connection: socket.socket) -> None:
    """Have the client see a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read(file: IO[bytes]) -> Request | None:
    start = file.readline(1 << 16)
    if not start.strip():
        return None
    method, target, _ = start.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := file.readline(1 << 16)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _chunks(file)
    else:
        # Of a body that is refused for its size one byte more than allowed is enough to know.
        size = int(headers.get("content-length", "0"))
        body = file.read(min(size, BODY_MOST + 1))
        for _ in range((size - len(body)) // 65536):
            file.read(65536)
        file.read((size - len(body)) % 65536)
    return Request.read(method, target, headers, body)


def _chunks(file: IO[bytes]) -> bytes:
    body = b""
    while size := int(file.readline().partition(b";")[0], 16):
        body += file.read(size)
        file.readline()
    while file.readline().strip():
        pass
    return body


def _head(reply: Reply) -> bytes:
    headers = {"Content-Type": "application/json", **reply.headers}
    if reply.lines is None:
        headers["Content-Length"] = str(len(reply.body))
    else:
        headers["Transfer-Encoding"] = "chunked"
    phrase = HTTPStatus(reply.code).phrase
    lines = [f"HTTP/1.1 {reply.code} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
