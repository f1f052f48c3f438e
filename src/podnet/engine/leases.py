"""Address management over a store: the loop around the pure decisions of ``podnet.ipam``.

Load the blocks, decide, swap, and start again where somebody else was faster. Idempotence, owner
look-up, retries and group commit are here once, whatever the store.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from podnet.engine import registry
from podnet.engine.reading import Reading
from podnet.engine.requests import Allocation, Change
from podnet.engine.serving import Serving
from podnet.engine.shortage import Closed
from podnet.errors import (
    AddressUnavailableError,
    InvalidConfigError,
    PodnetError,
    PoolExhaustedError,
    TryAgainLaterError,
)
from podnet.ipam import grant
from podnet.ipam.want import in_turn, pool_of, share_out
from podnet.model.addresses import Address, parse_address
from podnet.model.block import BLOCK_BITS, block_key, key_parts
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from types import TracebackType

    from podnet.engine.owning_reclaim import Reclaimed
    from podnet.engine.requests import Decide
    from podnet.ipam.want import IpamWant
    from podnet.model.addresses import AddressLike
    from podnet.model.block import Block
    from podnet.ports import Picker, Store


_RECALL_PAUSE = 0.05


class Ipam:
    """Hands out addresses of pools, each to one owner, and takes them back.

    Threads may share one, and then requests that come while one is being served ride in one swap;
    processes and nodes share the store. CNI runtimes do not call a plugin twice at once for one
    attachment (CNI 1.1.0, "Lifecycle & Ordering"); processes that do may be given two addresses of
    a pool that spans several blocks, and ``release`` frees both.
    """

    def __init__(  # noqa: PLR0913 - what stands for time in simulations, all by name
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        node: str = "",
        picker: Picker | None = None,
        attempts: int = 200,
        patience: float = 10.0,
        jitter: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """Use a store; closing this closes it.

        Args:
            store: where the blocks are.
            clock: seconds since the epoch, for ``Lease.since`` and the time of releases.
            node: name of this node; leases bear it and only its own are swept.
            picker: which free address to take from pools that name no picker; the one that is
                free longest if not given.
            attempts: how often to decide anew when others win, before giving up with code 11.
            patience: seconds to wait for another node to give back a block whose free addresses
                are the only ones left, before giving up with code 11.
            jitter: numbers from 0 to 1 that spread the retries; random ones if not given.
            sleep: waits between retries.
            monotonic: seconds that ``patience`` is measured by; if not given, those that pass, or
                where ``sleep`` is not the usual one, those slept.
        """
        self._serving = Serving(
            store,
            clock=clock,
            node=node,
            picker=picker,
            attempts=attempts,
            jitter=jitter,
            sleep=sleep,
        )
        self._reading = Reading(store)
        self._clock, self._node, self._sleep = clock, node, sleep
        self._patience = patience
        self._monotonic = monotonic or (time.monotonic if sleep is time.sleep else _stands_still)

    @property
    def _store(self) -> Store:
        return self._reading.store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; nothing can be allocated, released or listed any more."""
        self._store.close()
        self._serving.store = self._reading.store = Closed()

    def allocate(
        self,
        pool: Pool | Sequence[Pool],
        owner: Owner,
        *,
        network: str = "",
        requested: AddressLike | Address | None = None,
        claim: str = "",
    ) -> Lease:
        """Give an owner an address of the pool; the same owner asking again gets the same one.

        Args:
            pool: where from; of several pools the first that has a free address, all of one name
                and domain.
            owner: for whom.
            network: name of the CNI network, for GC.
            requested: this address or none.
            claim: what keeps the address beyond any container: GC and reconciliation leave the
                lease alone until it is released.

        Raises:
            PoolExhaustedError: every address is held; details say by whom.
            AddressUnavailableError: the requested one is outside, excluded, reserved or held.
            InvalidConfigError: the pool cannot hold an address.
            TryAgainLaterError: others won every attempt, or another node did not give back a
                block in time.
            StoreError: the store is broken; whether the lease exists is unknown, so release it.
        """
        pools = (pool,) if isinstance(pool, Pool) else tuple(pool)
        return self._allocate(pools, owner, network, _parse_requested(requested), claim)[0]

    def _allocate(
        self,
        pools: tuple[Pool, ...],
        owner: Owner,
        network: str,
        wanted: Address | None,
        claim: str = "",
    ) -> tuple[Lease, bool]:
        """Return the lease, and whether it is a new one."""
        _check_owner(owner)
        if len(pools) == 1:
            return self._allocate_one(pools[0], owner, network, wanted, claim)
        if wanted is not None:
            return self._allocate_one(pool_of(pools, wanted), owner, network, wanted, claim)
        for pool in pools:
            if self.holds(owner, pool) is not None:
                return self._allocate_one(pool, owner, network, None, claim)
        spent: list[str] = []
        # The range of the address that went out last is tried from there on, and again at the end.
        cursor = getattr(self._store, "cursor", None)
        last = None if cursor is None else cursor(pools[0].domain, pools[0].name)
        for pool in in_turn(pools, last):
            try:
                return self._allocate_one(pool, owner, network, None, claim)
            except PoolExhaustedError as error:
                spent.append(f"{error.msg}: {error.details}")
        raise PoolExhaustedError(
            f"no range of pool {pools[0].name!r} has a free address", "; ".join(spent)
        )

    def _allocate_one(
        self, pool: Pool, owner: Owner, network: str, wanted: Address | None, claim: str
    ) -> tuple[Lease, bool]:
        plan = self._serving.plan(pool)
        begun, slept, rounds = self._monotonic(), 0.0, 0
        asked: tuple[int, ...] = ()
        while True:
            request = Allocation(
                what=f"allocate from pool {pool.name!r}",
                plan=plan,
                owner=owner,
                network=network,
                wanted=wanted,
                claim=claim,
                asked=asked,
                rounds=rounds,
            )
            try:
                self._serving.run(pool.domain, pool.network.version, request)
            except BaseException as failure:
                # Whether the store kept it is unknown, and the caller will know of no lease.
                if request.unknown and request.new and request.lease is not None:
                    self._take_back([request.lease], failure)
                raise
            if request.lease is not None:
                return request.lease, request.new
            if max(slept, self._monotonic() - begun) >= self._patience:
                raise TryAgainLaterError(
                    f"the free addresses of pool {pool.name!r} are in blocks of other nodes, "
                    "which were asked to give them back",
                    f"held by {', '.join(request.waits)}",
                )
            self._sleep(_RECALL_PAUSE)
            slept, rounds, asked = slept + _RECALL_PAUSE, rounds + 1, request.asked

    def acquire(
        self, want: IpamWant, owner: Owner, *, network: str = "", claim: str = ""
    ) -> tuple[Lease, ...]:
        """Give an owner one address of each set of pools in ``want``, or none at all.

        Args:
            want: the pools, and what is asked of them.
            owner: for whom.
            network: name of the CNI network, for GC.
            claim: as in ``allocate``.

        Returns:
            The leases in the order of the sets.

        Raises:
            AddressUnavailableError: a requested address belongs to no pool, or cannot be had.
            PodnetError: as ``allocate``; leases that are new have been released again, but for
                those of a claim.
        """
        wanted = share_out(want.sets, want.requested)
        leases: list[Lease] = []
        fresh: list[Lease] = []
        try:
            for pools, address in zip(want.sets, wanted, strict=True):
                lease, new = self._allocate(pools, owner, network, address, claim)
                leases.append(lease)
                # What a claim keeps may be given to another of its pods at any time from now on.
                if new and not lease.claim:
                    fresh.append(lease)
        except BaseException as failure:
            self._take_back(fresh, failure)
            raise
        return tuple(leases)

    def _take_back(self, leases: list[Lease], failure: BaseException) -> None:
        for lease in reversed(leases):
            try:
                self.release(lease)
            except PodnetError as error:
                failure.add_note(f"the lease of {lease.ip} may be left: {error}")

    def _change(self, key: str, decide: Decide) -> tuple[Lease, ...]:
        parts = key_parts(key)
        if parts is None:
            entry = self._store.load(key)
            if entry is None:
                return ()
            parts = entry[0].domain, entry[0].version, entry[0].index
        domain, version, index = parts
        request = Change(what=f"release from block {key}", index=index, decide=decide)
        self._serving.run(domain, version, request)
        return request.gone

    def release(
        self,
        holder: Owner | Lease,
        *,
        pool: Pool | str | None = None,
        network: str | None = None,
        hints: Iterable[AddressLike | Address] = (),
    ) -> tuple[Lease, ...]:
        """Take back an owner's leases, or one grant; nothing to take is no error.

        Container id and interface name decide, so that the late release of an old container
        frees nothing that a newer one holds. With a lease, only that very grant ends: neither
        a later one of the same address nor what else the owner holds.

        Args:
            holder: whose; or the grant, and then the other arguments do not matter.
            pool: a pool, or the name of a domain for all its pools; None for all domains.
            network: only leases for that CNI network.
            hints: addresses the owner is believed to hold; if each of them is found, no other
                block is looked at. They need ``pool``.

        Returns:
            The leases taken back, in order of their addresses within each block.

        Raises:
            TryAgainLaterError: others won every attempt.
            StoreError: the store is broken.
        """
        if isinstance(holder, Lease):
            return self._change(
                _key_of(holder.domain, holder.ip),
                lambda block: grant.end(block, holder, now=self._clock()),
            )
        domain = pool.domain if isinstance(pool, Pool) else pool
        name = pool.name if isinstance(pool, Pool) else None

        def revoke(block: Block) -> tuple[Block, tuple[Lease, ...]]:
            return grant.revoke(block, holder, pool=name, network=network, now=self._clock())

        released: list[Lease] = []
        if domain is not None and (hinted := {parse_address(hint) for hint in hints}):
            for key in {_key_of(domain, address) for address in hinted}:
                released += self._change(key, revoke)
            if hinted <= {lease.ip for lease in released}:
                return tuple(released)
        for key in self._reading.keys_of(holder, pool):
            released += self._change(key, revoke)
        return tuple(released)

    def sweep(
        self, network: str, valid: Collection[tuple[str, str]], *, domain: str | None = None
    ) -> tuple[Lease, ...]:
        """Take back this node's leases for a network whose attachments are gone (CNI GC).

        Args:
            network: name of the CNI network.
            valid: container id and interface name of each attachment that lives.
            domain: look there only.

        Raises:
            TryAgainLaterError: others won every attempt.
            StoreError: the store is broken.
        """
        alive = frozenset(valid)

        def collect(block: Block) -> tuple[Block, tuple[Lease, ...]]:
            return grant.sweep(
                block,
                network=network,
                node=self._node,
                valid=alive,
                now=self._clock(),
            )

        swept: list[Lease] = []
        for key in self._reading.keys(domain):
            swept += self._change(key, collect)
        return tuple(swept)

    def reclaim(self, node: str, *, lost: bool = False) -> Reclaimed:
        """End all leases of a dead node, and take the blocks it held; its claims are kept.

        Say so only of a node that is dead and stays so until this is done, or whose pods are: what
        it granted lately may not be known here, and would be granted again.

        Args:
            node: its name.
            lost: it is this very node, come back without its own store of the blocks it held.

        Raises:
            PodnetError: it is this very node, and nothing is lost.
            TryAgainLaterError: others won every attempt.
            StoreError: the store is broken; what is done is done.
        """
        from podnet.engine.owning_reclaim import reclaim

        return reclaim(self._store, node, here=self._node, lost=lost, now=self._clock())

    def leases(self, pool: Pool | str | None = None) -> Iterator[Lease]:
        """Return the leases of a pool, of a domain by name, or all, in order of addresses.

        Raises:
            StoreError: the store is broken.
        """
        return self._reading.leases(pool)

    def holds(self, owner: Owner, pool: Pool) -> Lease | None:
        """Return the lease of the pool that the owner has, or None.

        Raises:
            StoreError: the store is broken.
        """
        return self._reading.holds(owner, pool)

    def has_free(self, pool: Pool) -> bool:
        """Tell whether an address of the pool is free.

        Raises:
            InvalidConfigError: the pool cannot hold an address.
            StoreError: the store is broken.
        """
        return self._reading.has_free(pool)


