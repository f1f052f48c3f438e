"""A store that shows one of its domains under another name, for domains that change it on a move.

whereabouts' objects are a domain for each range, named after it; in any other store all ranges of
one network name are one domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from podnet.errors import StoreError
from podnet.ipam import migrate
from podnet.model.block import block_key, domain_prefix, key_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.ports import Store


class Renamed:
    """Shows the domain ``there`` of a store as ``here``; of other domains nothing is seen."""

    def __init__(self, store: Store, here_part: str, there: str) -> None:
        """Take an open store.

        Args:
            store: where.
            here_part: what stands in keys that are given and asked for, for the domain.
            there: the domain's name in the store.

        Raises:
            StoreError: the name that it has here is too long to be had from keys.
        """
        empty = block_key("x", 4, 0)
        parts = key_parts(here_part + empty[1:])
        if parts is None:
            raise StoreError(f"domain {here_part} has too long a name to be called {there}")
        self.base = store
        self.here, self.there = parts[0], there
        self.here_part, self.there_part = here_part, part(there)
        self._marks = migrate.mark_key(self.here_part), migrate.mark_key(self.there_part)
        if hasattr(store, "seek"):
            self.seek = self._seek

    def __getattr__(self, name: str) -> Any:
        """Return what else the store offers."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.base, name)

    def load(self, key: str) -> tuple[Block, str] | None:
        """Load, under the other name."""
        entry = self.base.load(self._key(key))
        if entry is None or migrate.part_of(key) != self.here_part:
            return entry
        return _renamed(entry[0], self.here), entry[1]

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Swap, under the other name."""
        if new is not None and migrate.part_of(key) == self.here_part:
            new = _renamed(new, self.there)
        elif new is not None and key == self._marks[0]:
            new = migrate.mark_block(self.there_part, migrate.read_mark(new), None, new.sequence)
        return self.base.swap(self._key(key), new, expected)

    def keys(self, prefix: str) -> Iterable[str]:
        """List the domain's keys, under the other name."""
        return self._back(self.base.keys(self._prefix(prefix)), prefix)

    def _seek(self, prefix: str, owner: Owner) -> Iterable[str]:
        return self._back(self.base.seek(self._prefix(prefix), owner), prefix)  # type: ignore[attr-defined]  # it has it, as seen above

    def close(self) -> None:
        """Close the store."""
        self.base.close()

    def _key(self, key: str) -> str:
        if migrate.part_of(key) == self.here_part:
            return self.there_part + key[len(self.here_part) :]
        return self._marks[1] if key == self._marks[0] else key

    def _prefix(self, prefix: str) -> str:
        if migrate.part_of(prefix) == self.here_part and "/" in prefix:
            return self.there_part + prefix[len(self.here_part) :]
        return f"{self.there_part}/"

    def _back(self, keys: Iterable[str], prefix: str) -> Iterator[str]:
        for key in keys:
            shown = self.here_part + key[len(self.there_part) :]
            if shown.startswith(prefix):
                yield shown


def _renamed(block: Block, domain: str) -> Block:
    leases = {offset: evolve(lease, domain=domain) for offset, lease in block.leases.items()}
    return evolve(block, domain=domain, leases=leases)


def part(domain: str) -> str:
    """Return what stands for a domain in keys."""
    return migrate.part_of(domain_prefix(domain))


def base_of(store: Store) -> Store:
    """Return the store itself, of one that shows a domain under another name."""
    return store.base if isinstance(store, Renamed) else store
