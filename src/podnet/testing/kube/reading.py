"""The verbs that read: get, list in pages, and watch."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from podnet.testing.kube import naming, replies
from podnet.testing.kube.requests import Form, Reply
from podnet.testing.kube.storage import ADDED, DELETED, MODIFIED, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.testing.kube.requests import Request, Target
    from podnet.testing.kube.storage import Event, Storage, Stored

_SNAPSHOTS = 64


@frozen
class Cut(Exception):  # noqa: N818 - a planned end
    """The connection of a watch ends here, without the end of its answer."""


@define
class Streams:
    """What all running watches obey; an epoch that moved on ends those begun before.

    Attributes:
        ended: epoch; begun before means the watch ends in order.
        cut: as ``ended``, but the connection is cut.
        gone: as ``ended``, but an ERROR event with 410 comes first.
        stalled: no event is sent for now, as on a connection that is dead without notice.
        bookmarks: seconds between bookmarks.
    """

    ended: int = 0
    cut: int = 0
    gone: int = 0
    stalled: bool = False
    bookmarks: float = 60.0


class Reading:
    """Get, list and watch on a storage."""

    def __init__(self, storage: Storage, streams: Streams) -> None:
        self._storage = storage
        self._streams = streams
        self._snapshots: OrderedDict[str, tuple[int, list[Stored]]] = OrderedDict()

    def get(self, target: Target, request: Request) -> Reply:
        """GET of one object."""
        kind = target.kind
        form = Form(kind, request, self._storage)
        with self._storage.lock:
            if request.query.get("resourceVersion") == "0":
                _, found = self._storage.stale(kind.resource, target.namespace)
                stored = next((one for one in found if one.name == target.name), None)
            else:
                stored = self._storage.find(kind.resource, target.namespace or "", target.name)
            if stored is None:
                raise replies.not_found(kind.resource, target.name)
            return Reply(200, form.one(stored))

    def selected(self, target: Target, request: Request) -> list[Stored]:
        """Return what a collection's selectors choose now."""
        choose = _selector(target, request)
        with self._storage.lock:
            found = self._storage.select(target.kind.resource, target.namespace)
        return found if choose is None else [one for one in found if choose(one)]

    def page(self, target: Target, request: Request) -> Reply:
        """GET of a collection."""
        form = Form(target.kind, request, self._storage)
        limit, token = request.number("limit"), request.query.get("continue", "")
        with self._storage.lock:
            if token:
                version, found = self._resumed(token, request)
            else:
                version, found = self._from_start(target, request)
            meta: dict[str, Any] = {"resourceVersion": str(version)}
            if limit and len(found) > limit:
                meta["continue"] = self._keep(version, found[limit:])
                if not (request.query.get("labelSelector") or request.query.get("fieldSelector")):
                    meta["remainingItemCount"] = len(found) - limit
                found = found[:limit]
        return Reply(200, form.many(found, meta))

    def _from_start(self, target: Target, request: Request) -> tuple[int, list[Stored]]:
        kind, choose = target.kind, _selector(target, request)
        wanted = request.number("resourceVersion")
        match = request.query.get("resourceVersionMatch", "")
        if match and "resourceVersion" not in request.query:
            raise replies.bad_request("resourceVersionMatch is forbidden unless resourceVersion")
        if match == "Exact" and wanted != self._storage.version:
            raise replies.gone(f"too old resource version: {wanted}")
        if wanted > self._storage.version:
            message = f"Too large resource version: {wanted}, current: {self._storage.version}"
            raise replies.Refusal(504, "Timeout", message, headers={"Retry-After": "1"})
        version, found = self._storage.version, None
        if "resourceVersion" in request.query and match != "Exact":
            seen, stale = self._storage.stale(kind.resource, target.namespace)
            if seen >= wanted:
                version, found = seen, stale
        if found is None:
            found = self._storage.select(kind.resource, target.namespace)
        return version, found if choose is None else [one for one in found if choose(one)]

    def _keep(self, version: int, rest: list[Stored]) -> str:
        name = secrets.token_hex(8)
        self._snapshots[name] = (version, rest)
        if len(self._snapshots) > _SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return base64.urlsafe_b64encode(encode({"v": "podnet", "s": name})).decode()

    def _resumed(self, token: str, request: Request) -> tuple[int, list[Stored]]:
        if request.query.get("resourceVersion"):
            raise replies.bad_request("specifying resource version is not allowed with continue")
        try:
            name = json.loads(base64.urlsafe_b64decode(token))["s"]
        except (ValueError, KeyError, TypeError):
            raise replies.bad_request("continue key is not valid") from None
        if name not in self._snapshots:
            message = (
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter."
            )
            raise replies.gone(message)
        # A page may be asked for again: its answer may have been lost.
        return self._snapshots[name]

    def expire(self) -> None:
        """Have all continue tokens end in 410."""
        with self._storage.lock:
            self._snapshots.clear()

    def watch(self, target: Target, request: Request) -> Reply:
        """GET of a collection's changes."""
        form, kind = Form(target.kind, request, self._storage), target.kind
        choose = _selector(target, request) or (lambda _: True)
        version = request.number("resourceVersion")
        with self._storage.lock:
            first: list[Stored] = []
            if version == 0:
                version, first = self._storage.stale(kind.resource, target.namespace)
            elif self._storage.since(kind.resource, version) is None:
                raise replies.gone(f"too old resource version: {version}")
        epochs = (self._streams.ended, self._streams.cut, self._streams.gone)
        lines = self._lines(target, request, form, choose, version, first, epochs)
        return Reply(200, lines=lines)

    def _lines(
        self,
        target: Target,
        request: Request,
        form: Form,
        choose: Callable[[Stored], bool],
        version: int,
        first: list[Stored],
        epochs: tuple[int, int, int],
    ) -> Iterator[bytes]:
        streams, storage = self._streams, self._storage
        ends = time.monotonic() + (request.number("timeoutSeconds") or 1800)
        bookmarks = request.flag("allowWatchBookmarks")
        told = time.monotonic()
        for one in first:
            if choose(one):
                yield form.event(ADDED, one)
        while True:
            now = time.monotonic()
            due = told + streams.bookmarks if bookmarks else ends
            with storage.lock:
                events = None if streams.stalled else storage.since(target.kind.resource, version)
                quiet = streams.stalled or events == []
                if quiet and now < min(due, ends) and epochs == self._epochs():
                    storage.changed.wait(min(due, ends) - now)
                    continue
                current = storage.version
            if streams.cut != epochs[1]:
                raise Cut
            if streams.gone != epochs[2] or (events is None and not streams.stalled):
                status = replies.gone(f"too old resource version: {version}").status()
                yield encode({"type": "ERROR", "object": status}) + b"\n"
                return
            for event in events or ():
                version = event.new.version
                yield from _shown(event, target, choose, form)
            now = time.monotonic()
            if streams.ended != epochs[0] or now >= ends:
                # The API server sends a last bookmark shortly before a watch times out.
                if bookmarks and events is not None:
                    yield form.bookmark(max(version, current))
                return
            if bookmarks and now >= due and not streams.stalled:
                version, told = max(version, current), now
                yield form.bookmark(version)

    def _epochs(self) -> tuple[int, int, int]:
        return self._streams.ended, self._streams.cut, self._streams.gone


def _shown(
    event: Event, target: Target, choose: Callable[[Stored], bool], form: Form
) -> Iterator[bytes]:
    """Show a change to a watch: an object that comes into its selection is new to it."""
    if target.namespace not in (None, event.new.namespace):
        return
    before = event.old is not None and choose(event.old)
    after = event.type != DELETED and choose(event.new)
    if after:
        yield form.event(MODIFIED if before else ADDED, event.new)
    elif before:
        yield form.event(DELETED, event.new)


def _selector(target: Target, request: Request) -> Callable[[Stored], bool] | None:
    by_label = naming.label_selector(request.query.get("labelSelector", ""))
    known = frozenset(("metadata.name", "metadata.namespace", *target.kind.fields))
    by_field = naming.field_selector(request.query.get("fieldSelector", ""), known)
    if target.name:
        by_field = naming.field_selector(f"metadata.name={target.name}", known)
    if by_field is None:
        return None if by_label is None else (lambda one: by_label(one.labels))
    return lambda one: (
        (by_label is None or by_label(one.labels))
        and by_field({**one.fields, "metadata.name": one.name, "metadata.namespace": one.namespace})
    )
