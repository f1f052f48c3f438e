"""Requests and answers on connections that are kept: retries, time limits, credentials anew."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
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
from podnet.cluster.pauses import Pauses
from podnet.cluster.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.cluster.access import Access

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


class _NotDoneError(Exception):
    """There is no answer, and a repetition does no harm."""


class _TimeLeft:
    """The time limits of a request as httpx asks for them, whenever a part of it begins."""

    def __init__(self, ends: float) -> None:
        self._ends = ends

    def get(self, part: str, _: object = None) -> float:
        left = max(0.001, self._ends - time.monotonic())
        return min(left, CONNECT_MOST) if part == "connect" else left


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
        self._sessions = Sessions(access.session())
        self._inherited: list[Sessions] = []

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        accept: str = "",
        *,
        body: object = None,
        media: str = "application/json",
        ends: float | None = None,
    ) -> Any:
        """Send a request until there is an answer to it; return the answer's JSON.

        Args:
            method: of HTTP; what is not ``GET`` is a write, and repeated only if it was not done.
            path: with everything quoted.
            query: parameters.
            accept: media types; empty for plain JSON.
            body: JSON values to send, or None.
            media: type of the body.
            ends: when the time is up, by ``time.monotonic``, if not after the usual timeout.

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
        sent = {"params": query, "headers": headers, "content": content}
        pauses = Pauses(time.monotonic() + self._timeout if ends is None else ends)
        renewed, why = False, "no answer"
        while pauses.left > 0:
            after = 0.0
            sessions = self._own
            with sessions.using() as session:
                try:
                    answer = self._sent(session, method, path, sent, pauses.ends)
                except _NotDoneError as error:
                    why = str(error)
                else:
                    document = _decode(answer.content)
                    if answer.code < 300 and document is not None:
                        return document
                    if answer.code == 401 and not renewed:
                        renewed = True
                        sessions.renew(session, self._access.session)
                        continue
                    after = _again_after(method, what, answer, document)
                    why = f"HTTP status {answer.code}"
            if not pauses.again(after):
                break
        raise UnreachableError(f"cannot {what} within {self._timeout:g} s", why)

    def _sent(
        self, session: httpx2.Client, method: str, path: str, sent: dict[str, Any], ends: float
    ) -> _Answer:
        """Send a request once; return the answer.

        Raises:
            _NotDoneError: there is none, and the request may be repeated.
            UnknownOutcomeError: there is none to a write.
            InvalidConfigError: the credentials cannot be used.
        """
        extensions = {"timeout": _TimeLeft(ends)}
        try:
            request = session.build_request(method, path, **sent, extensions=extensions)
            return _received(session, request, ends)
        except _NEVER_SENT as error:
            raise _NotDoneError(_said(error)) from None
        except CREDENTIAL_ERRORS as error:
            raise self._access.failed(error) from None
        except (httpx2.TransportError, httpx2.DecodingError, RuntimeError) as error:
            # RuntimeError: the session was closed by another thread.
            if method != "GET":
                raise UnknownOutcomeError(f"no reply to {method} {path}", _said(error)) from None
            raise _NotDoneError(_said(error)) from None

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
        with ExitStack() as stack:
            sessions = self._own
            session = stack.enter_context(sessions.using())
            request = session.build_request(
                "GET",
                path,
                params=query,
                headers={"Accept": accept} if accept else {},
                timeout=httpx2.Timeout(silence, connect=CONNECT_MOST),
            )
            try:
                answer = session.send(request, stream=True)
                stack.callback(answer.close)
                if answer.status_code != 200:
                    answer.read()
                    if answer.status_code == 401:
                        sessions.renew(session, self._access.session)
                    raise refusal(what, answer.status_code, _decode(answer.content))
            except (httpx2.TransportError, httpx2.DecodingError, RuntimeError) as error:
                # RuntimeError: the session was closed by another thread.
                raise UnreachableError(f"cannot {what}", _said(error)) from None
            except CREDENTIAL_ERRORS as error:
                raise self._access.failed(error) from None
            sessions.watching.add(answer)
            stack.callback(sessions.watching.discard, answer)
            return _changes(what, answer, stack.pop_all())

    def close(self) -> None:
        """Close all connections; may be called again. What runs in other threads fails."""
        if self._sessions.pid == os.getpid():
            self._sessions.close()

    @property
    def _own(self) -> Sessions:
        if self._sessions.pid != os.getpid() and not self._sessions.closed:
            # Forked. The parent's connections are kept and left alone, not closed: they are in
            # use there.
            self._inherited.append(self._sessions)
            self._sessions = Sessions(self._access.session())
        return self._sessions


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


def _again_after(method: str, what: str, answer: _Answer, document: object) -> float:
    """Return the seconds to wait before a retry of what was not carried out.

    Raises:
        PodnetError: a retry cannot help, or is not safe.
    """
    code, wait = answer.code, _retry_after(answer)
    if code == 429 or (code == 503 and (is_status(document) or method == "GET")):
        return wait
    error = refusal(what, code, document)
    if type(error) is RefusedError and (code >= 500 or code < 300):
        if method == "GET":
            return wait
        # Cut short, or a proxy's 502, 503 or 504, or the API server's own "may still be
        # processing the request".
        raise UnknownOutcomeError(f"no reply to {what}", str(error), again_after=wait) from None
    raise error


def _retry_after(answer: _Answer) -> float:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:  # a date, which the API server never sends
        return 0.0


def _changes(what: str, answer: httpx2.Response, ended: ExitStack) -> Iterator[Change]:
    with ended:
        try:
            for line in answer.iter_lines():
                if line:
                    yield _change(what, line)
        except (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError) as error:
            raise UnreachableError(f"cannot {what}", _said(error)) from None


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
