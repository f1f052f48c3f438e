"""Address management over a store: the loop around the pure decisions of ``podnet.ipam``.

Load the blocks, decide, swap, and start again where somebody else was faster. Idempotence, owner
look-up and retries are here once, whatever the store.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

from podnet.engine import registry
from podnet.engine.blocks import Blocks, key_of
from podnet.engine.shortage import Closed, checked, exhausted, held_by
from podnet.errors import (
    AddressUnavailableError,
    InvalidConfigError,
    PodnetError,
)
from podnet.ipam import grant, space
from podnet.ipam.pick import Ask, Lowest, Requested
from podnet.ipam.want import share_out
from podnet.model.addresses import parse_address
from podnet.model.block import BLOCK_BITS, Block
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from types import TracebackType

    from podnet.engine.blocks import Found
    from podnet.ipam.space import Interval
    from podnet.ipam.want import IpamWant
    from podnet.model.addresses import Address, AddressLike
    from podnet.ports import Picker, Store


class Ipam:
    """Hands out addresses of pools, each to one owner, and takes them back.

    Threads may share one; processes and nodes share the store. CNI runtimes do not call a plugin
    twice at once for one attachment (CNI 1.1.0, "Lifecycle & Ordering"); callers that do may be
    given two addresses of a pool that spans several blocks, and ``release`` frees both.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        node: str = "",
        picker: Picker | None = None,
        attempts: int = 200,
        jitter: Callable[[], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use a store; closing this closes it.

        Args:
            store: where the blocks are.
            clock: seconds since the epoch, for ``Lease.since``.
            node: name of this node; leases bear it and only its own are swept.
            picker: which free address to take; the lowest if not given.
            attempts: how often to decide anew when others win, before giving up with code 11.
            jitter: numbers from 0 to 1 that spread the retries; random ones if not given.
            sleep: waits between retries.
        """
        self._store = store
        self._clock = clock
        self._node = node
        self._picker: Picker = picker or Lowest()
        self._blocks = Blocks(store, attempts=attempts, jitter=jitter or _random, sleep=sleep)

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
        self._store = self._blocks.store = Closed()

    def allocate(
        self,
        pool: Pool,
        owner: Owner,
        *,
        network: str = "",
        requested: AddressLike | Address | None = None,
    ) -> Lease:
        """Give an owner an address of the pool; the same owner asking again gets the same one.

        Args:
            pool: where from.
            owner: for whom.
            network: name of the CNI network, for GC.
            requested: this address or none.

        Raises:
            PoolExhaustedError: every address is held; details say by whom.
            AddressUnavailableError: the requested one is outside, excluded, reserved or held.
            InvalidConfigError: the pool cannot hold an address.
            TryAgainLaterError: others won every attempt.
            StoreError: the store is broken; whether the lease exists is unknown, so release it.
        """
        return self._allocate(pool, owner, network, _parse_requested(requested))[0]

    def _allocate(
        self, pool: Pool, owner: Owner, network: str, wanted: Address | None
    ) -> tuple[Lease, bool]:
        """Return the lease, and whether it is a new one."""
        _check_owner(owner)
        spans = space.intervals(pool)
        before: dict[int, str] | None = None
        for _ in self._blocks.turns(f"allocate from pool {pool.name!r}"):
            found = self._blocks.look(pool, owner)
            if found.lease is not None:
                if (lease := self._renew(found, owner, network, wanted)) is not None:
                    return lease, False
                continue
            value = self._choose(pool, spans, found, owner, wanted)
            if value is None:
                # Blocks are read one after the other: only a second look that finds them all
                # unchanged proves that there was a moment when nothing was free.
                if len(found.blocks) <= 1 or found.versions == before:
                    raise exhausted(pool, spans, found)
                before = found.versions
                continue
            index = value >> BLOCK_BITS
            empty = Block(domain=pool.domain, version=pool.network.version, index=index), None
            block, version = found.blocks.get(index, empty)
            new, lease = grant.grant(
                block, value, pool, owner, node=self._node, network=network, now=self._clock()
            )
            try:
                won = self._store.swap(new.key, new, version)
            except BaseException as failure:
                # Whether the store kept it is unknown, and the caller will know of no lease.
                self._take_back(owner, [pool], failure)
                raise
            if won:
                return lease, True
        raise AssertionError  # _turns ends by raising

    def _renew(
        self, found: Found, owner: Owner, network: str, wanted: Address | None
    ) -> Lease | None:
        lease = found.lease
        assert lease is not None
        if wanted is not None and wanted != lease.ip:
            raise AddressUnavailableError(
                f"{wanted} was asked for, but {owner} already holds {lease.ip} of pool "
                f"{lease.pool!r}"
            )
        block, version = found.blocks[lease.ip.value >> BLOCK_BITS]
        new, renewed = grant.renew(block, lease, owner, node=self._node, network=network)
        if new is block or self._store.swap(new.key, new, version):
            return renewed
        return None

    def _choose(
        self,
        pool: Pool,
        spans: tuple[Interval, ...],
        found: Found,
        owner: Owner,
        wanted: Address | None,
    ) -> int | None:
        ask = Ask(pool=pool, owner=owner, node=self._node, requested=wanted)
        free = space.free(spans, (found.blocks[index][0] for index in sorted(found.blocks)))
        if wanted is None:
            return checked(self._picker.pick(free, ask), spans, found)
        if why := space.why_not(pool, wanted):
            raise AddressUnavailableError(f"requested address {wanted} {why}, pool {pool.name!r}")
        value = Requested().pick(free, ask)
        if value is None:
            block = found.blocks[wanted.value >> BLOCK_BITS][0]
            holder = block.leases[wanted.value - block.first]
            raise AddressUnavailableError(
                f"requested address {wanted} of pool {pool.name!r} is held",
                held_by(holder),
            )
        return value

    def acquire(self, want: IpamWant, owner: Owner, *, network: str = "") -> tuple[Lease, ...]:
        """Give an owner one address of each pool that ``want`` names, or none at all.

        Returns:
            The leases in the order of the pools.

        Raises:
            AddressUnavailableError: a requested address belongs to no pool, or cannot be had.
            PodnetError: as ``allocate``; leases that are new have been released again.
        """
        wanted = share_out(want.pools, want.requested)
        leases: list[Lease] = []
        fresh: list[Pool] = []
        try:
            for pool, address in zip(want.pools, wanted, strict=True):
                lease, new = self._allocate(pool, owner, network, address)
                leases.append(lease)
                if new:
                    fresh.append(pool)
        except BaseException as failure:
            self._take_back(owner, fresh, failure)
            raise
        return tuple(leases)

    def _take_back(self, owner: Owner, pools: list[Pool], failure: BaseException) -> None:
        for pool in reversed(pools):
            try:
                self.release(owner, pool=pool)
            except PodnetError as error:
                failure.add_note(f"a lease of pool {pool.name!r} may be left: {error}")

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
            key = key_of(holder.domain, holder.ip)
            return self._blocks.change(key, lambda block: grant.end(block, holder))
        domain = pool.domain if isinstance(pool, Pool) else pool
        name = pool.name if isinstance(pool, Pool) else None

        def revoke(block: Block) -> tuple[Block, tuple[Lease, ...]]:
            return grant.revoke(block, holder, pool=name, network=network)

        released: list[Lease] = []
        if domain is not None and (hinted := {parse_address(hint) for hint in hints}):
            for key in {key_of(domain, address) for address in hinted}:
                released += self._blocks.change(key, revoke)
            if hinted <= {lease.ip for lease in released}:
                return tuple(released)
        for key in self._blocks.keys(pool):
            released += self._blocks.change(key, revoke)
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
        swept: list[Lease] = []
        for key in self._blocks.keys(domain):
            swept += self._blocks.change(
                key, lambda block: grant.sweep(block, network=network, node=self._node, valid=alive)
            )
        return tuple(swept)

    def leases(self, pool: Pool | str | None = None) -> Iterator[Lease]:
        """Return the leases of a pool, of a domain by name, or all, in order of addresses.

        Raises:
            StoreError: the store is broken.
        """
        name = pool.name if isinstance(pool, Pool) else None
        for key in self._blocks.keys(pool):
            if (entry := self._blocks.load(key)) is not None:
                for _, lease in sorted(entry[0].leases.items()):
                    if name in (None, lease.pool):
                        yield lease

    def holds(self, owner: Owner, pool: Pool) -> Lease | None:
        """Return the lease of the pool that the owner has, or None.

        Raises:
            StoreError: the store is broken.
        """
        return self._blocks.look(pool, owner).lease

    def has_free(self, pool: Pool) -> bool:
        """Tell whether an address of the pool is free.

        Raises:
            InvalidConfigError: the pool cannot hold an address.
            StoreError: the store is broken.
        """
        blocks = (entry[0] for key in self._blocks.keys(pool) if (entry := self._blocks.load(key)))
        return next(space.free(space.intervals(pool), blocks), None) is not None


def _random() -> float:
    # Importing random costs 2 ms, in a process that lives for 30 and seldom meets another.
    return int.from_bytes(os.urandom(2)) / 0xFFFF


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
) -> Ipam:
    """Open the store that a URL names and manage addresses in it.

    Args:
        url: ``memory:``, ``file:FOLDER`` or a scheme of another package.
        node: name of this node, written on leases.
        picker: which free address to take; the lowest if not given.
        clock: seconds since the epoch.

    Raises:
        InvalidConfigError: no store has that scheme, or the URL is not one of it.
        StoreError: the store cannot be opened.
    """
    return Ipam(registry.open_store(url), node=node, picker=picker, clock=clock)
