"""How full the pools of a store are: one pass over its blocks, whatever their number."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from podnet.engine.migration_follow import follow
from podnet.engine.migration_ground import marks
from podnet.engine.usage_leases import read_block
from podnet.ipam.migrate import Kind
from podnet.ipam.usage import Tally, Usage
from podnet.model.addresses import BITS, Address, Prefix
from podnet.model.block import BLOCK_BITS, key_parts
from podnet.model.pool import ALL, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from podnet.engine.usage_leases import Faults
    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.ports import Store


def usage(
    store: str | Store,
    pools: Iterable[Pool] = (),
    *,
    node: str = "",
    cells: int = 0,
    only: bool = False,
    now: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    faults: Faults | None = None,
) -> tuple[Usage, ...]:
    """Count how full pools are.

    Args:
        store: URL of the store, or an open one, which stays open.
        pools: those that are known; the leases tell of others.
        node: name of the node that looks.
        cells: how many cells each pool's map is to have; 0 for no maps.
        only: nothing but ``pools``: blocks of other domains are not read.
        now: seconds since the epoch; the clock's if not given.
        progress: called after each block with how many were read, and how many there are.
        faults: blocks that cannot be read are told here, and not counted; None raises.

    Returns:
        A count for each of ``pools``, in order, then for each that leases tell of.

    Raises:
        InvalidConfigError: the store's URL is wrong, or a pool cannot hold an address.
        StoreError: the store is broken.
    """
    with ExitStack() as opened:
        if isinstance(store, str):
            store = follow(store)
            opened.callback(store.close)
        counting = _Counting(tuple(pools), node, cells, time.time() if now is None else now)
        counting.look(store, only=only)
        counting.count(store, progress, faults)
        return counting.done()


class _Counting:
    """One pass over the blocks of a store, for all pools at once."""

    def __init__(self, pools: tuple[Pool, ...], node: str, cells: int, now: float) -> None:
        self._pools = pools
        self._node, self._cells, self._now = node, cells, now
        self._keys: list[str] = []
        self._extents: dict[tuple[str, int], tuple[int, int]] = {}
        self._tallies: dict[tuple[str, int], list[Tally]] = {}
        self._strangers: dict[tuple[str, str, Prefix], Tally] = {}

    def look(self, store: Store, *, only: bool) -> None:
        """Find out which blocks there are, before any is read."""
        domains = {pool.domain for pool in self._pools}
        for key in store.keys(""):
            parts = key_parts(key)
            if only and parts is not None and parts[0] not in domains:
                continue
            self._keys.append(key)
            if parts is not None:
                place, index = parts[:2], parts[2]
                low, high = self._extents.get(place, (index, index))
                self._extents[place] = min(low, index), max(high, index)
        for pool in self._pools:
            self._tallies.setdefault((pool.domain, pool.network.version), []).append(
                self._tally(pool)
            )

    def _tally(self, pool: Pool) -> Tally:
        extent = self._extents.get((pool.domain, pool.network.version))
        return Tally(pool, now=self._now, node=self._node, cells=self._cells, extent=extent)

    def count(
        self,
        store: Store,
        progress: Callable[[int, int], None] | None,
        faults: Faults | None,
    ) -> None:
        """Read the blocks one after the other."""
        for n, key in enumerate(self._keys, start=1):
            block = read_block(store, key, faults)
            if block is not None:
                self._add(block)
            if progress is not None:
                progress(n, len(self._keys))

    def _add(self, block: Block) -> None:
        tallies = self._tallies.get((block.domain, block.version), [])
        names = {tally.pool.name for tally in tallies}
        # Those that name a pool first: others are of the pool in whose network they lie.
        for lease in sorted(block.leases.values(), key=lambda lease: not lease.pool):
            if lease.pool not in names and not _is_of(lease, [*tallies, *self._named(lease)]):
                self._stranger(lease)
        for tally in (*tallies, *self._strangers.values()):
            if tally.pool.domain == block.domain and tally.touches(block):
                tally.add(block)

    def _named(self, lease: Lease) -> Iterator[Tally]:
        """Return the pools of the lease's domain that no definition tells of."""
        for (domain, pool, _), tally in self._strangers.items():
            if pool and domain == lease.domain:
                yield tally

    def _stranger(self, lease: Lease) -> None:
        network = lease.cidr.masked
        if not lease.pool and lease.length == BITS[lease.ip.version]:
            # A shared format's file or entry does not tell of which network the address is.
            network = self._around(lease)
        place = lease.domain, lease.pool, network
        if place not in self._strangers:
            pool = Pool(lease.pool or str(network), network, domain=lease.domain, edges=ALL)
            self._strangers[place] = self._tally(pool)

    def _around(self, lease: Lease) -> Prefix:
        """Return the smallest network that has all blocks of the lease's domain and family."""
        version, index = lease.ip.version, lease.ip.value >> BLOCK_BITS
        low, high = self._extents.get((lease.domain, version), (index, index))
        host = BLOCK_BITS + (low ^ high).bit_length()
        return Prefix(Address(version, low << BLOCK_BITS), BITS[version] - host).masked

    def done(self) -> tuple[Usage, ...]:
        """Return the counts."""
        given = iter({id(t): t for each in self._tallies.values() for t in each}.values())
        by_pool: dict[int, list[Usage]] = {}
        for tally in given:
            by_pool.setdefault(id(tally.pool), []).append(tally.done())
        known = [by_pool[id(pool)].pop(0) for pool in self._pools]
        return (*known, *(each.done(defined=False) for each in self._strangers.values()))


def _is_of(lease: Lease, tallies: list[Tally]) -> bool:
    """Tell whether a lease that names no pool is one of these pools'."""
    return not lease.pool and any(lease.ip in tally.pool.network for tally in tallies)


def moving(store: Store) -> Iterator[tuple[str, str]]:
    """Yield what a bare store says of domains that moved: the part of their keys, and the text.

    Raises:
        StoreError: the store is broken.
    """
    texts = {
        Kind.FROM: "is being moved here from {}",
        Kind.TO: "is being moved to {}",
        Kind.JOIN: "is being joined with that of {}",
        Kind.DONE: "was moved to {}",
    }
    for part, mark, _ in marks(store, ""):
        if mark.kind in texts:
            yield part, texts[mark.kind].format(mark.url)
