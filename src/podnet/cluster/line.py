"""Requests and answers on connections that are kept: retries, time limits, credentials anew."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
from attrs import frozen

from podnet.cluster.access import CONNECT_MOST, CREDENTIAL_ERRORS
from podnet.cluster.answers import (
    RefusedError,
    UnknownOutcomeError,
    UnreachableError,
    is_status,
    refusal,
)
from podnet.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.cluster.access import Access

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@frozen
class Change:
    """One line of a watch.

    Attributes:
        type: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``.
        object: the object; of a bookmark only ``metadata.resourceVersion`` is there.
    """

    type: str
    object: dict[str, Any]


@frozen
class _Answer:
    code: int
    headers: httpx2.Headers
    content: bytes


class _Process:
    """The sessions of one process: a forked one must not talk on its parent's connections."""

    def __init__(self, session: httpx2.Client) -> None:
        self.pid = os.getpid()
        self.session = session
        self.retired: list[httpx2.Client] = []
        self.watching: set[httpx2.Response] = set()


class Line:
    """Connections to one API server; threads may share it, and forked processes inherit it."""

    def __init__(self, access: Access, timeout: float) -> None:
        """Read the credentials; nothing is asked of the API server yet.

        Args:
            access: where it is and who we are.
            timeout: seconds that one call may take in all.

        Raises:
            InvalidConfigError: the credentials cannot be used.
        """
        self._access = access
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process = _Process(access.session())
        self._inherited: list[_Process] = []
        self._closed = False

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        accept: str = "",
        *,
        body: object = None,
        media: str = "application/json",
    ) -> Any:
        """Send a request until there is an answer to it; return the answer's JSON.

        Args:
            method: of HTTP; what is not ``GET`` is a write, and repeated only if it was not done.
            path: with everything quoted.
            query: parameters.
            accept: media types; empty for plain JSON.
            body: JSON values to send, or None.
            media: type of the body.

        Raises:
            RefusedError: one of its kinds, for what the API server refused.
            UnreachableError: nothing was done.
            UnknownOutcomeError: a write may have been done.
            InvalidConfigError: the credentials cannot be used, or there is no such resource.
        """
        what = f"{method} {path}"
        headers = {"Accept": accept} if accept else {}
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = media
        ends = time.monotonic() + self._timeout
        pause, renewed, why = _FIRST_PAUSE, False, "no answer"
        while (left := ends - time.monotonic()) > 0:
            session = self._session()
            wait = pause * (0.5 + random.random() / 2)  # noqa: S311 - spreads retries
            try:
                request = session.build_request(
                    method,
                    path,
                    params=query,
                    headers=headers,
                    content=content,
                    timeout=httpx2.Timeout(left, connect=min(left, CONNECT_MOST)),
                )
                answer = _received(session, request, ends)
            except _NEVER_SENT as error:
                why = _said(error)
            except CREDENTIAL_ERRORS as error:
                raise self._access.failed(error) from None
            except (httpx2.TransportError, httpx2.DecodingError, RuntimeError) as error:
                # RuntimeError: the session was closed by another thread.
                if method != "GET":
                    raise UnknownOutcomeError(f"no reply to {what}", _said(error)) from None
                why = _said(error)
            else:
                document = _decode(answer.content)
                if answer.code < 300 and document is not None:
                    return document
                if answer.code == 401 and not renewed:
                    renewed = True
                    self._maybe_renew(session, 401)
                    continue
                wait = max(wait, _again_after(method, what, answer, document))
                why = f"HTTP status {answer.code}"
                if ends - time.monotonic() < wait:
                    break
            time.sleep(max(0.0, min(wait, ends - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise UnreachableError(f"cannot {what} within {self._timeout:g} s", why)

    def stream(
        self, what: str, path: str, query: Mapping[str, str], accept: str, silence: float
    ) -> Iterator[Change]:
        """Begin to read an endless answer; return its lines.

        Args:
            what: the request, for messages.
            path: with everything quoted.
            query: parameters.
            accept: media types; empty for plain JSON.
            silence: seconds without a line after which the connection is taken for dead.

        Raises:
            RefusedError: one of its kinds, for what the API server refused.
            UnreachableError: the connection was lost, or never came about.
            InvalidConfigError: the credentials cannot be used, or there is no such resource.
        """
        session = self._session()
        request = session.build_request(
            "GET",
            path,
            params=query,
            headers={"Accept": accept} if accept else {},
            timeout=httpx2.Timeout(silence, connect=CONNECT_MOST),
        )
        try:
            answer = session.send(request, stream=True)
            if answer.status_code != 200:
                answer.read()
                self._maybe_renew(session, answer.status_code)
                raise refusal(what, answer.status_code, _decode(answer.content))
        except (httpx2.TransportError, httpx2.DecodingError, RuntimeError) as error:
            # RuntimeError: the session was closed by another thread.
            raise UnreachableError(f"cannot {what}", _said(error)) from None
        except CREDENTIAL_ERRORS as error:
            raise self._access.failed(error) from None
        self._process.watching.add(answer)
        return self._changes(what, answer)

    def _changes(self, what: str, answer: httpx2.Response) -> Iterator[Change]:
        try:
            for line in answer.iter_lines():
                if line:
                    yield _change(what, line)
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as error:
            raise UnreachableError(f"cannot {what}", _said(error)) from None
        finally:
            self._process.watching.discard(answer)
            answer.close()

    def close(self) -> None:
        """Close all connections; may be called again. What runs in other threads fails."""
        if self._process.pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            for answer in tuple(self._process.watching):
                _shut(answer)
            for session in (self._process.session, *self._process.retired):
                session.close()
            self._process.retired.clear()

    def _session(self) -> httpx2.Client:
        if self._process.pid != os.getpid():
            # Forked. A thread of the parent may have held the lock, so there is a new one. The
            # parent's connections are kept and left alone, not closed: they are in use there.
            self._lock = threading.Lock()
            self._inherited.append(self._process)
            self._process = _Process(self._access.session())
        if self._closed:
            raise StoreError(f"the connection to {self._access.server} is closed")
        return self._process.session

    def _maybe_renew(self, session: httpx2.Client, code: int) -> None:
        """After 401, read the credentials anew, once for all threads that failed with them."""
        if code != 401:
            return
        with self._lock:
            if self._process.session is session and not self._closed:
                # Other threads may be in the middle of a request on it.
                self._process.retired.append(session)
                self._process.session = self._access.session()


def _received(session: httpx2.Client, request: httpx2.Request, ends: float) -> _Answer:
    """Return the whole answer; httpx' own limit is one of silence, not of the whole."""
    answer = session.send(request, stream=True)
    try:
        parts = []
        for part in answer.iter_bytes():
            parts.append(part)
            if time.monotonic() > ends:
                raise httpx2.ReadTimeout("the answer is still not complete")
    finally:
        answer.close()
    return _Answer(answer.status_code, answer.headers, b"".join(parts))


def _shut(answer: httpx2.Response) -> None:
    """Wake the thread that reads an endless answer."""
    stream = answer.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _again_after(method: str, what: str, answer: _Answer, document: object) -> float:
    """Return the seconds to wait before a retry of what was not carried out.

    Raises:
        PodnetError: a retry cannot help, or is not safe.
    """
    code = answer.code
    from_server = is_status(document)
    if code == 429 or (code == 503 and (from_server or method == "GET")):
        try:
            return max(0.0, float(answer.headers.get("Retry-After", "0")))
        except ValueError:  # a date, which the API server never sends
            return 0.0
    error = refusal(what, code, document)
    if type(error) is RefusedError and (code >= 500 or code < 300):
        if method == "GET":
            return 0.0
        # Cut short, or a proxy's 502 or 504, or the API server's own "may still be
        # processing the request".
        raise UnknownOutcomeError(f"no reply to {what}", str(error)) from None
    raise error


def _change(what: str, line: str) -> Change:
    event = _decode(line.encode())
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise UnreachableError(f"cannot {what}", "the answer was cut short")
    if event.get("type") == "ERROR":
        raise refusal(what, int(event["object"].get("code") or 500), event["object"])
    return Change(str(event.get("type")), event["object"])


def _decode(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
