"""The cache of what a store read or wrote last."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def remember(cache: dict[str, T], key: str, value: T, most: int) -> None:
    """Put a value into a cache, and drop those put there first beyond so many.

    Threads may share the cache, and a child forked meanwhile too: there is no lock to be left held.
    """
    cache.pop(key, None)
    cache[key] = value
    if len(cache) > most:
        # Copied in one step, which no other thread comes between.
        for oldest in list(cache)[:-most]:
            cache.pop(oldest, None)
