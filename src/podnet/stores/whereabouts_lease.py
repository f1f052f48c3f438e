"""The Lease that whereabouts holds while it changes a pool and a reservation.

It is client-go's leader election: who finds the Lease without a holder, or unchanged for as long
as its holder asked for, writes its own name into it. Only with it is it certain that nobody takes
an address out of another pool between reading that pool and writing one's own.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from podnet.cluster.answers import (
    ConflictError,
    ExistsError,
    InvalidObjectError,
    MissingError,
    UnknownOutcomeError,
    UnreachableError,
)
from podnet.cluster.pauses import Pauses
from podnet.cluster.resource import LEASES
from podnet.errors import PodnetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.cluster.door import Cluster

Document = dict[str, Any]

DURATION = 15
"""Seconds for which others believe in a holder that is not heard of; client-go's own default.
Nobody waits for it unless a process dies while it holds the Lease."""

REQUEST_MOST = 7.0
"""Seconds that one request may take: a renewal and the write after it end before it has run out."""

_RENEW_AFTER = 3.0
_RENEW_MOST = 3.0
_MARGIN = 1.0
"""whereabouts tells its 1.5 s as 1 s, and goes on for a while when it has lost the Lease."""
_POLL = 0.1


class LeaseLostError(UnreachableError):
    """Somebody else took the Lease over; what was to be done with it must not be done (11)."""


class Leader:
    """Takes one Lease, again and again. Only one thread at a time may use it."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, *, node: str = "") -> None:
        """Prepare; nothing is asked yet.

        Args:
            cluster: where.
            namespace: of the Lease.
            name: of the Lease.
            node: told in the Lease to people.
        """
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._node = node or os.uname().nodename
        self._left: Document | None = None
        self._held: Leading | None = None

    @contextmanager
    def leading(self, patience: float) -> Iterator[Leading]:
        """Hold the Lease; who holds it already goes on holding it.

        Args:
            patience: seconds to wait for other holders.

        Raises:
            UnreachableError: others held it for the whole patience.
            StoreError: the API server cannot be reached or refuses.
        """
        if self._held is not None:
            yield self._held
            return
        # Never "namespace/pod", as whereabouts calls itself: two of one name would both lead.
        identity = f"podnet:{self._node}:{os.getpid()}:{os.urandom(6).hex()}"
        self._held = held = self._acquire(identity, time.monotonic() + patience)
        try:
            yield held
        finally:
            self._held = None
            self._left = self._release(held)

    def _acquire(self, identity: str, ends: float) -> Leading:
        seen: tuple[object, float] = (None, 0.0)
        pauses, refused = Pauses(ends), ""
        # As this process left it, it may still be: that saves a question.
        found, self._left = self._left, None
        while True:
            remembered = found is not None
            if found is None:
                found = self._cluster.get(LEASES, self._name, self._namespace)
            now = time.monotonic()
            spec = {} if found is None else found.get("spec") or {}
            if spec != seen[0]:
                seen = spec, now
            holder = spec.get("holderIdentity") or ""
            lasting = float(spec.get("leaseDurationSeconds") or 0)
            if holder in ("", identity) or now - seen[1] > lasting + _MARGIN:
                try:
                    return Leading(self, identity, self._put(identity, found), now)
                except (ExistsError, ConflictError):
                    pass  # somebody else was faster
                except UnknownOutcomeError as error:
                    # The next look tells: nobody else has this identity.
                    if not pauses.again(error.again_after):
                        raise
                except (MissingError, InvalidObjectError):
                    # It was deleted or changed meanwhile, or else it will be refused again.
                    if found is None or refused == found["metadata"]["resourceVersion"]:
                        raise
                    refused = found["metadata"]["resourceVersion"]
            if now > ends:
                raise UnreachableError(
                    f"the Lease {self._namespace}/{self._name} is held by {holder or 'others'}",
                    f"since {spec.get('acquireTime')}, renewed at {spec.get('renewTime')}",
                )
            if not remembered:
                time.sleep(_POLL * (0.5 + random.random()))  # noqa: S311 - spreads the pollers
            found = None

    def _put(self, identity: str, found: Document | None) -> Document:
        """Write the identity into the Lease as it was found; return it as it is then."""
        spec = {} if found is None else found.get("spec") or {}
        now = _now()
        mine = spec.get("holderIdentity") == identity
        wanted = {
            **spec,
            "holderIdentity": identity,
            "leaseDurationSeconds": DURATION,
            "acquireTime": spec.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (not mine),
        }
        if found is None:
            meta = {"name": self._name}
            return self._cluster.create(LEASES, {"metadata": meta, "spec": wanted}, self._namespace)
        return self._cluster.replace(LEASES, {**found, "spec": wanted})

    def renew(self, held: Leading) -> None:
        """Tell that the holder is alive.

        Raises:
            LeaseLostError: it is another's.
            StoreError: the API server cannot be reached or refuses.
        """
        pauses = Pauses(time.monotonic() + _RENEW_MOST)
        while True:
            before, after = held.document["spec"].get("renewTime"), 0.0
            try:
                held.document = self._put(held.identity, held.document)
            except (ConflictError, MissingError):
                self._look(held)
            except UnknownOutcomeError as error:
                self._look(held)
                if held.document["spec"].get("renewTime") != before:
                    return
                after = error.again_after
            else:
                return
            if not pauses.again(after):
                raise UnreachableError(f"cannot renew the Lease {self._namespace}/{self._name}")

    def _look(self, held: Leading) -> None:
        """Read a held Lease anew.

        Raises:
            LeaseLostError: it is another's.
        """
        found = self._cluster.get(LEASES, self._name, self._namespace)
        if found is None or (found.get("spec") or {}).get("holderIdentity") != held.identity:
            raise LeaseLostError(f"the Lease {self._namespace}/{self._name} was taken over")
        held.document = found

    def _release(self, held: Leading) -> Document | None:
        """Give it up; where that fails, others wait until it has run out."""
        try:
            try:
                return self._cluster.replace(LEASES, _without_holder(held.document))
            except (ConflictError, UnknownOutcomeError):
                self._look(held)
                return self._cluster.replace(LEASES, _without_holder(held.document))
        except PodnetError:
            return None


class Leading:
    """A Lease while it is held.

    Attributes:
        identity: of the holder.
        document: the Lease as it was seen last.
    """

    def __init__(self, leader: Leader, identity: str, document: Document, since: float) -> None:
        self._leader = leader
        # Of the time before the request: the record counts from when it was written.
        self._renewed = since
        self.identity = identity
        self.document = document

    def keep(self) -> None:
        """Make sure that it lasts for one more request; to be called before each write.

        Raises:
            LeaseLostError: it is another's.
            StoreError: the API server cannot be reached or refuses.
        """
        now = time.monotonic()
        if now - self._renewed > _RENEW_AFTER:
            self._leader.renew(self)
            self._renewed = now


def _without_holder(document: Document) -> Document:
    now = _now()
    spec = {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": document["spec"].get("leaseTransitions", 0),
    }
    return {**document, "spec": spec}


def _now() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
