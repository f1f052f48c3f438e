"""What a store has, as address management reads it: blocks, leases, and where to look for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.engine.lanes import FEW_BLOCKS
from podnet.errors import StoreError
from podnet.ipam import grant, space
from podnet.model.block import block_index, block_key, domain_prefix
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.model.block import Block
    from podnet.model.lease import Lease, Owner
    from podnet.ports import Store


class Reading:
    """Reads blocks of a store.

    Attributes:
        store: may be replaced by one that refuses.
    """

    def __init__(self, store: Store) -> None:
        """Use a store."""
        self.store = store

    def leases(self, pool: Pool | str | None = None) -> Iterator[Lease]:
        """Return the leases of a pool, of a domain by name, or all, in order of addresses.

        Raises:
            StoreError: the store is broken.
        """
        name = pool.name if isinstance(pool, Pool) else None
        for block in self._load_all(pool):
            for _, lease in sorted(block.leases.items()):
                inside = not isinstance(pool, Pool) or lease.ip in pool.network
                if inside and (name is None or lease.pool in (name, "")):
                    yield lease

    def holds(self, owner: Owner, pool: Pool) -> Lease | None:
        """Return the lease of the pool that the owner has, or None.

        Raises:
            StoreError: the store is broken.
        """
        earlier = None
        for key in self.keys_of(owner, pool):
            block = self._load(key)
            lease = None if block is None else grant.find(block, pool.name, owner, within=pool)
            if lease is not None and lease.owner.key == owner.key:
                return lease
            earlier = earlier or lease
        return earlier

    def has_free(self, pool: Pool) -> bool:
        """Tell whether an address of the pool is free.

        Raises:
            InvalidConfigError: the pool cannot hold an address.
            StoreError: the store is broken.
        """
        spans = space.intervals(pool)
        keys = {key for key in self.keys(pool) if space.touches(spans, block_index(key))}
        if space.block_count(spans) > len(keys):
            return True
        blocks = (block for key in keys if (block := self._load(key)) is not None)
        return next(space.free(spans, blocks), None) is not None

    def _load(self, key: str) -> Block | None:
        entry = self.store.load(key)
        if entry is None:
            return None
        if entry[0].key != key:
            raise StoreError(f"the store has the block {entry[0].key!r} under the key {key!r}")
        return entry[0]

    def _load_all(self, where: Pool | str | None) -> Iterator[Block]:
        for key in self.keys(where):
            if (block := self._load(key)) is not None:
                yield block

    def keys(self, where: Pool | str | None) -> Iterator[str]:
        """Return the keys of blocks that may exist in a pool, a domain or the store, in order.

        Of a pool, not only its range counts but its whole network: an owner's lease may lie
        outside the range since the configuration changed.
        """
        if not isinstance(where, Pool):
            yield from self.store.keys("" if where is None else domain_prefix(where))
            return
        version, whole = where.network.version, [(where.network.first, where.network.last)]
        if space.block_count(whole) <= FEW_BLOCKS:
            for index in space.block_indexes(whole):
                yield block_key(where.domain, version, index)
            return
        for key in self.store.keys(domain_prefix(where.domain, version)):
            if space.touches(whole, block_index(key)):
                yield key

    def keys_of(self, owner: Owner, where: Pool | str | None) -> Iterator[str]:
        """Return the keys of blocks that may have a lease of the owner."""
        seek = getattr(self.store, "seek", None)
        if seek is None:
            yield from self.keys(where)
            return
        if not isinstance(where, Pool):
            yield from sorted(seek("" if where is None else domain_prefix(where), owner))
            return
        whole = [(where.network.first, where.network.last)]
        if space.block_count(whole) == 1:
            yield from self.keys(where)
            return
        for key in sorted(seek(domain_prefix(where.domain, where.network.version), owner)):
            if space.touches(whole, block_index(key)):
                yield key
