"""The IPPools of one namespace: reading them anew at the least cost, and writing them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from podnet.cluster.answers import (
    ConflictError,
    ExistsError,
    MissingError,
    TooLargeError,
)
from podnet.cluster.door import JSON_PATCH
from podnet.cluster.resource import custom
from podnet.errors import StoreError
from podnet.ipam.whereabouts import pool_of_domain, pool_of_name, range_of_name
from podnet.model.addresses import parse_prefix
from podnet.stores.whereabouts_change import PoolFullError, document, json_patch
from podnet.stores.whereabouts_pool import DOMAIN, NoRangeError, PoolObject
from podnet.stores.whereabouts_turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.cluster.door import Cluster
    from podnet.ipam.whereabouts import PoolRef
    from podnet.model.addresses import Address, Prefix
    from podnet.model.lease import Lease
    from podnet.stores.whereabouts_change import Change

Document = dict[str, Any]

POOLS = custom("whereabouts.cni.cncf.io", "v1alpha1", "ippools", "IPPool", namespaced=True)
SLICES = custom(
    "whereabouts.cni.cncf.io", "v1alpha1", "nodeslicepools", "NodeSlicePool", namespaced=True
)

_POOLS_KEPT = 64
_LARGE = 100


@frozen(eq=False)
class Memory:
    """What one process knows; a forked one starts with nothing, its parent's locks included.

    Attributes:
        pid: whose it is.
        lock: held while ``pools`` is changed.
        turns: which thread holds whereabouts' Lease.
        pools: IPPools as last read or written.
        rivals: domain to what is known to be handed out elsewhere.
    """

    pid: int = field(factory=os.getpid)
    lock: threading.Lock = field(factory=threading.Lock)
    turns: Turns = field(factory=Turns)
    pools: OrderedDict[str, PoolObject] = field(factory=OrderedDict)
    rivals: dict[str, dict[Address, Lease]] = field(factory=dict)


class Pools:
    """The IPPools of one namespace. Every method raises StoreError where the API server does."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Use a connection."""
        self._cluster = cluster
        self.namespace = namespace
        self._memory = Memory()

    @property
    def memory(self) -> Memory:
        """What this process knows."""
        if self._memory.pid != os.getpid():
            self._memory = Memory()
        return self._memory

    def known(self, name: str) -> PoolObject | None:
        """Return a pool as it was when last seen; None if it was not."""
        return self.memory.pools.get(name)

    def fresh(self, name: str) -> PoolObject | None:
        """Return a pool as it is now; None if there is none.

        Of a large one only the version is asked for, if it was seen before: it may not have
        changed since.
        """
        known = self.known(name)
        if known is not None and len(known.entries) >= _LARGE:
            version = self._cluster.version(POOLS, name, self.namespace)
            if version == known.version:
                return known
        found = self._cluster.get(POOLS, name, self.namespace)
        if known is not None and found is not None and _is_at(found, known):
            return known
        return self._keep(name, None if found is None else PoolObject.read(found))

    def _keep(self, name: str, pool: PoolObject | None) -> PoolObject | None:
        memory = self.memory
        with memory.lock:
            memory.pools.pop(name, None)
            if pool is not None:
                memory.pools[name] = pool
                if len(memory.pools) > _POOLS_KEPT:
                    memory.pools.popitem(last=False)
        return pool

    def listed(self, labels: str = "", *, meta_only: bool = False) -> Iterator[Document]:
        """Yield all pools, or those with a label, as they are now."""
        found = self._cluster.list_all(POOLS, self.namespace, labels=labels, meta_only=meta_only)
        yield from found.items

    def overlapping(self, ref: PoolRef) -> list[PoolObject]:
        """Return the other pools of a network that have addresses of a pool, as they are now.

        Slices are looked at for slices only: else the name of a pool does not tell whether what
        precedes the range is a network or a node.
        """
        found = []
        for row in self._cluster.table(POOLS, self.namespace):
            name = str(row["Name"])
            network = range_of_name(name, ref.network_name, slices=bool(ref.node))
            if name == ref.name or network is None or not _overlap(network, ref):
                continue
            try:
                pool = self.fresh(name)
            except NoRangeError:
                continue  # nobody can hand out of it
            if pool is not None and pool.network == network and not _is_apart(pool):
                found.append(pool)
        return found

    def slice_of(self, name: str, node: str) -> Prefix | None:
        """Return a node's slice of a NodeSlicePool; None if it has none, or there is none.

        Raises:
            StoreError: its range cannot be understood.
        """
        found = self._cluster.get(SLICES, name, self.namespace) or {}
        for one in (found.get("status") or {}).get("allocations") or ():
            if one.get("nodeName") == node:
                try:
                    return parse_prefix(str(one.get("sliceRange"))).masked
                except ValueError as error:
                    raise StoreError(f"NodeSlicePool {name}: slice of {node}: {error}") from None
        return None

    def write(self, pool: PoolObject, change: Change) -> PoolObject | None:
        """Change a pool if it still is at this version, or create it; return it as it is then.

        Returns:
            None, and nothing was changed, where somebody else was faster.

        Raises:
            InvalidObjectError: somebody else was faster, or the object breaks a rule.
            MissingError: it cannot be created, because there is no such namespace.
            PoolFullError: it would be too large.
            UnknownOutcomeError: the reply was lost.
        """
        name = pool.name
        try:
            if not pool.uid:
                made = self._cluster.create(POOLS, document(pool, change), self.namespace)
                return self._keep(name, PoolObject.read(made))
            found = self._cluster.patch(
                POOLS,
                name,
                json_patch(pool, change),
                self.namespace,
                kind=JSON_PATCH,
                meta_only=True,
            )
        except (ConflictError, ExistsError):
            return None
        except MissingError:
            if not pool.uid:
                raise
            return None
        except TooLargeError as error:
            raise PoolFullError(f"IPPool {name!r} is full", str(error)) from error
        return self._keep(name, pool.after(change.entries, found["metadata"]))

    def delete(self, pool: PoolObject) -> bool:
        """Delete a pool if it still is at this version; tell whether it was this one.

        Raises:
            UnknownOutcomeError: the reply was lost.
        """
        try:
            self._cluster.delete(
                POOLS, pool.name, self.namespace, uid=pool.uid, version=pool.version
            )
        except (ConflictError, MissingError):
            return False
        self._keep(pool.name, None)
        return True


def ref_of(pool: PoolObject) -> PoolRef | None:
    """Return which pool of whereabouts' an object is; None for one that no configuration names."""
    told = pool_of_domain(pool.annotations.get(DOMAIN, ""))
    if told is not None and told.name == pool.name and told.network == pool.network:
        return told
    return pool_of_name(pool.name, pool.network)


def _is_apart(pool: PoolObject) -> bool:
    ref = ref_of(pool)
    return ref is not None and not ref.unique


def _overlap(network: Prefix, ref: PoolRef) -> bool:
    mine = ref.network
    return (
        network.version == mine.version
        and network.first <= mine.last
        and mine.first <= network.last
    )


def _is_at(found: Document, pool: PoolObject) -> bool:
    meta = found["metadata"]
    return (meta["uid"], meta["resourceVersion"]) == (pool.uid, pool.version)
