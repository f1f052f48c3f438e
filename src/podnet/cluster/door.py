"""The one door to the Kubernetes API: verbs on plain JSON objects, with limits and retries.

What lightkube's own client leaves out is done here: preconditions of deletions, metadata-only
reads, time limits that hold for a whole call, ``Retry-After``, credentials read anew after 401,
and the difference between a write that was not carried out and one whose reply was lost.
"""

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

from podnet.cluster.access import CONNECT_MOST, CREDENTIAL_ERRORS, Access
from podnet.cluster.answers import (
    ExpiredError,
    MissingError,
    RefusedError,
    UnknownOutcomeError,
    UnreachableError,
    is_status,
    refusal,
)
from podnet.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from podnet.cluster.resource import Resource

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_META = "application/json;as={};g=meta.k8s.io;v=v1"
_PAGE = 500
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


@frozen
class Listing:
    """All objects of a list, however many pages it took.

    Attributes:
        items: the objects.
        version: resourceVersion of the list; a watch can start from it.
    """

    items: list[Object]
    version: str


@frozen
class Change:
    """One line of a watch.

    Attributes:
        type: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``.
        object: the object; of a bookmark only ``metadata.resourceVersion`` is there.
    """

    type: str
    object: Object


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


class Cluster:
    """A connection to one API server; threads may share it, and forked processes inherit it.

    Every method takes at most ``timeout`` seconds, waits for ``Retry-After`` included. Errors that
    all of them raise: ``UnreachableError`` (nothing was done; code 11), ``DeniedError``,
    ``RefusedError``, and ``InvalidConfigError`` for credentials that cannot be used and resources
    that the cluster does not know. Writes raise ``UnknownOutcomeError`` besides.
    """

    def __init__(self, kubeconfig: str = "", context: str = "", *, timeout: float = 10.0) -> None:
        """Read the credentials; nothing is asked of the API server yet.

        Args:
            kubeconfig: file; if empty, the pod's service account or the user's default.
            context: of the file; empty for its current one.
            timeout: seconds that one call may take in all.

        Raises:
            InvalidConfigError: the credentials cannot be used.
        """
        self._access = Access(kubeconfig, context)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process = _Process(self._access.session())
        self._inherited: list[_Process] = []
        self._closed = False

    @property
    def namespace(self) -> str:
        """Namespace of the context, or of the service account."""
        return self._access.namespace

    @property
    def named_namespace(self) -> str:
        """Namespace that the context names; empty if it names none."""
        return self._access.named_namespace

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._access.server

    def get(
        self, resource: Resource, name: str, namespace: str = "", *, meta_only: bool = False
    ) -> Object | None:
        """Return an object as it is now (a quorum read), or None if there is none.

        Args:
            resource: of which type.
            name: of the object.
            namespace: where it lives; empty for objects of the cluster.
            meta_only: return no more of it than ``metadata``.
        """
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        try:
            found: Object = self._call("GET", resource.path(namespace, name), accept=accept)
        except MissingError:
            return None
        return found

    def list_all(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        meta_only: bool = False,
        page: int = _PAGE,
    ) -> Listing:
        """Return all objects as they are now (a quorum read), fetched in pages.

        A list whose continue token expires on the way is begun anew.

        Args:
            resource: of which type.
            namespace: only there; empty for all.
            labels: label selector.
            fields: field selector.
            meta_only: return no more of each object than ``metadata``.
            page: most objects in one answer.
        """
        accept = _META.format("PartialObjectMetadataList") if meta_only else ""
        query = _given(labelSelector=labels, fieldSelector=fields, limit=str(page))
        ends = time.monotonic() + self._timeout
        while True:
            try:
                return self._pages(resource.path(namespace), query, accept)
            except ExpiredError:
                if time.monotonic() > ends:
                    raise

    def version(self, resource: Resource, name: str, namespace: str = "") -> str | None:
        """Return an object's resourceVersion as it is now (a quorum read), or None: a few bytes."""
        query, accept = {"includeObject": "None"}, _META.format("Table")
        try:
            found = self._call("GET", resource.path(namespace, name), query, accept)
        except MissingError:
            return None
        return str(found["metadata"]["resourceVersion"])

    def table(self, resource: Resource, namespace: str = "", *, labels: str = "") -> list[Object]:
        """Return the printer columns of all objects by their headings, as they are now.

        That is less than their metadata; ``Name`` is always among them.
        """
        accept = _META.format("Table")
        query = _given(labelSelector=labels, limit=str(_PAGE), includeObject="None")
        ends = time.monotonic() + self._timeout
        while True:
            try:
                return self._rows(resource.path(namespace), query, accept)
            except ExpiredError:
                if time.monotonic() > ends:
                    raise

    def create(
        self,
        resource: Resource,
        document: Mapping[str, Any],
        namespace: str = "",
        *,
        strict: bool = False,
        meta_only: bool = False,
    ) -> Object:
        """Create an object; return it as it was stored.

        Args:
            resource: of which type.
            document: the object; apiVersion and kind are put in.
            namespace: where it shall live.
            strict: refuse fields that the schema does not know, instead of dropping them.
            meta_only: return no more of it than ``metadata``.

        Raises:
            ExistsError: there is one of its name.
            InvalidObjectError: it breaks its schema.
            TooLargeError: it is too large.
            UnknownOutcomeError: the reply was lost.
        """
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        query = _given(fieldValidation="Strict" if strict else "")
        made: Object = self._call("POST", resource.path(namespace), query, accept, body=body)
        return made

    def replace(self, resource: Resource, document: Object) -> Object:
        """Put an object in the place of the one of its name; return it as it was stored.

        Its ``metadata.resourceVersion`` has to be there: without one, whatever is there is lost.

        Raises:
            MissingError: there is none.
            ConflictError: it is at another version.
            InvalidObjectError, TooLargeError, UnknownOutcomeError: see ``create``.
            ValueError: the document has no resourceVersion.
        """
        meta = document["metadata"]
        if not meta.get("resourceVersion"):
            raise ValueError("a replacement needs metadata.resourceVersion")
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
        path = resource.path(meta.get("namespace", ""), meta["name"])
        put: Object = self._call("PUT", path, body=body)
        return put

    def patch(  # noqa: PLR0913 - the parts of a patch, all by name
        self,
        resource: Resource,
        name: str,
        change: object,
        namespace: str = "",
        *,
        kind: str = MERGE_PATCH,
        manager: str = "",
        force: bool = False,
        sub: str = "",
        strict: bool = False,
        meta_only: bool = False,
    ) -> Object:
        """Change an object; return it as it is then.

        Args:
            resource: of which type.
            name: of the object.
            change: a merge patch, a list of JSON Patch operations, or the configuration to apply.
                ``metadata.resourceVersion`` in a merge patch makes it conditional.
            namespace: where it lives.
            kind: ``MERGE_PATCH``, ``JSON_PATCH`` or ``APPLY_PATCH`` (server-side apply, which
                creates what is not there).
            manager: field manager; needed to apply.
            force: take over fields that another manager owns; only to apply.
            sub: subresource, such as ``status``.
            strict: refuse fields that the schema does not know, instead of dropping them.
            meta_only: return no more of it than ``metadata``.

        Raises:
            MissingError: there is none.
            ConflictError: it is at another version, or another manager owns a field.
            InvalidObjectError: the result breaks the schema, or a ``test`` failed.
            TooLargeError, UnknownOutcomeError: see ``create``.
        """
        query = _given(
            fieldManager=manager,
            force="true" if force else "",
            fieldValidation="Strict" if strict else "",
        )
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        path = resource.path(namespace, name, sub)
        changed: Object = self._call("PATCH", path, query, accept, body=change, media=kind)
        return changed

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        version: str = "",
    ) -> Object:
        """Delete an object, if it still has the UID and resourceVersion that are given.

        Returns:
            A ``Status``, or the object, which stays there until its finalizers are done.

        Raises:
            MissingError: there is none.
            ConflictError: it is another one, or at another version.
            UnknownOutcomeError: the reply was lost.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if wanted := _given(uid=uid, resourceVersion=version):
            body["preconditions"] = wanted
        gone: Object = self._call("DELETE", resource.path(namespace, name), body=body)
        return gone

    def watch(
        self,
        resource: Resource,
        version: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        meta_only: bool = False,
        lasting: float = 300.0,
        silence: float = 90.0,
    ) -> Iterator[Change]:
        """Begin a watch; the iterator yields changes after a version until the API server ends it.

        It ends it at any time; go on from the version of the last change or bookmark. Once this
        returns, the watch is running.

        Args:
            resource: of which type.
            version: resourceVersion to start from.
            namespace: only there; empty for all.
            labels: label selector.
            fields: field selector.
            meta_only: yield no more of each object than ``metadata``.
            lasting: seconds after which the API server shall end it.
            silence: seconds without a line after which the connection is taken for dead; the API
                server sends bookmarks about every minute.

        Raises:
            ExpiredError: the version is too old: list again. Also while it is iterated over.
            UnreachableError: the connection was lost, or never came about. Also while it is
                iterated over.
        """
        accept = _META.format("PartialObjectMetadata") if meta_only else ""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(lasting))),
            **_given(labelSelector=labels, fieldSelector=fields),
        }
        what = f"watch {resource}"
        session = self._session()
        request = session.build_request(
            "GET",
            resource.path(namespace),
            params=query,
            headers=_given(Accept=accept),
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

    # --- one request

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        accept: str = "",
        *,
        body: object = None,
        media: str = "application/json",
    ) -> Any:
        """Send a request until there is an answer to it; return the answer's JSON."""
        what = f"{method} {path}"
        headers = _given(Accept=accept)
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

    def _pages(self, path: str, query: Mapping[str, str], accept: str) -> Listing:
        items: list[Object] = []
        more: dict[str, str] = {}
        while True:
            found = self._call("GET", path, {**query, **more}, accept)
            items += found.get("items") or ()
            meta = found["metadata"]
            if not meta.get("continue"):
                return Listing(items, str(meta.get("resourceVersion", "")))
            more = {"continue": meta["continue"]}

    def _rows(self, path: str, query: Mapping[str, str], accept: str) -> list[Object]:
        rows: list[Object] = []
        heads: list[str] = []
        more: dict[str, str] = {}
        while True:
            found = self._call("GET", path, {**query, **more}, accept)
            # Later pages have no column definitions.
            heads = heads or [column["name"] for column in found.get("columnDefinitions") or ()]
            rows += (
                dict(zip(heads, row["cells"], strict=False)) for row in found.get("rows") or ()
            )
            if not found["metadata"].get("continue"):
                return rows
            more = {"continue": found["metadata"]["continue"]}

    def _session(self) -> httpx2.Client:
        if self._process.pid != os.getpid():
            # Forked. A thread of the parent may have held the lock, so there is a new one. The
            # parent's connections are kept and left alone, not closed: they are in use there.
            self._lock = threading.Lock()
            self._inherited.append(self._process)
            self._process = _Process(self._access.session())
        if self._closed:
            raise StoreError(f"the connection to {self.server} is closed")
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


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
