"""The store of ``kubernetes:``: an ``IPBlock`` object for each block.

A swap is one write: creating is POST, which only one can win; replacing is a merge patch that
names the object's UID and resourceVersion and tells only what changed; deleting has both as
preconditions. If a reply is lost, the object itself tells whether the write took effect: each
write leaves a random id in an annotation, with those of the last 31 before it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from podnet.cluster import resource
from podnet.cluster.answers import (
    ConflictError,
    ExistsError,
    InvalidObjectError,
    MissingError,
    RefusedError,
    UnknownOutcomeError,
)
from podnet.cluster.pauses import Pauses
from podnet.errors import StoreError
from podnet.manifests.resources import GROUP, KIND, PLURAL, VERSION
from podnet.stores import crd_names, crd_object
from podnet.stores.crd_memory import Memory
from podnet.stores.crd_object import Known, Next, Writes
from podnet.stores.crd_seeking import Seeking

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.cluster.door import Cluster
    from podnet.cluster.resource import Resource
    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.stores.crd_form import Document

BLOCKS = resource.custom(GROUP, VERSION, PLURAL, KIND, namespaced=False)


class CrdStore:
    """Blocks as ``IPBlock`` objects; threads may share it, and forked processes inherit it."""

    def __init__(
        self, cluster: Cluster, *, timeout: float = 10.0, blocks: Resource = BLOCKS
    ) -> None:
        """Use a connection, which is closed with the store.

        Args:
            cluster: the connection.
            timeout: seconds to find out whether a write whose reply was lost took effect.
            blocks: resource to keep blocks in, of the schema of IPBlock; tests on a cluster in
                use have one of their own.
        """
        self._cluster = cluster
        self._blocks = blocks
        self._timeout = timeout
        self._memory = self._new_memory()

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none.

        While nobody else writes a block, only its metadata is read.

        Raises:
            StoreError: the API server cannot be reached or refuses, or the object is damaged.
        """
        known = self._read(key)
        return None if known is None else (known.block, known.tag)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Raises:
            StoreError: the API server cannot be reached or refuses, or it could not be found out
                what became of a write whose reply was lost.
        """
        if new is None:
            return self._delete(key, expected)
        if expected is None:
            return self._write(key, crd_object.first(key, new), None)
        base = self._own.recall(key)
        if base is None or base.tag != expected:
            base = self._read(key)
            if base is None or base.tag != expected:
                return False
        return self._write(key, crd_object.change(base, new), base)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order, as they are now.

        Raises:
            StoreError: see ``load``; or an object has a name that is not its key's.
        """
        found = []
        for row in self._cluster.table(self._blocks, labels=crd_names.selector(prefix)):
            key = str(row.get("Key") or "")
            if crd_names.object_name(key) != row.get("Name"):
                raise crd_object.damaged(str(row.get("Name")), f"spec.key: {key!r} is not its key")
            if key.startswith(prefix):
                found.append(key)
        return sorted(found)

    def seek(self, prefix: str, owner: Owner) -> list[str]:
        """Return the keys under ``prefix`` of blocks that may have a lease of the owner.

        It lists metadata, and so sees every swap, while a domain has few blocks (16), for owners
        that are claims or reservations, and in a process that seeks for the first times. Else it
        asks this process's mirror: that knows the process's own swaps at once, and others' when
        the API server's watch tells them, milliseconds later. If its connection dies without a
        sign, others' swaps are missing until that is noticed, after 90 seconds at most.

        Raises:
            StoreError: see ``load``.
        """
        return self._own.seeking.seek(prefix, owner)

    def close(self) -> None:
        """Close the connection and end the mirror."""
        if self._memory.pid == os.getpid():
            self._memory.seeking.close()
        self._cluster.close()

    @property
    def _own(self) -> Memory:
        if self._memory.pid != os.getpid():
            self._memory = self._new_memory()
        return self._memory

    def _new_memory(self) -> Memory:
        return Memory(Seeking(self._cluster, self._blocks))

    def _read(self, key: str) -> Known | None:
        """Return the block as it is now."""
        own, name = self._own, crd_names.object_name(key)
        known = own.recall(key)
        if known is not None and known.calm:
            found = self._cluster.get(self._blocks, name, meta_only=True)
            if found is None:
                own.forget(key)
                return None
            if _is_at(found["metadata"], known):
                return known
        found = self._cluster.get(self._blocks, name)
        if found is None:
            own.forget(key)
            return None
        if known is not None and _is_at(found["metadata"], known):
            known.calm = True
            return known
        fresh = crd_object.decode(key, found, known)
        # A second look at what others change would be one too many each time.
        fresh.calm = known is None
        own.keep(fresh)
        return fresh

    def _write(self, key: str, planned: Next, base: Known | None) -> bool:
        """Create or patch an object; tell whether it was this write that was done."""
        name = crd_names.object_name(key)

        def send() -> Document:
            if base is None:
                return self._cluster.create(self._blocks, planned.body, strict=True, meta_only=True)
            return self._cluster.patch(
                self._blocks, name, planned.body, strict=True, meta_only=True
            )

        try:
            meta = self._sent(name, planned, base, send)
        except RefusedError as error:
            raise _refused(error) from error
        if meta is None:
            return False
        known = planned.wrote(meta)
        self._own.keep(known)
        self._own.seeking.wrote(name, known)
        return True

    def _sent(
        self, name: str, planned: Next, base: Known | None, send: Callable[[], Document]
    ) -> Document | None:
        """Write until it is known what became of it; return the metadata, or None if it lost."""
        pauses, lost = Pauses(time.monotonic() + self._timeout), False
        while True:
            try:
                found: Document = send()["metadata"]
            except UnknownOutcomeError as error:
                # The same write again: it holds for the expected version only, so that it can be
                # done once at most, however late the first one is carried out.
                if not pauses.again(error.again_after) and lost:
                    raise
                lost = True
                continue
            except (ConflictError, ExistsError, MissingError) as error:
                if base is None and isinstance(error, MissingError):
                    raise _unknown(name, error) if lost else error from None
                return self._resolved(name, planned, base, error) if lost else None
            except InvalidObjectError as error:
                if error.causes == ("metadata.uid",):
                    return None
                raise
            except StoreError as error:
                raise _unknown(name, error) if lost else error from None
            return found

    def _resolved(
        self, name: str, planned: Next, base: Known | None, error: RefusedError
    ) -> Document | None:
        """Find out whether a write whose reply was lost was done before its repetition lost."""
        try:
            found = self._cluster.get(self._blocks, name, meta_only=True)
        except StoreError as failure:
            raise _unknown(name, failure) from None
        meta: Document = found["metadata"] if found else {}
        writes = Writes.read(meta)
        if planned.id in writes.ids:
            if writes.ids[0] == planned.id and meta.get("generation") == planned.known.generation:
                return meta
            # Done, and others, people among them, wrote since: what it made is no longer there to
            # be remembered.
            return {**meta, "resourceVersion": ""}
        if base is not None and meta.get("uid") == base.uid:
            since = writes.count - base.writes.count
            if 0 < since <= crd_object.REMEMBERED:
                return None
        raise _unknown(name, error)

    def _delete(self, key: str, expected: str | None) -> bool:
        name = crd_names.object_name(key)
        if expected is None:
            return self._cluster.get(self._blocks, name, meta_only=True) is None
        version, _, uid = expected.partition(".")
        pauses, lost = Pauses(time.monotonic() + self._timeout), False
        while True:
            try:
                gone = self._cluster.delete(self._blocks, name, uid=uid, version=version)
            except UnknownOutcomeError as error:
                if not pauses.again(error.again_after) and lost:
                    raise
                lost = True
                continue
            except MissingError as error:
                if lost:  # by this or by another, that cannot be told
                    raise _unknown(name, error) from None
                return False
            except ConflictError as error:
                if lost and not self._is_there(name, uid):
                    raise _unknown(name, error) from None
                return False
            except StoreError as error:
                raise _unknown(name, error) if lost else error from None
            if gone.get("kind") == self._blocks.kind:
                finalizers = ", ".join(gone["metadata"].get("finalizers") or ())
                raise StoreError(f"{KIND} {name} waits for its finalizers: {finalizers}")
            self._own.forget(key)
            return True

    def _is_there(self, name: str, uid: str) -> bool:
        try:
            found = self._cluster.get(self._blocks, name, meta_only=True)
        except StoreError as error:
            raise _unknown(name, error) from None
        return found is not None and found["metadata"].get("uid") == uid


def _is_at(meta: Document, known: Known) -> bool:
    return (meta.get("resourceVersion"), meta.get("uid")) == (known.version, known.uid)


def _unknown(name: str, error: StoreError) -> UnknownOutcomeError:
    what = f"the reply to a write of {KIND} {name} was lost, and what became of it cannot be told"
    return UnknownOutcomeError(what, str(error))


def _refused(error: RefusedError) -> StoreError:
    """Return the error for a write that the API server does not take."""
    if error.status in (400, 422):
        hint = "the cluster's definition of it may be another podnet's; see `podnet ipam crds`"
        return StoreError(error.msg, f"{error.details}; {hint}")
    return error
