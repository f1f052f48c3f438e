"""Reserving addresses in a store, for all nodes at once, and giving them back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.errors import InvalidConfigError, TryAgainLaterError
from podnet.ipam import reserve as reserving
from podnet.model.block import BLOCK_BITS, Block, block_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.model.addresses import Span
    from podnet.model.lease import Lease
    from podnet.ports import Store

MOST = 1 << 16
"""Addresses that may be reserved one by one; more are an exclude of the pool, or a setting."""

_ATTEMPTS = 100
_PAUSE = 0.1


@frozen
class Reserved:
    """What became of the addresses.

    Attributes:
        made: the reservations that are new.
        held: leases that are in the way; their addresses are not reserved.
    """

    made: tuple[Lease, ...]
    held: tuple[Lease, ...]


def reserve(
    store: Store,
    domain: str,
    span: Span,
    reason: str,
    *,
    length: int,
    patience: float = 10.0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Reserved:
    """Keep addresses of a domain for other uses; what is reserved already stays so.

    Args:
        store: where.
        domain: collision domain of the addresses.
        span: which.
        reason: told to whoever asks.
        length: prefix length for the leases.
        patience: seconds to wait for a node that has a block for itself to give it back.
        clock: seconds since the epoch.
        sleep: waits.

    Raises:
        InvalidConfigError: they are too many to be kept one by one.
        TryAgainLaterError: others won every attempt, or a node does not give back a block; what is
            reserved by then stays.
        StoreError: the store is broken.
    """
    made: list[Lease] = []
    held: list[Lease] = []
    for key, empty in _blocks(domain, span):
        waited, attempts = 0.0, 0
        while attempts < _ATTEMPTS:
            entry = store.load(key)
            block, version = entry or (empty, None)
            if block.holder and waited < patience:
                _recall(store, key, block, version)
                sleep(_PAUSE)
                waited += _PAUSE
                continue
            if block.holder:
                raise TryAgainLaterError(f"node {block.holder} does not give back block {key}")
            attempts += 1
            new, fresh, others = reserving.reserve(block, span, reason, length=length, now=clock())
            if new is block or store.swap(key, new, version):
                made += fresh
                held += others
                break
        else:
            raise TryAgainLaterError(f"block {key} changes faster than it can be written")
    return Reserved(tuple(made), tuple(held))


def free(
    store: Store,
    domain: str,
    span: Span,
    reason: str | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> tuple[Lease, ...]:
    """Give reserved addresses of a domain back; what is not reserved stays as it is.

    Args:
        store: where.
        domain: collision domain of the addresses.
        span: which.
        reason: only those that are reserved for it; None for any.
        clock: seconds since the epoch.

    Raises:
        InvalidConfigError: they are too many to have been reserved.
        TryAgainLaterError: others won every attempt.
        StoreError: the store is broken.
    """
    given: list[Lease] = []
    for key, _ in _blocks(domain, span):
        for _ in range(_ATTEMPTS):
            entry = store.load(key)
            new, gone = reserving.free(entry[0], span, reason, now=clock()) if entry else (None, ())
            if entry is None or not gone or store.swap(key, new, entry[1]):
                given += gone
                break
        else:
            raise TryAgainLaterError(f"block {key} changes faster than it can be written")
    return tuple(given)


def _blocks(domain: str, span: Span) -> Iterator[tuple[str, Block]]:
    if span.last - span.first >= MOST:
        raise InvalidConfigError(
            f"{span} are more than {MOST} addresses",
            (("reserved", "of podnet.conf or of the pool takes networks of any size"),),
        )
    for index in range(span.first >> BLOCK_BITS, (span.last >> BLOCK_BITS) + 1):
        empty = Block(domain=domain, version=span.version, index=index)
        yield block_key(domain, span.version, index), empty


def _recall(store: Store, key: str, block: Block, version: str | None) -> None:
    if not block.recalled:
        store.swap(key, evolve(block, recalled=True), version)
