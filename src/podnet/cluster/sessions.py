"""The HTTP sessions of one process: one for new requests, and older ones that are still in use."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from podnet.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2


class Sessions:
    """The sessions of one process: a forked one must not talk on its parent's connections.

    Attributes:
        pid: of the process.
        session: for new requests.
        watching: endless answers that are being read.
        closed: whether it was closed.
    """

    def __init__(self, session: httpx2.Client) -> None:
        """Begin with a session."""
        self.pid = os.getpid()
        self.session = session
        self.watching: set[httpx2.Response] = set()
        self.closed = False
        self._users: Counter[httpx2.Client] = Counter()
        # Garbage collection may end a watch, and so give a session back, while this is held.
        self._lock = threading.RLock()

    @contextmanager
    def using(self) -> Iterator[httpx2.Client]:
        """Use the session; one that was replaced meanwhile is closed with its last use.

        Raises:
            StoreError: it is closed.
        """
        with self._lock:
            if self.closed:
                raise StoreError("the connection to the API server is closed")
            session = self.session
            self._users[session] += 1
        try:
            yield session
        finally:
            if self.pid == os.getpid():
                self._give_back(session)

    def _give_back(self, session: httpx2.Client) -> None:
        with self._lock:
            self._users[session] -= 1
            if not self._users[session]:
                del self._users[session]
                if session is not self.session:
                    session.close()

    def renew(self, old: httpx2.Client, make: Callable[[], httpx2.Client]) -> None:
        """Replace a session that is in use, once for all threads that use it."""
        with self._lock:
            if self.session is old and not self.closed:
                self.session = make()

    def close(self) -> None:
        """Close all; what runs in other threads fails."""
        with self._lock:
            self.closed = True
            for answer in tuple(self.watching):
                _shut(answer)
            for session in {self.session, *self._users}:
                session.close()


def _shut(answer: httpx2.Response) -> None:
    """Wake the thread that reads an endless answer."""
    stream = answer.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
