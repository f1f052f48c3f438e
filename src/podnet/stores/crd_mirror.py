"""The owners of all blocks, kept fresh in this process by a watch of the objects' metadata.

A resident process that seeks again and again would list thousands of objects each time. Its mirror
lists them once and then hears of every write, metadata only: about 6 KB for a full block where the
object has 150. What this process wrote itself is known at once; what others wrote, as soon as the
watch tells. While there is no watch the mirror says that it is not current, and the store lists.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from attrs import define

from podnet.cluster.answers import ExpiredError
from podnet.errors import PodnetError
from podnet.stores import crd_owners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.cluster.door import Change
    from podnet.stores.crd_form import Document

_LONGEST_PAUSE = 30.0


@define
class _Entry:
    """What is known of one object as it was listed or watched."""

    number: int
    key: str
    marks: bytes = b""
    version: str = ""


class Mirror:
    """Owner marks of all objects; begun once, ended by ``close``."""

    def __init__(
        self,
        listing: Callable[[], tuple[list[Document], str]],
        watch: Callable[[str], Iterator[Change]],
        key_of: Callable[[Document], str],
    ) -> None:
        """Take what it needs; ``begin`` fills it.

        Args:
            listing: returns the metadata of all objects and the version of the list.
            watch: yields changes after a version, with metadata.
            key_of: returns the key of the block whose object's metadata it is given.
        """
        self._listing = listing
        self._watch = watch
        self._key_of = key_of
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._by_number: list[_Entry | None] = []
        self._heads: Counter[str] = Counter()
        self._unsure: set[int] = set()
        self._index = crd_owners.Index()
        self._written: dict[str, tuple[str, str, bytes]] = {}
        self._current = threading.Event()
        self._ended = threading.Event()

    @property
    def current(self) -> bool:
        """Whether a watch is running that began where the last one ended."""
        return self._current.is_set()

    def begin(self) -> None:
        """List, and watch from then on in the background."""
        threading.Thread(target=self._run, name="podnet-ipblocks", daemon=True).start()

    def count(self, prefix: str) -> int:
        """Return how many blocks there are whose keys have the first part of a prefix."""
        head, slash, _ = prefix.partition("/")
        with self._lock:
            return self._heads[head] if slash else len(self._entries)

    def wait(self, seconds: float) -> bool:
        """Wait until it is current; tell whether it is."""
        return self._current.wait(seconds)

    def close(self) -> None:
        """Have the background end; the connection it reads from is closed by the store."""
        self._ended.set()
        self._current.clear()

    def seek(self, prefix: str, wanted: bytes) -> list[str]:
        """Return the keys under a prefix of blocks that may have one of an owner's marks."""
        with self._lock:
            numbers = self._index.blocks(wanted) | self._unsure
            found = {entry.key for n in numbers if (entry := self._by_number[n]) is not None}
            for key, _, marks in self._written.values():
                if crd_owners.has(marks, wanted):
                    found.add(key)
        return sorted(key for key in found if key.startswith(prefix))

    def wrote(self, name: str, key: str, version: str, marks: bytes) -> None:
        """Take in what this process wrote: it counts besides what the watch told.

        It counts until the watch tells the very version, because versions must not be compared.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.version != version:
                self._written[name] = (key, version, marks)

    def _run(self) -> None:
        pause = 0.0
        version = ""
        while not self._ended.wait(pause):
            try:
                if not version:
                    version = self._fill()
                changes = self._watch(version)
                pause = 0.0
                self._current.set()
                for change in changes:
                    version = self._take(change)
            except PodnetError as error:
                # The store lists meanwhile, and tells its caller what is wrong. From the last
                # version on, the mirror would be behind for a moment when it is current again.
                version = ""
                if not isinstance(error, ExpiredError):
                    pause = min(_LONGEST_PAUSE, 2 * pause or 0.2)
            finally:
                self._current.clear()

    def _fill(self) -> str:
        with self._lock:
            written = dict(self._written)
        found, version = self._listing()
        fresh = {str(meta["name"]): meta for meta in found}
        with self._lock:
            for name in self._entries.keys() - fresh.keys():
                self._drop(name)
            for name, meta in fresh.items():
                self._put(name, meta)
            for name, entry in written.items():
                # The list was asked for after these were written: it shows them or what followed.
                if self._written.get(name) == entry:
                    del self._written[name]
        return version

    def _take(self, change: Change) -> str:
        meta = change.object.get("metadata") or {}
        version = str(meta.get("resourceVersion"))
        if change.type == "BOOKMARK":
            return version
        name = str(meta.get("name"))
        with self._lock:
            if change.type == "DELETED":
                self._drop(name)
            else:
                self._put(name, meta)
            if name in self._written and self._written[name][1] == version:
                del self._written[name]
        return version

    def _put(self, name: str, meta: Document) -> None:
        marks = crd_owners.read(meta)
        entry = self._entries.get(name)
        if entry is None:
            entry = _Entry(len(self._by_number), self._key_of(meta))
            self._entries[name] = entry
            self._heads[entry.key.partition("/")[0]] += 1
            self._by_number.append(entry)
        entry.version = str(meta.get("resourceVersion"))
        if marks is None:
            self._unsure.add(entry.number)
            return
        self._unsure.discard(entry.number)
        self._index.replace(entry.number, entry.marks, marks)
        entry.marks = marks

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._index.replace(entry.number, entry.marks, b"")
            self._unsure.discard(entry.number)
            self._by_number[entry.number] = None
            self._heads[entry.key.partition("/")[0]] -= 1
