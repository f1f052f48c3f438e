"""The store of ``whereabouts:``: blocks in whereabouts' IPPools, beside whereabouts itself.

The domain of ``ipam.whereabouts.PoolRef`` is an IPPool as whereabouts would make it; its blocks are
parts of that one object. A block of any other domain, and whatever has another key, is an IPPool
of its own, whose range is the block.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from hashlib import blake2b
from typing import TYPE_CHECKING

from attrs import evolve

from podnet.errors import StoreError
from podnet.ipam.whereabouts import pool_of_domain
from podnet.model.addresses import BITS, Address, Prefix
from podnet.model.block import BLOCK_BITS, Block, block_key
from podnet.stores.whereabouts_details import entry_of
from podnet.stores.whereabouts_place import FIRST_PART, first_part, place_of, ref_of_prefix
from podnet.stores.whereabouts_pool import (
    DOMAIN,
    ELSEWHERE,
    KEY,
    MENDED,
    PoolObject,
    new_pool,
)
from podnet.stores.whereabouts_pools import Pools, ref_of
from podnet.stores.whereabouts_rivals import Rivals
from podnet.stores.whereabouts_swap import LedSwap, Swap, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from podnet.cluster.door import Cluster
    from podnet.ipam.whereabouts import PoolRef
    from podnet.model.lease import Owner
    from podnet.stores.whereabouts_lease import Leading
    from podnet.stores.whereabouts_place import Place

DEFAULT_NAMESPACE = "kube-system"
"""Where whereabouts has its objects if the context of its kubeconfig names no namespace."""

_QUEUE_PATIENCE = 5.0


class WhereaboutsStore:
    """Blocks in IPPools; threads may share it, and forked processes inherit it."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str = "",
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use a connection, which is closed with the store.

        Args:
            cluster: the connection.
            namespace: of the objects; the context's if not given.
            timeout: seconds that the attempts of one swap may take.
            patience: seconds to wait for others who hold whereabouts' Lease.
            clock: seconds since the epoch.
        """
        self._cluster = cluster
        self._timeout = timeout
        self._patience = patience
        self._clock = clock
        self._pools = Pools(cluster, namespace or cluster.named_namespace or DEFAULT_NAMESPACE)
        self._rivals = Rivals(cluster, self._pools)

    @property
    def namespace(self) -> str:
        """Where the objects are."""
        return self._pools.namespace

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none.

        Raises:
            StoreError: the API server cannot be reached or refuses, or the object is damaged.
        """
        place = place_of(key)
        pool = self._pools.fresh(place.name)
        if place.ref is None:
            return None if pool is None else self._own_block(place, pool)
        _check_range(place.ref, pool)
        ref, index = place.ref, place.index
        tag = None if pool is None else pool.tag(index)
        overlay = self._rivals.overlay(ref, pool, index) if ref.unique else {}
        if tag is None and not overlay:
            return None
        block = Block(domain=ref.domain, version=ref.network.version, index=index)
        if pool is not None and tag is not None:
            block = pool.block(ref.domain, index)
        if not overlay:
            return block, tag or ""
        leases = {**overlay, **block.leases}
        freed = {offset: when for offset, when in block.freed.items() if offset not in overlay}
        digest = blake2b(repr(sorted(overlay.items())).encode(), digest_size=6).hexdigest()
        return evolve(block, leases=leases, freed=freed), f"{tag or ''}~{digest}"

    @staticmethod
    def is_made(version: str) -> bool:
        """Tell whether a version that ``load`` gave is of a block that is there.

        Of one that is not, it may still be known that addresses of it are handed out elsewhere.
        """
        return not version.startswith("~")

    def _own_block(self, place: Place, pool: PoolObject) -> tuple[Block, str] | None:
        index = pool.base.value >> BLOCK_BITS
        tag = pool.tag(index)
        if tag is None:
            return None
        domain = pool.annotations.get(DOMAIN) or place.domain
        if pool.annotations.get(KEY, place.key) != place.key or not domain:
            raise StoreError(
                f"IPPool {place.name!r} does not tell that it is of the key {place.key!r}"
            )
        return pool.block(domain, index), tag

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Raises:
            PoolFullError: the object would become too large.
            StoreError: the API server cannot be reached or refuses; or it could not be found out
                what became of a write whose reply was lost.
            TryAgainLaterError: others held whereabouts' Lease for too long.
        """
        place = place_of(key)
        tag = None if expected is None else expected.partition("~")[0] or None
        if new is None and tag is None:
            return self._is_nothing(place)
        if new is not None:
            new = _without_elsewhere(new)
            if new.key != key and ref_of_prefix(key) is not None:
                raise StoreError(f"the block {new.key!r} cannot be kept under the key {key!r}")
        target = self._target(place, new)
        if target is None:
            return False
        swap = Swap(self._pools, target, new, tag)
        pool = swap.look()
        if place.ref is not None:
            _check_range(place.ref, pool)
        change = swap.change(pool)
        if change is None:
            return False
        if place.ref is None or not place.ref.unique or not change.steps:
            return swap.run(pool, self._timeout, lambda _, change: change) is not None
        return self._led(swap, target, place.ref)

    def _is_nothing(self, place: Place) -> bool:
        pool = self._pools.fresh(place.name)
        if pool is None:
            return True
        index = pool.base.value >> BLOCK_BITS if place.ref is None else place.index
        return pool.tag(index) is None

    def _led(self, swap: Swap, target: Target, ref: PoolRef) -> bool:
        now = self._clock()
        with self._leading(ref) as held:
            led = LedSwap(swap, target, ref, self._rivals, self._pools, now)
            return led.run(held, self._timeout)

    def _leading(self, ref: PoolRef) -> AbstractContextManager[Leading]:
        turns = self._pools.memory.turns
        return turns.leading(self._cluster, self.namespace, ref.lease, self._patience)

    def queue(self, prefix: str) -> AbstractContextManager[None]:
        """Let those who want to change the same pool do so one after the other.

        The line is whereabouts' Lease: who loads and decides without it often has it for nothing.

        Args:
            prefix: of the keys of the blocks.
        """
        ref = ref_of_prefix(prefix)
        if ref is None:
            return nullcontext()
        turns = self._pools.memory.turns
        return turns.queued(self._cluster, self.namespace, ref.lease, _QUEUE_PATIENCE)

    def _target(self, place: Place, new: Block | None) -> Target | None:
        """Return the pool to write; None if there is nothing to take out."""
        if place.ref is not None:
            notes = {DOMAIN: place.ref.domain, MENDED: str(int(self._clock()))}
            return Target(new_pool(place.name, place.ref.network, notes), place.index, whole=False)
        if new is None:
            pool = self._pools.fresh(place.name)
            if pool is None:
                return None
            return Target(pool, pool.base.value >> BLOCK_BITS, whole=True)
        first = Address(new.version, new.first)
        network = Prefix(first, BITS[new.version] - BLOCK_BITS)
        notes = {DOMAIN: new.domain, KEY: place.key}
        labels = {FIRST_PART: first_part(place.key)}
        return Target(new_pool(place.name, network, notes, labels), new.index, whole=True)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order.

        Raises:
            StoreError: the API server cannot be reached or refuses.
        """
        if ref_of_prefix(prefix) is None and "/" in prefix:
            labels = f"{FIRST_PART}={first_part(prefix)}"
            notes = (
                one["metadata"].get("annotations") or {}
                for one in self._pools.listed(labels, meta_only=True)
            )
            found = [str(each[KEY]) for each in notes if KEY in each]
        else:
            found = [key for _, key, _ in self._blocks(prefix)]
        return sorted(key for key in found if key.startswith(prefix))

    def seek(self, prefix: str, owner: Owner) -> list[str]:
        """Return the keys under ``prefix`` of blocks that may have a lease of the owner.

        Raises:
            StoreError: the API server cannot be reached or refuses.
        """
        wanted = entry_of(owner)
        return sorted(
            key
            for pool, key, index in self._blocks(prefix)
            if key.startswith(prefix) and _may_have(pool, index, owner, wanted)
        )

    def _blocks(self, prefix: str) -> Iterator[tuple[PoolObject, str, int]]:
        """Yield the blocks that may have keys under a prefix: pool, key and index."""
        ref = ref_of_prefix(prefix)
        if ref is not None:
            pool = self._pools.fresh(ref.name)
            _check_range(ref, pool)
            if pool is not None:
                for index in pool.indexes():
                    yield pool, block_key(ref.domain, ref.network.version, index), index
            return
        labels = f"{FIRST_PART}={first_part(prefix)}" if "/" in prefix else ""
        for document in self._pools.listed(labels):
            key = (document["metadata"].get("annotations") or {}).get(KEY)
            try:
                pool = PoolObject.read(document)
            except StoreError:
                if key is None:
                    continue  # whereabouts', and of no use to it either
                raise
            if key is not None:
                yield pool, key, pool.base.value >> BLOCK_BITS
            elif (ref := ref_of(pool)) is not None:
                for index in pool.indexes():
                    yield pool, block_key(ref.domain, ref.network.version, index), index

    def mend(self, domain: str) -> bool:
        """Make reservations agree with the entries of a domain's pool, as far as that is safe.

        It happens by itself, every ten minutes at most, while addresses are handed out.

        Args:
            domain: of one of whereabouts' pools.

        Returns:
            Whether all was looked at; False also where there are no reservations.

        Raises:
            StoreError: the API server cannot be reached or refuses.
            TryAgainLaterError: others held whereabouts' Lease for too long.
        """
        ref = pool_of_domain(domain)
        if ref is None or not ref.unique:
            return False
        with self._leading(ref) as held:
            pool = self._pools.fresh(ref.name)
            _check_range(ref, pool)
            around = self._rivals.around(ref, pool)
            return pool is not None and self._rivals.mend(ref, around, held)

    def slice_of(self, name: str, node: str) -> Prefix | None:
        """Return a node's slice of a NodeSlicePool; None if it has none, or there is none.

        Raises:
            StoreError: the API server cannot be reached or refuses.
        """
        return self._pools.slice_of(name, node)

    def close(self) -> None:
        """Close the connection."""
        self._cluster.close()


def _check_range(ref: PoolRef, pool: PoolObject | None) -> None:
    if pool is not None and pool.network != ref.network:
        raise StoreError(
            f"IPPool {ref.name!r} has the range {pool.network}, not the {ref.network} of its name"
        )


def _without_elsewhere(block: Block) -> Block:
    if not any(lease.pool == ELSEWHERE for lease in block.leases.values()):
        return block
    own = {offset: lease for offset, lease in block.leases.items() if lease.pool != ELSEWHERE}
    return evolve(block, leases=own)


def _may_have(pool: PoolObject, index: int, owner: Owner, wanted: dict[str, str]) -> bool:
    for keys in pool.places.get(index, {}).values():
        for key in keys:
            entry = pool.entries[key]
            if entry.get("id") == wanted["id"] and entry.get("ifname", "") == wanted["ifname"]:
                return True
    known = pool.details(index)
    return known is not None and known.may_have(owner)
