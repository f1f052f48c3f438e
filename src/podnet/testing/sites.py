"""Nodes as the simulation has them: a name, stores behind a gate, a clock; and what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from attrs import define, field, frozen

from podnet.errors import StoreError
from podnet.testing.baton import current

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from podnet.model.addresses import Address, AddressLike
    from podnet.model.block import Block
    from podnet.model.lease import Lease, Owner
    from podnet.model.pool import Pool
    from podnet.ports import Seeker, Store

FINE = "fine"
"""The call is done and answered."""
REFUSED = "refused"
"""It is not done, and an error is told."""
BEATEN = "beaten"
"""A swap is not done, and is told that somebody else won."""
LOST = "lost"
"""A swap is done, and its answer is lost: an error is told."""
LATE = "late"
"""An error is told, and the swap is still under way: it is done some time, or never."""
TWICE = "twice"
"""A swap is done and answered, and comes a second time, later."""
FATES = (FINE, REFUSED, BEATEN, LOST, LATE, TWICE)


@frozen
class Request:
    """A call of a store that is about to be made."""

    store: str
    what: str
    key: str

    def __str__(self) -> str:
        return f"{self.what} {self.key!r} of {self.store}"


@frozen
class Stray:
    """A swap that is under way without anybody waiting for it."""

    store: Store
    key: str
    new: Block | None
    expected: str | None

    def arrive(self) -> bool:
        """Do the swap; return whether it won."""
        return self.store.swap(self.key, self.new, self.expected)


class Gate:
    """A store whose every call, made by a task, stops until it is told what becomes of it.

    Outside of tasks calls pass. Both what a call of ``load`` sees and what a swap does happens
    when the task goes on.
    """

    def __init__(self, name: str, store: Store, send: Callable[[Stray], object] | None) -> None:
        """Stand before a store.

        Args:
            name: of the store, for people.
            store: where calls go.
            send: takes the swaps that arrive later; None for a store that is no network away,
                where ``late`` is ``lost`` and ``twice`` is ``fine``.
        """
        self.name = name
        self.inner = store
        self._send = send
        if hasattr(store, "seek"):
            self.seek = self._seek

    def load(self, key: str) -> tuple[Block, str] | None:
        """Load, or fail."""
        self._read("load", key)
        return self.inner.load(key)

    def keys(self, prefix: str) -> Iterable[str]:
        """List, or fail."""
        self._read("keys", prefix)
        return list(self.inner.keys(prefix))

    def _seek(self, prefix: str, owner: Owner) -> Iterable[str]:
        self._read("seek", prefix)
        return list(cast("Seeker", self.inner).seek(prefix, owner))

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Swap, or whatever is told."""
        fate = self._ask("swap", key)
        if fate == REFUSED:
            raise StoreError(f"planned: swap of {key!r} refused")
        if fate == BEATEN:
            return False
        if fate in (LATE, TWICE) and self._send is not None:
            self._send(Stray(self.inner, key, new, expected))
            if fate == LATE:
                raise StoreError(f"planned: swap of {key!r} under way")
        won = self.inner.swap(key, new, expected)
        if fate in (LOST, LATE):
            raise StoreError(f"planned: answer to swap of {key!r} lost")
        return won

    def close(self) -> None:
        """Leave the store open: it is everybody's."""

    def _read(self, what: str, key: str) -> None:
        if self._ask(what, key) in (REFUSED, LOST, LATE):
            raise StoreError(f"planned: {what} of {key!r}")

    def _ask(self, what: str, key: str) -> object:
        task = current()
        return FINE if task is None else task.stop(Request(self.name, what, key))


@frozen(kw_only=True)
class Site:
    """What a node's software gets to work with.

    Attributes:
        name: of the node.
        shared: the store of all nodes.
        local: this node's own; what is in it outlives crashes.
        clock: seconds since the epoch, as this node believes.
        sleep: waits, so that others go on; no time passes but the simulation's.
    """

    name: str
    shared: Store
    local: Store
    clock: Callable[[], float]
    sleep: Callable[[float], None]


class Node(Protocol):
    """Address management on one node: ``podnet.Ipam``, or what is to take its place.

    A node may have two methods more. ``tick()``: does a portion of what happens in the
    background; called at any time, and often. ``crash()``: the process has died; takes away what
    is in this process's memory and would not be there after a crash.
    """

    def allocate(
        self,
        pool: Pool,
        owner: Owner,
        *,
        network: str = ...,
        requested: AddressLike | Address | None = ...,
    ) -> Lease:
        """As ``podnet.Ipam.allocate``."""
        ...

    def release(self, holder: Owner | Lease, *, pool: Pool | str | None = ...) -> tuple[Lease, ...]:
        """As ``podnet.Ipam.release``."""
        ...

    def sweep(self, network: str, valid: Collection[tuple[str, str]]) -> tuple[Lease, ...]:
        """As ``podnet.Ipam.sweep``."""
        ...

    def leases(self, pool: Pool | str | None = ...) -> Iterator[Lease]:
        """As ``podnet.Ipam.leases``."""
        ...


@define
class Clock:
    """A node's clock: the time of all, and how far it is off."""

    time: Callable[[], float]
    off: float = field(default=0.0)

    def __call__(self) -> float:
        """Return the node's time."""
        return self.time() + self.off
