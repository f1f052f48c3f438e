"""An index from owners to the blocks that may hold a lease of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.model.block import thawed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.model.block import Block
    from podnet.model.lease import Lease, Owner


class OwnerIndex:
    """Finds blocks by owner without reading them.

    It keeps one number of 64 bits for each lease, and one more where the pod's UID is known: some
    200 bytes a lease. Two owners may share a number, so that what is found may hold a lease of
    the owner, while what is not found holds none. Threads that share one need a lock around it.
    """

    def __init__(self) -> None:
        # Most owners have one lease: its key alone. A tuple has one key for each lease.
        self._keys: dict[int, str | tuple[str, ...]] = {}

    def seek(self, owner: Owner) -> tuple[str, ...]:
        """Return the keys of blocks that may hold a lease of the owner, each once."""
        return self.find(_tokens(owner))

    def find(self, tokens: Iterable[int]) -> tuple[str, ...]:
        """Return the keys that any of the numbers was taken up for, each once."""
        found: dict[str, None] = {}
        for token in tokens:
            entry = self._keys.get(token)
            if entry is not None:
                found.update(dict.fromkeys((entry,) if isinstance(entry, str) else entry))
        return tuple(found)

    def update(self, key: str, old: Block | None, new: Block | None) -> None:
        """Replace what is known of the block at ``key``; leases that both have cost nothing.

        Args:
            key: where the block is.
            old: what was there, as told by the update before; None if nothing was.
            new: what is there now; None if nothing is.
        """
        before = {} if old is None else old.leases
        after = {} if new is None else new.leases
        held = 0 if old is None else old.taken
        holds = 0 if new is None else new.taken
        gone, come = _offsets(held & ~holds), _offsets(holds & ~held)
        if not _differ_in(before, after, gone, come):
            # A lease was replaced by another of the same address.
            gone = [offset for offset, lease in before.items() if after.get(offset) is not lease]
            come = [offset for offset, lease in after.items() if before.get(offset) is not lease]
        for offset in gone:
            self.remove(key, before[offset].owner)
        for offset in come:
            self.add(key, after[offset].owner)

    def add(self, key: str, owner: Owner) -> None:
        """Take up one lease of an owner."""
        self.add_tokens(key, _tokens(owner))

    def remove(self, key: str, owner: Owner) -> None:
        """Drop one lease of an owner."""
        self.remove_tokens(key, _tokens(owner))

    def add_tokens(self, key: str, tokens: Iterable[int]) -> None:
        """Take up numbers, each once more if it is there already."""
        for token in tokens:
            entry = self._keys.get(token)
            if entry is None:
                self._keys[token] = key
            else:
                self._keys[token] = (*((entry,) if isinstance(entry, str) else entry), key)

    def remove_tokens(self, key: str, tokens: Iterable[int]) -> None:
        """Drop numbers, each once."""
        for token in tokens:
            entry = self._keys.get(token, ())
            if isinstance(entry, str):
                if entry == key:
                    del self._keys[token]
                continue
            keys = list(entry)
            if key in keys:
                keys.remove(key)
                self._keys[token] = keys[0] if len(keys) == 1 else tuple(keys)

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()


def _offsets(bits: int) -> list[int]:
    offsets = []
    while bits:
        lowest = bits & -bits
        offsets.append(lowest.bit_length() - 1)
        bits ^= lowest
    return offsets


def _differ_in(
    before: Mapping[int, Lease], after: Mapping[int, Lease], gone: list[int], come: list[int]
) -> bool:
    """Tell whether these offsets are all that differs, at the price of a few copies in C.

    Blocks come from each other by copying, so that their leases are in one order; where they are
    not, the answer is no.
    """
    if len(gone) + len(come) > len(before) + len(after) >> 1:
        return False
    rest = thawed(before)
    for offset in gone:
        del rest[offset]
    for offset in come:
        rest[offset] = after[offset]
    return list(rest.values()) == list(after.values())


def _tokens(owner: Owner) -> tuple[int, ...]:
    ifname = owner.ifname
    if owner.pod_uid:
        return hash((owner.container_id, ifname)), hash((owner.pod_uid, ifname, 1))
    return (hash((owner.container_id, ifname)),)
