"""What all parts of a move do with a bare store: read marks and identities, finish a block."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podnet.ipam import migrate
from podnet.ipam.migrate import Mark, State, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.model.block import Block
    from podnet.ports import Store

    Entry = tuple[Block, str] | None


def load_mark(store: Store, marked: str) -> tuple[Mark, Entry]:
    """Return the mark of a domain in a store, and the entry that it was read from.

    Raises:
        StoreError: the store is broken, or what is there is no mark.
    """
    entry = store.load(migrate.mark_key(marked))
    return migrate.read_mark(entry[0] if entry else None), entry


def marks(store: Store, prefix: str) -> Iterator[tuple[str, Mark, str]]:
    """Yield the marks of the domains that a prefix of keys is about.

    Each comes with the part of keys that stands for its domain, and with its version.
    """
    if "/" in prefix:
        marked = migrate.part_of(prefix)
        mark, entry = load_mark(store, marked)
        yield marked, mark, entry[1] if entry else ""
        return
    for key in list(store.keys(migrate.MARK_PREFIX)):
        entry = store.load(key)
        if entry is not None and (marked := migrate.marked_part(entry[0])).startswith(prefix):
            yield marked, migrate.read_mark(entry[0]), entry[1]


def load_identity(store: Store) -> str:
    """Return what a store says it is; empty if it has not been asked before.

    Raises:
        StoreError: the store is broken.
    """
    entry = store.load(migrate.IDENTITY)
    return entry[0].holder if entry else ""


def identify(store: Store) -> str:
    """Return what a store says it is, after giving it a name if it has none.

    Raises:
        StoreError: the store is broken.
    """
    while not (name := load_identity(store)):
        store.swap(migrate.IDENTITY, migrate.identity_block(os.urandom(8).hex()), None)
    return name


def settle(source: Store, target: Store, key: str, entry: tuple[Block, str]) -> None:
    """Finish the move of a block that the source has closed, unless somebody else was faster.

    Args:
        source: where it is closed.
        target: where it goes, not in use before the move.
        key: of the block.
        entry: what the source has.
    """
    block, version = entry
    there = target.load(key)
    if state_at(there) is not State.OPEN:
        now = source.load(key)
        if now is None or now[1] != version:
            # The block may have come to the target, and gone on, since the source was read. Nothing
            # goes on before all that the source has closed is settled: so it has not if the
            # source is now, after the look at the target, as it was before.
            return
        made = migrate.opened(block, there[0] if there else None)
        if not target.swap(key, made, there[1] if there else None):
            return
    source.swap(key, migrate.gone(block), version)


def state_at(entry: Entry) -> State:
    """Return what an entry is worth."""
    return state_of(entry[0] if entry else None)
