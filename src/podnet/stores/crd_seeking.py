"""Finding the blocks of an owner: by listing metadata, or from this process's mirror of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from podnet.stores import crd_names, crd_object, crd_owners
from podnet.stores.crd_mirror import Mirror

if TYPE_CHECKING:
    from podnet.cluster.door import Cluster
    from podnet.cluster.resource import Resource
    from podnet.model.lease import Owner
    from podnet.stores.crd_form import Document
    from podnet.stores.crd_object import Known

FEW_BLOCKS = 16
"""Up to this many blocks of a domain are listed at every look."""

_SEEKS_BEFORE_MIRROR = 3
_LASTING = ("claim:", "reserved:")

_Told = tuple[str, str, bytes | None]
"""Of one object: its version, its block's key, and its owners' marks if they can be relied on."""

_NOTHING: _Told = ("", "", None)


class Seeking:
    """What one process knows of the owners of leases."""

    def __init__(self, cluster: Cluster, blocks: Resource) -> None:
        """Know nothing yet.

        Args:
            cluster: where to look.
            blocks: resource that blocks are kept in.
        """
        self._cluster = cluster
        self._blocks = blocks
        self._lock = threading.Lock()
        self._seeks = 0
        self._tables: dict[str, dict[str, _Told]] = {}
        self.mirror: Mirror | None = None

    def seek(self, prefix: str, owner: Owner) -> list[str]:
        """Return the keys under a prefix of blocks that may have a lease of the owner."""
        wanted = crd_owners.marks(owner)
        mirror = self.mirror
        lasting = owner.container_id.startswith(_LASTING)
        mirrored = mirror is not None and not lasting and mirror.current
        if mirror is not None and mirrored and mirror.count(prefix) > FEW_BLOCKS:
            return mirror.seek(prefix, wanted)
        found = self._told(crd_names.selector(prefix))
        self._seeks += 1
        if mirror is None and self._seeks > _SEEKS_BEFORE_MIRROR and len(found) > FEW_BLOCKS:
            self._begin_mirror()
        return sorted(
            key
            for _, key, marks in found
            if key.startswith(prefix) and (marks is None or crd_owners.has(marks, wanted))
        )

    def wrote(self, name: str, known: Known) -> None:
        """Take in what this process wrote."""
        marks = b"".join(one.marks for one in known.kept.values())
        if self.mirror is not None:
            self.mirror.wrote(name, known.key, known.version, marks)
        for selector in ("", crd_names.selector(known.key)):
            # A thread that lists just now may put an older version in its place: it is not used.
            table = self._tables.get(selector)
            if table is not None:
                table[name] = (known.version, known.key, marks)

    def close(self) -> None:
        """End the mirror."""
        if self.mirror is not None:
            self.mirror.close()

    def _listed(self, selector: str = "") -> tuple[list[Document], str]:
        found = self._cluster.list_all(self._blocks, labels=selector, meta_only=True)
        return [one["metadata"] for one in found.items], found.version

    def _told(self, selector: str) -> list[_Told]:
        """Return what the metadata of the blocks selected tells, as it is now.

        What is known of the very versions that a table of names and versions shows is not read.
        """
        known = self._tables.get(selector)
        if known:
            rows = self._cluster.table(self._blocks, labels=selector)
            names = [(str(row.get("Name")), str(row.get("Version"))) for row in rows]
            if all(known.get(name, _NOTHING)[0] == version for name, version in names):
                return [known[name] for name, _ in names]
        found = {
            str(meta["name"]): (
                str(meta.get("resourceVersion")),
                _key_of(meta),
                crd_owners.read(meta),
            )
            for meta in self._listed(selector)[0]
        }
        if len(found) <= FEW_BLOCKS:
            self._tables[selector] = found
        else:
            self._tables.pop(selector, None)
        return list(found.values())

    def _begin_mirror(self) -> None:
        with self._lock:
            if self.mirror is not None:
                return
            self.mirror = Mirror(
                self._listed,
                lambda version: self._cluster.watch(self._blocks, version, meta_only=True),
                _key_of,
            )
        self.mirror.begin()


def _key_of(meta: Document) -> str:
    name = str(meta.get("name"))
    key = (meta.get("annotations") or {}).get(crd_object.KEY, "")
    if crd_names.object_name(key) != name:
        what = f"metadata.annotations[{crd_object.KEY}]: {key!r} is not its key"
        raise crd_object.damaged(name, what)
    return str(key)
