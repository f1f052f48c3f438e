"""Whereabouts' Leases for the threads of one process, one after the other."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from podnet.cluster.answers import UnreachableError
from podnet.errors import PodnetError
from podnet.stores.whereabouts_lease import Leader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.cluster.door import Cluster
    from podnet.stores.whereabouts_lease import Leading


class Turns:
    """Who of a process leads: one thread, which may lead within what it leads."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = threading.RLock()
        self._leaders: dict[tuple[str, str], Leader] = {}

    @contextmanager
    def leading(
        self, cluster: Cluster, namespace: str, name: str, patience: float
    ) -> Iterator[Leading]:
        """Hold a Lease.

        Args:
            cluster: where.
            namespace: of the Lease.
            name: of the Lease.
            patience: seconds to wait, for other threads and other holders together.

        Raises:
            UnreachableError: others had it for the whole patience.
            StoreError: the API server cannot be reached or refuses.
        """
        ends = time.monotonic() + patience
        with self._timed(patience) as has:
            if not has:
                raise UnreachableError(
                    f"the Lease {namespace}/{name} is in use",
                    f"by other threads of this process, for {patience:g} s",
                )
            left = max(0.0, ends - time.monotonic())
            with self._leader(cluster, namespace, name).leading(left) as held:
                yield held

    @contextmanager
    def queued(
        self, cluster: Cluster, namespace: str, name: str, patience: float
    ) -> Iterator[None]:
        """Hold a Lease, or at least be the only thread that may, or do without after a while."""
        ends = time.monotonic() + patience
        with ExitStack() as stack:
            if stack.enter_context(self._timed(patience)):
                with suppress(PodnetError):
                    left = max(0.0, ends - time.monotonic())
                    leader = self._leader(cluster, namespace, name)
                    stack.enter_context(leader.leading(left))
            yield

    @contextmanager
    def _timed(self, seconds: float) -> Iterator[bool]:
        has = self._lock.acquire(timeout=seconds)
        try:
            yield has
        finally:
            if has:
                self._lock.release()

    def _leader(self, cluster: Cluster, namespace: str, name: str) -> Leader:
        """Return who takes a Lease; only for who has the lock."""
        key = (namespace, name)
        if key not in self._leaders:
            self._leaders[key] = Leader(cluster, namespace, name)
        return self._leaders[key]
