"""One swap of a block in an IPPool, and the reservations that go with it.

The pool is written first, and tested for its version: what it says is the truth. A write whose
reply was lost is repeated with the same token, which the pool keeps: it can take effect once at
most, and tells whether it did.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.cluster.answers import InvalidObjectError, UnknownOutcomeError, UnreachableError
from podnet.cluster.pauses import Pauses
from podnet.errors import StoreError
from podnet.stores.whereabouts_change import Change, plan
from podnet.stores.whereabouts_details import REMEMBERED, new_token
from podnet.stores.whereabouts_pool import MENDED
from podnet.stores.whereabouts_rivals import TakenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.ipam.whereabouts import PoolRef
    from podnet.model.block import Block
    from podnet.stores.whereabouts_lease import Leading
    from podnet.stores.whereabouts_pool import PoolObject
    from podnet.stores.whereabouts_pools import Pools
    from podnet.stores.whereabouts_rivals import Neighbours, Rivals

    Prepare = Callable[[PoolObject | None, Change], Change | None]

_UNDOS = 20


@frozen(eq=False)
class Target:
    """What a swap is about.

    Attributes:
        empty: the pool as it would be created.
        index: of the block.
        whole: whether the pool is there for this block alone, and goes with it.
    """

    empty: PoolObject
    index: int
    whole: bool

    @property
    def name(self) -> str:
        """Name of the pool."""
        return self.empty.name


@frozen(eq=False)
class Written:
    """What a swap did.

    Attributes:
        before: the pool before it; None if there was none.
        after: the pool after it; None if there is none.
        change: what is different.
    """

    before: PoolObject | None
    after: PoolObject | None
    change: Change


class Swap:
    """Replaces one block of one pool, once, in as many attempts as it takes."""

    def __init__(
        self, pools: Pools, target: Target, new: Block | None, expected: str | None
    ) -> None:
        """Prepare; ``expected`` is the block's tag, None for no block."""
        self._pools = pools
        self._target = target
        self._new = new
        self._expected = expected
        self._token = new_token()
        self._unsure: PoolObject | None = None
        self._open: PoolObject | None = None
        self._refused = ""
        self._planned: tuple[PoolObject | None, Change] | None = None

    def look(self) -> PoolObject | None:
        """Return the pool as it was seen last, if the block was the expected one then."""
        known = self._pools.known(self._target.name)
        if known is not None and known.tag(self._target.index) == self._expected:
            return known
        return self._pools.fresh(self._target.name)

    def change(self, pool: PoolObject | None) -> Change | None:
        """Return what is to be changed; None where others won already."""
        if (None if pool is None else pool.tag(self._target.index)) != self._expected:
            return None
        if self._planned is None or self._planned[0] is not pool:
            base = pool or self._target.empty
            self._planned = pool, plan(base, self._target.index, self._new, self._token)
        return self._planned[1]

    def run(self, pool: PoolObject | None, timeout: float, prepare: Prepare) -> Written | None:
        """Swap; return None, and nothing was changed, where others won.

        Args:
            pool: as it was seen.
            timeout: seconds to try for.
            prepare: called before each attempt with the pool and the change; returns the change to
                write, or None to be content with having lost.

        Raises:
            UnreachableError: nothing was changed, and the time is up.
            UnknownOutcomeError: what became of a write whose reply was lost cannot be known.
            StoreError: the API server refuses, or the pool has no room.
        """
        pauses = Pauses(time.monotonic() + timeout)
        written = None
        while True:
            if self._unsure is not None and written is not None and self._is_done(pool):
                return Written(written.before, pool, written.change)
            planned = self.change(pool)
            if planned is None:
                self._must_be_sure(pool)
                return None
            wanted = prepare(pool, planned)
            if wanted is None:
                self._must_be_sure(pool)
                return None
            base = pool or self._target.empty
            written = Written(pool, base, planned)
            try:
                sent = self._send(base, wanted)
            except UnknownOutcomeError as error:
                self._unsure, self._open = self._unsure or base, base
                if not pauses.again(error.again_after):
                    raise
            else:
                if sent is not None:
                    return Written(pool, sent[0], planned)
                if pauses.left <= 0:
                    kind = UnreachableError if self._unsure is None else UnknownOutcomeError
                    raise kind(f"cannot change IPPool {self._target.name!r}", "the time is up")
            pool = self._pools.fresh(self._target.name)

    def _send(self, pool: PoolObject, change: Change) -> tuple[PoolObject | None] | None:
        """Write once; return the pool as it is then, or None where others were faster."""
        try:
            if self._new is None and self._target.whole:
                return (None,) if self._pools.delete(pool) else None
            written = self._pools.write(pool, change)
        except InvalidObjectError:
            # A test that failed and a broken rule look alike; the former goes with a newer version.
            if self._refused == pool.version:
                raise
            self._refused = pool.version
            return None
        return None if written is None else (written,)

    def _is_done(self, pool: PoolObject | None) -> bool:
        return pool is not None and self._token in pool.tokens(self._target.index)

    def _must_be_sure(self, pool: PoolObject | None) -> None:
        """Let pass what is known not to have been done.

        Raises:
            UnknownOutcomeError: a write without a reply may have been done, and then overwritten,
                or may still be done.
        """
        base, what = self._unsure, f"no reply to a change of IPPool {self._target.name!r}"
        if base is None:
            return
        if self._open is not None and _version(pool) == _version(self._open):
            raise UnknownOutcomeError(what, "which may still be carried out")
        if pool is not None and self._new is not None and base.uid in ("", pool.uid):
            tokens, before = (each.tokens(self._target.index) for each in (pool, base))
            if len(tokens) < REMEMBERED or (before and before[0] in tokens):
                return
        raise UnknownOutcomeError(what, "which changed again since")


