"""Serving requests in batches: one lane for each domain and family, one plan for each pool."""

from __future__ import annotations

import copy
import os
import threading
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from podnet.engine import registry
from podnet.engine.combining import Combiner
from podnet.engine.lanes import Lane, Plan
from podnet.engine.turns import Turn
from podnet.errors import PodnetError, StoreError, TryAgainLaterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from podnet.engine.requests import Request
    from podnet.model.pool import Pool
    from podnet.ports import Picker, Store

DEFAULT_PICKER = "longest-free"
_PAUSE_MOST = 0.05
_PLANS = 256
# Attempts made in the store's queue after one was lost: long enough to be there when all the
# others are, and not for ever.
_CONTENDED = 64


class Serving:
    """Decides requests over a store, those of several threads together. Threads may share it.

    Attributes:
        store: where the blocks are; may be replaced by one that refuses.
        clock: seconds since the epoch.
        node: name of this node.
        sleep: waits.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float],
        node: str,
        picker: Picker | None,
        attempts: int,
        jitter: Callable[[], float] | None,
        sleep: Callable[[float], None],
    ) -> None:
        """See ``podnet.engine.leases.Ipam``."""
        self.store = store
        self.clock = clock
        self.node = node
        self.sleep = sleep
        self._picker = picker
        self._attempts = attempts
        self._jitter = jitter or _random
        self._turn: type[Turn] = getattr(store, "turn", Turn)
        self._lock = threading.Lock()
        self._lanes: dict[tuple[str, int], tuple[Lane, Combiner[Request]]] = {}
        self._plans: dict[int, Plan] = {}
        self._known_plans: dict[Pool, Plan] = {}

    def run(self, domain: str, version: int, request: Request) -> None:
        """Have a request served, and raise what it was refused with."""
        lane = self._lanes.get((domain, version)) or self._new_lane(domain, version)
        lane[1].run(request)
        if request.error is None and request.settled:
            return
        error = request.error or StoreError(f"cannot {request.what}: interrupted")
        # Several threads may have been refused with one error: each raises its own.
        raise copy.copy(error) if isinstance(error, PodnetError) else error

    def _new_lane(self, domain: str, version: int) -> tuple[Lane, Combiner[Request]]:
        with self._lock:
            lane = Lane(domain, version)
            return self._lanes.setdefault(
                (domain, version), (lane, Combiner(partial(self._serve, lane)))
            )

    def _serve(self, lane: Lane, requests: list[Request]) -> None:
        rest = requests
        try:
            for attempt in range(self._attempts):
                with self._in_line(lane, attempt):
                    turn = self._turn(self.store, lane, node=self.node, now=self.clock())
                    rest = turn.run(rest)
                if not rest:
                    return
                lane.contended = _CONTENDED
            for request in rest:
                request.refuse(
                    TryAgainLaterError(
                        f"cannot {request.what}: others won {self._attempts} times in a row"
                    )
                )
        except BaseException as failure:
            lane.reset()  # it may tell what was decided, and never swapped
            for request in requests:
                if not request.settled:
                    request.refuse(
                        StoreError(f"cannot {request.what}: interrupted by {failure!r}"),
                        unknown=True,
                    )
            raise

    def _in_line(self, lane: Lane, attempt: int) -> AbstractContextManager[None]:
        """Wait before an attempt: in the store's queue where others want the same, or a while."""
        queue: Callable[[str], AbstractContextManager[None]] | None = None
        if lane.contended:
            lane.contended -= 1
            queue = getattr(self.store, "queue", None)
        if queue is not None:
            return queue(lane.prefix)
        if attempt > 1:
            self.sleep(self._jitter() * min(_PAUSE_MOST, 0.001 * attempt))
        return nullcontext()

    def plan(self, pool: Pool) -> Plan:
        """Return what there is to know of a pool before any block is read.

        Raises:
            InvalidConfigError: it cannot hold an address, or its picker is unknown.
        """
        plan = self._plans.get(id(pool))
        if plan is not None and plan.pool is pool:
            return plan
        with self._lock:
            plan = self._known_plans.get(pool)
        if plan is None:
            picker = self._picker
            if pool.picker or picker is None:
                picker = registry.open_picker(pool.picker or DEFAULT_PICKER)
            plan = Plan.of(pool, picker)
            key = pool.domain, pool.network.version
            lane = (self._lanes.get(key) or self._new_lane(*key))[0]
            with self._lock:
                lane.serve(plan)
                if len(self._known_plans) >= _PLANS:
                    self._known_plans.clear()
                    self._plans.clear()
                self._known_plans[pool] = plan
        if plan.pool is pool:
            self._plans[id(pool)] = plan
        return plan


def _random() -> float:
    # Importing random costs 2 ms, in a process that lives for 30 and seldom meets another.
    return int.from_bytes(os.urandom(2)) / 0xFFFF
