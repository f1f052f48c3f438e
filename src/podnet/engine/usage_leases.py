"""The leases of a store that fit a filter, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.ipam.usage_filter import Filter
    from podnet.model.lease import Lease
    from podnet.ports import Store


def search(
    store: Store, wanted: Filter, progress: Callable[[int, int], None] | None = None
) -> Iterator[Lease]:
    """Yield leases in the order of domains and addresses; one block at a time is in memory.

    Args:
        store: where they are.
        wanted: which.
        progress: called before each block with how many were read, and how many there are.

    Raises:
        StoreError: the store is broken.
    """
    keys = [key for key in store.keys(wanted.prefix) if wanted.may_be_at(key)]
    for n, key in enumerate(keys):
        if progress is not None:
            progress(n, len(keys))
        entry = store.load(key)
        if entry is not None:
            for _, lease in sorted(entry[0].leases.items()):
                if wanted.takes(lease):
                    yield lease
