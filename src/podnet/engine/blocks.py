"""The blocks of a store as address management walks them: look, change, and try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.errors import StoreError, TryAgainLaterError
from podnet.ipam import grant, space
from podnet.model.block import BLOCK_BITS, block_index, block_key, domain_prefix
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.model.addresses import Address
    from podnet.model.block import Block
    from podnet.model.lease import Lease, Owner
    from podnet.ports import Store

# Up to this many blocks it is cheaper to load each than to ask which exist.
_FEW_BLOCKS = 8
_PAUSE_MOST = 0.05


@frozen
class Found:
    """What one look at a pool's blocks showed.

    Attributes:
        blocks: index to block and version; all that exist if there is no lease.
        lease: what the owner has already, or None.
    """

    blocks: dict[int, tuple[Block, str]]
    lease: Lease | None

    @property
    def versions(self) -> dict[int, str]:
        """Index to version."""
        return {index: version for index, (_, version) in self.blocks.items()}


class Blocks:
    """The blocks of one store, with bounded retries where others are faster."""

    def __init__(
        self,
        store: Store,
        *,
        attempts: int,
        jitter: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """See ``podnet.engine.leases.Ipam``."""
        self.store = store
        self._attempts = attempts
        self._jitter = jitter
        self._sleep = sleep

    def load(self, key: str) -> tuple[Block, str] | None:
        """Load a block that is what its key says.

        Raises:
            StoreError: it is another block, put there by other hands; or the store is broken.
        """
        entry = self.store.load(key)
        if entry is not None and entry[0].key != key:
            raise StoreError(f"the store has the block {entry[0].key!r} under the key {key!r}")
        return entry

    def look(self, pool: Pool, owner: Owner) -> Found:
        """Read the pool's blocks until one has a lease of this very attachment."""
        blocks: dict[int, tuple[Block, str]] = {}
        earlier = None
        for key in self.keys(pool):
            entry = self.load(key)
            if entry is None:
                continue
            blocks[entry[0].index] = entry
            lease = grant.find(entry[0], pool.name, owner)
            if lease is not None and lease.owner.key == owner.key:
                return Found(blocks, lease)
            earlier = earlier or lease
        return Found(blocks, earlier)

    def change(
        self, key: str, decide: Callable[[Block], tuple[Block, tuple[Lease, ...]]]
    ) -> tuple[Lease, ...]:
        """Swap a block for what ``decide`` makes of it; return what that took away.

        Raises:
            TryAgainLaterError: others won every attempt.
        """
        for _ in self.turns(f"release from block {key}"):
            entry = self.load(key)
            if entry is None:
                return ()
            new, gone = decide(entry[0])
            if not gone or self.store.swap(key, new, entry[1]):
                return gone
        raise AssertionError  # turns ends by raising

    def keys(self, where: Pool | str | None) -> Iterator[str]:
        """Return the keys of blocks that may exist in a pool, a domain or the store, in order.

        Of a pool, not only its range counts but its whole network: an owner's lease may lie
        outside the range since the configuration changed.
        """
        if not isinstance(where, Pool):
            yield from self.store.keys("" if where is None else domain_prefix(where))
            return
        pool = where
        version, whole = pool.network.version, [(pool.network.first, pool.network.last)]
        if space.block_count(whole) <= _FEW_BLOCKS:
            for index in space.block_indexes(whole):
                yield block_key(pool.domain, version, index)
            return
        for key in self.store.keys(domain_prefix(pool.domain, version)):
            if space.touches(whole, block_index(key)):
                yield key

    def turns(self, what: str) -> Iterator[int]:
        """Count attempts, with a pause that grows and is spread before all but the first two.

        Raises:
            TryAgainLaterError: instead of one attempt too many.
        """
        yield 0
        for turn in range(1, self._attempts):
            if turn > 1:
                self._sleep(self._jitter() * min(_PAUSE_MOST, 0.001 * turn))
            yield turn
        raise TryAgainLaterError(f"cannot {what}: others won {self._attempts} times in a row")


def key_of(domain: str, address: Address) -> str:
    """Return the key of the block that holds an address."""
    return block_key(domain, address.version, address.value >> BLOCK_BITS)
