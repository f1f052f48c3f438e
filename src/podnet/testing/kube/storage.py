"""What the emulator keeps: objects as etcd has them, one version counter, and what happened."""

from __future__ import annotations

import bisect
import json
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.testing.kube.kinds import Kind

OBJECT_MOST = 1_572_864
"""etcd's limit of a request (``--max-request-bytes``), which bounds an object."""

_DECODED_KEPT = 256

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"


def encode(value: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@frozen(eq=False)
class Stored:
    """One version of one object.

    Attributes:
        namespace: empty for objects of the cluster.
        name: of the object.
        version: its resourceVersion.
        labels: its labels.
        fields: what field selectors can ask for.
        raw: the object as JSON.
        meta: its metadata as JSON.
        cells: values of the printer columns.
    """

    namespace: str
    name: str
    version: int
    labels: dict[str, str]
    fields: dict[str, str]
    raw: bytes
    meta: bytes
    cells: tuple[Any, ...]


@frozen(eq=False)
class Event:
    """One change: its type, the object after it, and before it (None for a new one)."""

    type: str
    new: Stored
    old: Stored | None


@define
class _Collection:
    objects: dict[tuple[str, str], Stored]
    order: list[tuple[str, str]]
    events: deque[Event]
    compacted: int = 0


class Storage:
    """All objects, guarded by ``lock``; ``changed`` is notified of every change."""

    def __init__(self, *, history: int = 2000, history_bytes: int = 64 << 20) -> None:
        """Start empty.

        Args:
            history: changes that are kept of each resource, for watches from an earlier version.
            history_bytes: bound on the size of the objects among them.
        """
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1
        self.history = history
        self._history_bytes = history_bytes
        self._collections: dict[str, _Collection] = {}
        self._decoded: OrderedDict[int, tuple[Stored, dict[str, Any]]] = OrderedDict()
        self._frozen: dict[str, tuple[int, list[Stored]]] | None = None

    def _of(self, resource: str) -> _Collection:
        return self._collections.setdefault(resource, _Collection({}, [], deque()))

    def find(self, resource: str, namespace: str, name: str) -> Stored | None:
        """Return an object, or None."""
        return self._of(resource).objects.get((namespace, name))

    def select(self, resource: str, namespace: str | None) -> list[Stored]:
        """Return the objects in order of namespace and name; of one namespace unless None."""
        found = self._of(resource)
        keys: Iterable[tuple[str, str]] = found.order
        if namespace is not None:
            start = bisect.bisect_left(found.order, (namespace, ""))
            end = bisect.bisect_left(found.order, (namespace + "\0", ""))
            keys = found.order[start:end]
        return [found.objects[key] for key in keys]

    def stale(self, resource: str, namespace: str | None) -> tuple[int, list[Stored]]:
        """Return version and objects as a watch cache that is behind would give them."""
        if self._frozen is None:
            return self.version, self.select(resource, namespace)
        version, found = self._frozen.get(resource, (1, []))
        return version, [one for one in found if namespace in (None, one.namespace)]

    def freeze(self, *, frozen: bool) -> None:
        """Have reads at ``resourceVersion=0`` see what is there now, until told otherwise."""
        with self.lock:
            self._frozen = None
            if frozen:
                self._frozen = {
                    resource: (self.version, self.select(resource, None))
                    for resource in self._collections
                }

    def document(self, stored: Stored) -> dict[str, Any]:
        """Return an object as JSON values, which must not be changed."""
        entry = self._decoded.get(id(stored))
        if entry is None or entry[0] is not stored:
            entry = (stored, json.loads(stored.raw))
            self._keep(*entry)
        return entry[1]

    def _keep(self, stored: Stored, document: dict[str, Any]) -> None:
        self._decoded[id(stored)] = (stored, document)
        if len(self._decoded) > _DECODED_KEPT:
            self._decoded.popitem(last=False)

    def make(self, kind: Kind, document: dict[str, Any]) -> tuple[Stored, dict[str, Any]]:
        """Return what would be stored of a document at the next version; nothing changes."""
        meta = {**document["metadata"], "resourceVersion": str(self.version + 1)}
        document = {**document, "metadata": meta}
        stored = Stored(
            meta.get("namespace", ""),
            meta["name"],
            self.version + 1,
            meta.get("labels") or {},
            {path: _at(document, path) for path in kind.fields},
            encode(document),
            encode(meta),
            tuple(_cell(document, column.path, column.type) for column in kind.columns),
        )
        return stored, document

    def put(self, kind: Kind, stored: Stored, document: dict[str, Any]) -> None:
        """Store what ``make`` returned, under the lock that was held since."""
        found = self._of(kind.resource)
        key = (stored.namespace, stored.name)
        old = found.objects.get(key)
        if old is None:
            bisect.insort(found.order, key)
        else:
            self._decoded.pop(id(old), None)
        self.version = stored.version
        found.objects[key] = stored
        self._keep(stored, document)
        self._tell(found, Event(MODIFIED if old else ADDED, stored, old))

    def remove(self, kind: Kind, old: Stored) -> Stored:
        """Delete an object; return its last state, at the version of its deletion."""
        found = self._of(kind.resource)
        document = self.document(old)
        last, _ = self.make(kind, document)
        key = (old.namespace, old.name)
        del found.objects[key]
        del found.order[bisect.bisect_left(found.order, key)]
        self._decoded.pop(id(old), None)
        self.version = last.version
        self._tell(found, Event(DELETED, last, old))
        return last

    def clear(self, namespace: str) -> None:
        """Delete what is in a namespace, as it goes with it; finalizers are not waited for."""
        for found in self._collections.values():
            for key in [key for key in found.order if key[0] == namespace]:
                old = found.objects.pop(key)
                found.order.remove(key)
                self.version += 1
                meta = {**json.loads(old.meta), "resourceVersion": str(self.version)}
                raw = encode({**json.loads(old.raw), "metadata": meta})
                last = evolve(old, version=self.version, raw=raw, meta=encode(meta))
                self._tell(found, Event(DELETED, last, old))

    def _tell(self, found: _Collection, event: Event) -> None:
        found.events.append(event)
        size = len(found.events)
        room = max(16, self._history_bytes // max(1, len(event.new.raw)))
        while size > min(self.history, room):
            found.compacted = found.events.popleft().new.version
            size -= 1
        self.changed.notify_all()

    def compact(self) -> None:
        """Forget all history: every watch and list that refers to it gets 410."""
        with self.lock:
            for found in self._collections.values():
                found.events.clear()
                found.compacted = self.version

    def since(self, resource: str, version: int) -> list[Event] | None:
        """Return the changes after a version; None if they are no longer known."""
        found = self._of(resource)
        if version < found.compacted:
            return None
        events = []
        for event in reversed(found.events):
            if event.new.version <= version:
                break
            events.append(event)
        return events[::-1]


def _at(document: Any, path: str) -> str:
    """Return what a path such as ``spec.nodeName`` leads to, as text."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return "" if document is None else str(document)


def _cell(document: Any, path: str, kind: str) -> Any:
    for name in path.strip(".").split("."):
        document = document.get(name) if isinstance(document, dict) else None
    if kind == "date" and isinstance(document, str):
        return age(document)
    return document


def age(when: str) -> str:
    """Return how long ago a time of ``metadata`` was, as ``kubectl`` shows it."""
    import calendar

    then = calendar.timegm(time.strptime(when, "%Y-%m-%dT%H:%M:%SZ"))
    seconds = max(0, int(time.time()) - then)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