def _stands_still() -> float:
    return 0.0


def _key_of(domain: str, address: Address) -> str:
    """Return the key of the block that holds an address."""
    return block_key(domain, address.version, address.value >> BLOCK_BITS)


def _parse_requested(value: AddressLike | Address | None) -> Address | None:
    if value is None:
        return None
    try:
        return parse_address(value)
    except ValueError as error:
        raise AddressUnavailableError(str(error)) from None


def _check_owner(owner: Owner) -> None:
    missing = [
        (name, "is empty") for name in ("container_id", "ifname") if not getattr(owner, name)
    ]
    if missing:
        raise InvalidConfigError("the owner of a lease needs a name", tuple(missing))


def open_ipam(
    url: str,
    *,
    node: str = "",
    picker: Picker | None = None,
    clock: Callable[[], float] = time.time,
    local: str = "",
    background: bool = True,
) -> Ipam:
    """Open the store that a URL names and manage addresses in it.

    Args:
        url: ``memory:``, ``file:FOLDER``, ``sqlite:///FILE``, ``postgresql://…``, ``kubernetes:``,
            ``host-local:FOLDER``, ``whereabouts:KUBECONFIG`` or a scheme of another package.
        node: name of this node, written on leases.
        picker: which free address to take from pools that name no picker; the one that is free
            longest if not given.
        clock: seconds since the epoch.
        local: durable folder of this node, for all its processes that use the store: with it the
            node takes whole blocks of large pools and hands out of them without a write to the
            store, and what is returned is a ``podnet.engine.owning_ipam.OwnedIpam``.
        background: with ``local``, start a thread that tells the store what was done, and gives
            back what others need; else ``tick`` has to be called about every second.

    Raises:
        InvalidConfigError: no store has that scheme, or the URL is not one of it; or the node has
            no name, or the store is another program's, and ``local`` is given.
        StoreError: the store cannot be opened.
    """
    if local:
        from podnet.engine.owning_ipam import open_owned

        return open_owned(url, local, node=node, picker=picker, clock=clock, background=background)
    if url.partition(":")[0] == "memory":  # it ends with the process, and is never moved
        return Ipam(registry.open_store(url), node=node, picker=picker, clock=clock)
    from podnet.engine.migration_follow import follow

    return Ipam(follow(url), node=node, picker=picker, clock=clock)
