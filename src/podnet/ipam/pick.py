"""Strategies for taking one of the free addresses (the Picker seam)."""

from __future__ import annotations

from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.ipam import space
from podnet.model.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podnet.model.lease import Owner
    from podnet.model.pool import Pool
    from podnet.ports import FreeAddresses

# A pool of more blocks than this has room to wait: an address that rested is taken before a new
# block is begun, because blocks are kept for good.
_MANY_BLOCKS = 64
_RESTED = 60.0
# So many addresses are compared before the one released longest ago among them is taken.
_COMPARED = 4096


@frozen(kw_only=True)
class Ask:
    """What a picker may consider.

    Attributes:
        pool: where the address is handed out from.
        owner: who asks.
        node: node that asks; empty if unknown.
        requested: the one address the owner wants, or None.
        last: the address handed out of the pool last, or None if that is not known.
        freed: numbers of free addresses to the time of their release, in seconds since the epoch,
            as far as their blocks are known.
        now: seconds since the epoch.
        blocks: how many blocks of the pool are known to exist.
    """

    pool: Pool
    owner: Owner
    node: str = ""
    requested: Address | None = None
    last: Address | None = None
    freed: Mapping[int, float] = field(default=MappingProxyType({}))
    now: float = 0.0
    blocks: int = 0


class Lowest:
    """Takes the lowest free address, as whereabouts does."""

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:  # noqa: ARG002 - the seam's words
        """Return the lowest number of ``free``, or None if there is none."""
        return _first(free)


class Requested:
    """Takes the address that was asked for, or none."""

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:
        """Return ``ask.requested`` if it is free."""
        if ask.requested is None:
            return None
        wanted = ask.requested.value
        return wanted if _first(free.after(wanted)) == wanted else None


class RoundRobin:
    """Takes the next free address after the one handed out last, as host-local does."""

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:
        """Return the next number, going round at the end."""
        if ask.last is None or ask.last not in ask.pool.network:
            return _first(free)
        return _around(free, ask.last.value + 1)


class LongestFree:
    """Takes what was never held, or else what was released longest ago.

    Peers on the link then have the longest time to forget whom an address belonged to (ARP caches,
    BGP). In pools of many blocks an address that rested a minute comes before a new block, and of
    very many rested ones the oldest of the first few thousand is taken.
    """

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:
        """Return a number that nobody had, or the one that was released first."""
        if ask.blocks > _MANY_BLOCKS:
            value = _oldest(free.known(), ask.freed)
            if value is not None and ask.freed.get(value, 0.0) <= ask.now - _RESTED:
                return value
        return _oldest(free, ask.freed)


class Spread:
    """Takes a free address at a place that the container decides: neighbours seldom collide."""

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:
        """Return the first free number from the owner's place on, going round at the end."""
        return _around(free, _place(ask, ask.owner.container_id, ask.owner.ifname))


class Sticky:
    """Takes a free address at a place that the pod's name decides: a successor finds it again.

    As long as nobody else came to sit there: a claim keeps an address for certain.
    """

    def pick(self, free: FreeAddresses, ask: Ask) -> int | None:
        """Return the first free number from the pod's place on, going round at the end."""
        owner = ask.owner
        name = (owner.pod_namespace, owner.pod_name) if owner.pod_name else (owner.container_id,)
        return _around(free, _place(ask, *name, owner.ifname))


def _first(free: Iterable[tuple[int, int]]) -> int | None:
    for low, _ in free:
        return low
    return None


def _around(free: FreeAddresses, start: int) -> int | None:
    value = _first(free.after(start))
    return _first(free) if value is None else value


def _oldest(free: Iterable[tuple[int, int]], freed: Mapping[int, float]) -> int | None:
    best, since = None, float("inf")
    for compared, value in enumerate(_values(free)):
        when = freed.get(value)
        if when is None:
            return value
        if when < since:
            best, since = value, when
        if compared >= _COMPARED:
            break
    return best


def _values(free: Iterable[tuple[int, int]]) -> Iterator[int]:
    for low, high in free:
        yield from range(low, high + 1)


def _place(ask: Ask, *texts: str) -> int:
    """Return a number of the pool's range, evenly spread over it, that the texts decide."""
    low, high = space.bounds(ask.pool)
    digest = blake2b(b"\0".join(text.encode("utf-8", "surrogatepass") for text in texts))
    return low + int.from_bytes(digest.digest()) % (high - low + 1)
