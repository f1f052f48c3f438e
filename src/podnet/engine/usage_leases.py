"""The leases of a store that fit a filter, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import PodnetError, StoreError, TryAgainLaterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.ipam.usage_filter import Filter
    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.ports import Store


Faults = list[tuple[str, PodnetError]]
"""What could not be read, with where."""


def read_block(store: Store, key: str, faults: Faults | None = None) -> Block | None:
    """Return a block, or None where there is none.

    Args:
        store: where.
        key: of the block.
        faults: a damaged block is told here, and passed over; None raises.

    Raises:
        StoreError: the store is broken, or the block and nobody asked for faults.
    """
    try:
        entry = store.load(key)
    except StoreError as error:
        if faults is None or isinstance(error, TryAgainLaterError):
            raise
        # Where keys are listed still, the store is there, and the block is what is broken.
        next(iter(store.keys("")), None)
        faults.append((key, error))
        return None
    return entry[0] if entry else None


def search(
    store: Store,
    wanted: Filter,
    progress: Callable[[int, int], None] | None = None,
    *,
    faults: Faults | None = None,
) -> Iterator[Lease]:
    """Yield leases in the order of domains and addresses; one block at a time is in memory.

    Args:
        store: where they are.
        wanted: which.
        progress: called before each block with how many were read, and how many there are.
        faults: blocks that cannot be read are told here, and passed over; None raises.

    Raises:
        StoreError: the store is broken.
    """
    keys = [key for key in store.keys(wanted.prefix) if wanted.may_be_at(key)]
    for n, key in enumerate(keys):
        if progress is not None:
            progress(n, len(keys))
        block = read_block(store, key, faults)
        if block is not None:
            for _, lease in sorted(block.leases.items()):
                if wanted.takes(lease):
                    yield lease