class LedSwap:
    """A swap by who holds the Lease, with the reservations that go with it."""

    def __init__(
        self, swap: Swap, target: Target, ref: PoolRef, rivals: Rivals, pools: Pools, now: float
    ) -> None:
        """Take the parts; ``now`` is in seconds since the epoch."""
        self._swap = swap
        self._target = target
        self._ref = ref
        self._rivals = rivals
        self._pools = pools
        self._now = now

    def run(self, held: Leading, timeout: float) -> bool:
        """Swap; tell whether it was done.

        Raises:
            StoreError: as ``Swap.run``; or a reservation could not be made, and then the pool is as
                it was before, unless that failed as well.
        """
        ref, rivals = self._ref, self._rivals

        def prepare(pool: PoolObject | None, change: Change) -> Change | None:
            if any(step.old is None for step in change.steps):
                around = rivals.around(ref, pool)
                if rivals.has_taken(ref, around, change.steps, held):
                    rivals.learn(ref, around, self._target.index)
                    return None
                change = self._mended(around, change, held)
            held.keep()
            return change

        written = self._swap.run(self._swap.look(), timeout, prepare)
        if written is None:
            return False
        try:
            rivals.reserve(ref, written.change.steps, held)
        except TakenError:
            self._undo(written)
            return False
        except StoreError as error:
            self._try_undo(written, error)
            raise
        rivals.free(ref, written.change.steps, held)
        return True

    def _mended(self, around: Neighbours, change: Change, held: Leading) -> Change:
        """Mend the pool's reservations if it is time to; it may fail, an ADD must not for it."""
        if not self._rivals.is_due(self._ref, around.own, self._now):
            return change
        try:
            whole = self._rivals.mend(self._ref, around, held)
        except StoreError:
            return change
        return change.also(MENDED, str(int(self._now))) if whole else change

    def _try_undo(self, written: Written, error: StoreError) -> None:
        try:
            self._undo(written)
        except StoreError as failure:
            error.add_note(f"entries may be left in IPPool {self._target.name!r}: {failure}")

    def _undo(self, written: Written) -> None:
        """Put the block back that was there, or, where others went on, take out what came."""
        index, before, after = self._target.index, written.before, written.after
        was_there = before is not None and before.tag(index) is not None
        old = before.block(self._ref.domain, index) if before and was_there else None
        for _ in range(_UNDOS):
            pool = self._pools.fresh(self._target.name)
            if pool is None or after is None:
                return
            if pool.tag(index) == after.tag(index):
                change = plan(pool, index, old, new_token())
            else:
                change = _without(pool, written.change)
            with suppress(InvalidObjectError):
                if not change.entries or self._pools.write(pool, change) is not None:
                    return
        raise UnreachableError(f"cannot change IPPool {self._target.name!r}", "others always won")


def _version(pool: PoolObject | None) -> tuple[str, str]:
    return ("", "") if pool is None else (pool.uid, pool.version)


def _without(pool: PoolObject, change: Change) -> Change:
    """Return what takes out of a pool what a change brought into it."""
    keys = [pool.key(step.address) for step in change.steps if step.old is None]
    return Change({key: None for key in keys if pool.entries.get(key) == change.entries[key]}, {})
