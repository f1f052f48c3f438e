"""Address management on a node that holds blocks, and what it does in the background."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from podnet import disk
from podnet.engine import registry
from podnet.engine.leases import Ipam
from podnet.engine.migration_follow import follow
from podnet.engine.owning import Owning
from podnet.errors import DeadlineError, InvalidConfigError, PodnetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.engine.owning import Manner
    from podnet.ipam.owned import Conflict
    from podnet.ports import Picker, Store

TICK = 1.0
"""Seconds between two ticks."""

_RESIDENT = ".resident"


class OwnedIpam(Ipam):
    """Hands out addresses, of large pools out of blocks that this node holds.

    ``tick`` has to be called about every second, by a thread of ``in_background`` or otherwise:
    other nodes ask for blocks, and wait.
    """

    def __init__(
        self,
        store: Owning,
        *,
        clock: Callable[[], float] = time.time,
        picker: Picker | None = None,
        attempts: int = 200,
        patience: float = 10.0,
        jitter: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """Use a store of two tiers; closing this closes it. The rest is as for ``Ipam``."""
        super().__init__(
            store,
            clock=clock,
            node=store.node,
            picker=picker,
            attempts=attempts,
            patience=patience,
            jitter=jitter,
            sleep=sleep,
            monotonic=monotonic,
        )
        self._owning = store
        self._keeper: _Keeper | None = None

    def in_background(self, every: float = TICK) -> None:
        """Start a thread that calls ``tick`` until the close.

        Args:
            every: seconds between two calls.
        """
        if self._keeper is None:
            self._keeper = _Keeper(self.tick, every)

    def close(self) -> None:
        """Tell the shared store what is left to be told, and close both; see ``Owning.close``."""
        if self._keeper is not None:
            self._keeper.stop()
        super().close()

    def tick(self) -> None:
        """Do what is due: tell, look, give back.

        Raises:
            PodnetError: what went wrong with some blocks; the next tick tries again.
        """
        self._owning.tick()

    def publish(self) -> None:
        """Tell the shared store everything now.

        Raises:
            PodnetError: as ``tick``.
        """
        self._owning.publish()

    def drain(self) -> None:
        """Give all blocks back, with the leases in them: this node goes away for long.

        Raises:
            PodnetError: as ``tick``.
        """
        self._owning.drain()

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Leases of blocks that were taken from this node by force, the last thousand."""
        return self._owning.conflicts

    @property
    def trouble(self) -> PodnetError | None:
        """What the last tick in the background failed with; None if it did not."""
        return None if self._keeper is None else self._keeper.trouble


class _Keeper:
    """A thread that calls something again and again."""

    def __init__(self, tick: Callable[[], object], every: float) -> None:
        self.trouble: PodnetError | None = None
        self._tick = tick
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="podnet-owned", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(self._every):
            try:
                self._tick()
            except PodnetError as error:
                # The stores are as they were, or are brought to order by the next look.
                self.trouble = error
            else:
                self.trouble = None

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


def local_folder(folder: str, url: str) -> str:
    """Return the folder of a node's own store for the shared one of that URL.

    The same keys mean other blocks in another shared store.
    """
    digest = hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return os.path.join(folder, digest)


def two_tiers(
    shared: Store,
    url: str,
    folder: str,
    *,
    node: str,
    resident: bool,
    clock: Callable[[], float] = time.time,
    manner: Manner | None = None,
) -> Owning:
    """Put the node's own store before a shared one.

    Args:
        shared: the shared one.
        url: its URL.
        folder: where the node's own stores are, for all its processes.
        node: its name.
        resident: this process stays.
        clock: seconds since the epoch.
        manner: times.

    Raises:
        InvalidConfigError: the node has no name, or the shared store is another program's, too.
        StoreError: the node's own store cannot be opened.
    """
    if url.partition(":")[0] in registry.SHARED_FORMATS:
        raise InvalidConfigError(
            f"blocks of store {url!r} cannot be held",
            (("store", "is one that other programs hand out of, and they know of no holders"),),
        )
    if not node:
        raise InvalidConfigError("only a node with a name can hold blocks", (("node", "is empty"),))
    own = local_folder(folder, url)
    local = registry.open_store(f"file:{own}")
    sign = _Sign(os.path.join(own, _RESIDENT))
    if resident:
        sign.put_up()
    return _Signed(
        shared,
        local,
        sign,
        node=node,
        resident=resident,
        clock=clock,
        manner=manner,
    )


class _Sign:
    """A locked file that says that a process of the node stays; the lock ends with the process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held = ExitStack()

    def put_up(self) -> None:
        with suppress(DeadlineError):  # somebody looks at it just now, for a moment
            self._held.enter_context(disk.Lock(self._path, shared=True, timeout=1.0))
        self.touch()

    def touch(self) -> None:
        with suppress(OSError):
            os.utime(self._path)

    def take_down(self) -> None:
        self.touch()
        self._held.close()

    def is_down_for(self, seconds: float) -> bool:
        """Tell whether nobody stays, and nobody has for that long."""
        try:
            old = abs(time.time() - os.stat(self._path).st_mtime) >= seconds
        except OSError:
            old = True
        if not old:
            return False
        try:
            with disk.Lock(self._path, timeout=0.0):
                return True
        except PodnetError:
            return False


class _Signed(Owning):
    """A store of two tiers whose process says that it stays, if it does."""

    def __init__(
        self,
        shared: Store,
        local: Store,
        sign: _Sign,
        *,
        node: str,
        resident: bool,
        clock: Callable[[], float],
        manner: Manner | None,
    ) -> None:
        super().__init__(
            shared,
            local,
            node=node,
            resident=resident,
            clock=clock,
            manner=manner,
            abandoned=lambda: sign.is_down_for(self.manner.idle_after),
        )
        self._sign = sign

    def tick(self) -> None:
        self._sign.touch()
        super().tick()

    def close(self) -> None:
        super().close()
        if self.resident:
            self._sign.take_down()


def open_owned(
    url: str,
    folder: str,
    *,
    node: str,
    picker: Picker | None = None,
    clock: Callable[[], float] = time.time,
    manner: Manner | None = None,
    background: bool = True,
) -> OwnedIpam:
    """Open a shared store and the node's own one before it; see ``podnet.open_ipam``."""
    shared = follow(url)
    try:
        store = two_tiers(shared, url, folder, node=node, resident=True, clock=clock, manner=manner)
    except BaseException:
        shared.close()
        raise
    ipam = OwnedIpam(store, clock=clock, picker=picker)
    if background:
        ipam.in_background()
    return ipam
