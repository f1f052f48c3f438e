"""The agent's socket: who may come in, how much of a request is taken, who serves it.

One thread reads from all connections, so that a slow or hostile client keeps nobody busy; workers,
which are there before the first request, take whole requests in the order of their coming.
"""

from __future__ import annotations

import collections
import errno
import os
import queue
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from podnet.agent import frames
from podnet.cni.skel import Response
from podnet.errors import InvalidEnvironmentError, PodnetError, TryAgainLaterError
from podnet.model.printing import print_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.agent.frames import Request

    Answer = Callable[[Request, float], Response]

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_CHUNK = 1 << 16
_TURN = 0.5
_SEEING_OUT = 1.0


@frozen(kw_only=True)
class Limits:
    """How much the agent takes on at a time.

    Attributes:
        workers: requests that are served at once.
        connections: that are open; who comes then waits in the socket's backlog.
        buffered: bytes of requests that are not whole or not begun; above it nothing is read.
        reading: seconds within which a request has to be whole.
        writing: seconds within which an answer has to be taken.
    """

    workers: int = 32
    connections: int = 1024
    buffered: int = 64 << 20
    reading: float = 10.0
    writing: float = 10.0


@define(eq=False)
class _Guest:
    """One connection, while its request comes in."""

    socket: socket.socket
    came: float
    ends: float
    data: bytearray = field(factory=bytearray)
    length: int = frames.HEADER_BYTES
    known: bool = False
    leaving: bool = False


@frozen
class _Order:
    """A whole request that waits for a worker."""

    socket: socket.socket
    request: Request
    came: float
    size: int


class Server:
    """Serves a listening socket until it is told to stop; each connection brings one request."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Answer,
        *,
        limits: Limits | None = None,
        users: frozenset[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a bound and listening socket, which stays open.

        Args:
            listener: of AF_UNIX, SOCK_STREAM.
            answer: serves a request that came at that time of the clock.
            limits: how much is taken on.
            users: user ids that may connect; root and this process's if not given.
            clock: seconds.
        """
        self.limits = limits or Limits()
        self.counts: collections.Counter[str] = collections.Counter()
        """How many requests were answered, refused and broken off."""
        self._listener, self._answer, self._clock = listener, answer, clock
        self._users = frozenset({0, os.geteuid()}) if users is None else users
        self._guests: dict[int, _Guest] = {}
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._buffered = self._open = self._waiting = 0
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._stopping = self._emptying = self._shut = False

    @property
    def busy(self) -> int:
        """Requests that are not answered yet."""
        return self._open

    def stop(self, *, backlog: bool = False) -> None:
        """Have ``run`` end when all that came in is answered; safe in a signal handler.

        Args:
            backlog: also what waits to be accepted: nobody else will.
        """
        self._stopping, self._emptying = True, backlog
        self._poke()

    def run(self) -> None:
        """Serve until ``stop``."""
        workers = [
            threading.Thread(target=self._work, name=f"podnet-{n}", daemon=True)
            for n in range(self.limits.workers)
        ]
        for worker in workers:
            worker.start()
        self._listener.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            accepting = False
            while not self._is_over():
                accepting = self._door(selector, accepting)
                for key, _ in selector.select(_TURN):
                    if key.fileobj is self._woken:
                        self._drain()
                    elif key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._read(selector, key.data)
                self._sweep(selector)
        for _ in workers:
            self._orders.put(None)
        for worker in workers:
            worker.join()
        self._wake.close()
        self._woken.close()

    # One thread: the door and the reading.

    def _is_over(self) -> bool:
        return self._stopping and not (self._emptying or self._open or self._guests)

    def _door(self, selector: selectors.BaseSelector, accepting: bool) -> bool:
        """Accept as long as there is room, and nobody said stop."""
        room = (
            (self._emptying or not self._stopping)
            and len(self._guests) + self._open < self.limits.connections
            and self._buffered < self.limits.buffered
        )
        if room and not accepting:
            selector.register(self._listener, selectors.EVENT_READ)
        elif accepting and not room:
            selector.unregister(self._listener)
        self._shut = not room
        if room and self._emptying:
            self._accept(selector)
        return room

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _PASSING:
                time.sleep(0.05)  # it stays readable; the cause is elsewhere
            elif isinstance(error, BlockingIOError):
                self._emptying = False
            return
        client.setblocking(False)
        now = self._clock()
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        user = _CREDENTIALS.unpack(credentials)[1]
        if user not in self._users:
            text = f"user {user} may not use podnet's agent"
            self._refuse(client, InvalidEnvironmentError(text))
            client.close()
            return
        guest = _Guest(client, now, now + self.limits.reading)
        self._guests[client.fileno()] = guest
        selector.register(client, selectors.EVENT_READ, guest)
        self._read(selector, guest)

    def _read(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        if guest.leaving:
            self._see_out(selector, guest)
            return
        try:
            while len(guest.data) < guest.length:
                chunk = guest.socket.recv(min(_CHUNK, guest.length - len(guest.data)))
                if not chunk:
                    self._leave(selector, guest)
                    guest.socket.close()
                    self.counts["broken off"] += 1
                    return
                guest.data += chunk
                self._buffer(len(chunk))
                if not guest.known and len(guest.data) == guest.length:
                    guest.known, guest.length = True, frames.request_bytes(guest.data)
            request = frames.read_request(guest.data)
        except BlockingIOError:
            return
        except OSError:
            self._leave(selector, guest)
            guest.socket.close()
            self.counts["broken off"] += 1
            return
        except PodnetError as error:
            self._show_out(guest, error)
            return
        size = len(guest.data)
        self._leave(selector, guest, handed_on=True)
        with self._lock:
            self._open += 1
        self._orders.put(_Order(guest.socket, request, guest.came, size))

    def _leave(
        self, selector: selectors.BaseSelector, guest: _Guest, *, handed_on: bool = False
    ) -> None:
        selector.unregister(guest.socket)
        del self._guests[guest.socket.fileno()]
        if not handed_on:
            self._buffer(-len(guest.data))

    def _sweep(self, selector: selectors.BaseSelector) -> None:
        """Send away those whose request does not come to its end."""
        now = self._clock()
        for guest in [guest for guest in self._guests.values() if now >= guest.ends]:
            if guest.leaving:
                self._leave(selector, guest)
                guest.socket.close()
            else:
                text = f"the request was not whole within {self.limits.reading:g} s"
                self._show_out(guest, TryAgainLaterError(text))

    def _show_out(self, guest: _Guest, error: PodnetError) -> None:
        """Refuse a guest, and take no more of what he says.

        What he sent has to be read before his socket is closed: else he sees a reset connection
        in place of the answer (net/unix/af_unix.c, ``unix_release_sock``).
        """
        self._refuse(guest.socket, error)
        self._buffer(-len(guest.data))
        guest.data.clear()
        guest.leaving, guest.ends = True, self._clock() + _SEEING_OUT
        with suppress(OSError):
            guest.socket.shutdown(socket.SHUT_WR)

    def _see_out(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        try:
            more = guest.socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._leave(selector, guest)
            guest.socket.close()

    def _refuse(self, client: socket.socket, error: PodnetError) -> None:
        self.counts["refused"] += 1
        # One send: it fits into an empty buffer, and nobody is waited for.
        with suppress(OSError):
            client.send(frames.write_answer(Response(1, print_error(error))), socket.MSG_NOSIGNAL)

    def _buffer(self, size: int) -> None:
        with self._lock:
            self._buffered += size

    def _poke(self) -> None:
        try:
            self._wake.send(b"\0")
        except OSError:  # it is full: it will wake up
            return

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                continue
        except BlockingIOError:
            return

    # Many threads: the work.

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                self._serve(order)
            finally:
                order.socket.close()
                with self._lock:
                    self._open -= 1
                    self._buffered -= order.size
                if self._stopping or self._shut:
                    self._poke()

    def _serve(self, order: _Order) -> None:
        if _is_gone(order.socket):
            # Nobody reads the answer, and an ADD that nobody knows of is one more thing to undo.
            self.counts["broken off"] += 1
            return
        response = self._answer(order.request, order.came)
        order.socket.settimeout(self.limits.writing)
        try:
            order.socket.sendall(frames.write_answer(response))
            self.counts["answered"] += 1
        except OSError:
            self.counts["broken off"] += 1


def _is_gone(client: socket.socket) -> bool:
    """Tell whether the other side closed its end."""
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
