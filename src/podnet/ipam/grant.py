"""Changes of one block, as pure functions: grant, renew, revoke, end and sweep.

Each returns the block itself, the same object, where nothing changes, so that a caller can tell
whether there is anything to swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.ipam import space
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, thawed
from podnet.model.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Collection

    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.model.pool import Pool


def grant(
    block: Block,
    value: int,
    pool: Pool,
    owner: Owner,
    *,
    node: str,
    network: str,
    now: float,
    claim: str = "",
) -> tuple[Block, Lease]:
    """Give a free address of the block to an owner.

    Args:
        block: holds the address, which must be free.
        value: the address as an integer.
        pool: where it is handed out from.
        owner: who gets it.
        node: node the owner runs on.
        network: CNI network it is for.
        now: seconds since the epoch.
        claim: what keeps the address beyond any container; empty for a usual lease.

    Raises:
        ValueError: the address is held; no lease is ever written over by another.
    """
    if value % BLOCK_SIZE in block.leases:
        raise ValueError(f"{Address(block.version, value)} was to be granted, and is held")
    lease = Lease(
        domain=block.domain,
        pool=pool.name,
        ip=Address(block.version, value),
        length=pool.network.length,
        owner=owner,
        node=node,
        network=network,
        since=now,
        sequence=block.sequence + 1,
        claim=claim,
    )
    return _with(block, value % BLOCK_SIZE, lease), lease


def find(block: Block, pool: str, owner: Owner, *, within: Pool | None = None) -> Lease | None:
    """Return the lease that ``owner`` already has in the pool of that name, or None.

    A lease of no known pool, which another program gave, is of the pool in whose range it lies:
    a domain may have several. Without ``within`` it is of any.

    It is the owner's if it is on the same interface of the same container, or of the pod of the
    same UID, whose container was replaced; the former goes first.
    """
    found = None
    container, ifname, uid = owner.container_id, owner.ifname, owner.pod_uid
    # No calls in here: this loop sees every lease of a pool at every request.
    for lease in block.leases.values():
        held_by = lease.owner
        if held_by.ifname == ifname and lease.pool in (pool, ""):
            if not lease.pool and within and space.why_not(within, lease.ip) is not None:
                continue
            if held_by.container_id == container:
                return lease
            if uid and held_by.pod_uid == uid:
                found = found or lease
    return found


def renew(
    block: Block,
    lease: Lease,
    owner: Owner,
    *,
    node: str,
    network: str,
    now: float = 0.0,
    anew: bool = False,
    pool: Pool | None = None,
) -> tuple[Block, Lease]:
    """Let ``owner`` keep a lease that it or an earlier container of its pod holds.

    The container id is replaced and the sequence moves on, so that the earlier container's late
    release finds nothing of its own; the new one has it since ``now``. Where both are the same
    nothing changes, but ``anew``.
    """
    if not lease.pool and pool is not None:
        # Known from now on; the folder or object that it was found in does not tell.
        lease, anew = evolve(lease, pool=pool.name, length=pool.network.length), True
    if (lease.owner, lease.node, lease.network) == (owner, node, network) and not anew:
        return block, lease
    sequence = block.sequence + 1
    since = lease.since if lease.owner.key == owner.key else max(lease.since, now)
    renewed = evolve(lease, owner=owner, node=node, network=network, since=since, sequence=sequence)
    return _with(block, lease.ip.value % BLOCK_SIZE, renewed), renewed


def revoke(
    block: Block,
    owner: Owner,
    *,
    pool: str | None = None,
    network: str | None = None,
    now: float = 0.0,
) -> tuple[Block, tuple[Lease, ...]]:
    """Take away the leases of one attachment: container id and interface name decide.

    Args:
        block: where to look.
        owner: whose leases; pod fields do not matter.
        pool: only leases of the pool of that name, or of no known pool.
        network: only leases for that CNI network.
        now: seconds since the epoch; the addresses are free since then.
    """
    container, ifname = owner.container_id, owner.ifname
    gone = [
        offset
        for offset, lease in block.leases.items()
        if lease.owner.container_id == container
        and lease.owner.ifname == ifname
        and (pool is None or lease.pool in (pool, ""))
        and network in (None, lease.network)
    ]
    return _without(block, gone, now)


def end(block: Block, grant: Lease, *, now: float = 0.0) -> tuple[Block, tuple[Lease, ...]]:
    """Take away one grant; a later one of the same address, even to the same owner, stays."""
    offset = grant.ip.value % BLOCK_SIZE
    lease = block.leases.get(offset)
    if lease is None or (lease.ip, lease.sequence, lease.owner.key) != (
        grant.ip,
        grant.sequence,
        grant.owner.key,
    ):
        return block, ()
    return _without(block, [offset], now)


def sweep(
    block: Block,
    *,
    network: str,
    node: str,
    valid: Collection[tuple[str, str]],
    now: float = 0.0,
) -> tuple[Block, tuple[Lease, ...]]:
    """Take away one node's leases for one network whose attachments are gone (CNI GC).

    Args:
        block: where to look.
        network: CNI network.
        node: leases of other nodes stay: a runtime knows its own node's attachments only. So do
            those that a claim keeps.
        valid: container id and interface name of each attachment that lives.
        now: seconds since the epoch; the addresses are free since then.
    """
    gone = [
        offset
        for offset, lease in block.leases.items()
        if lease.network == network
        and lease.node == node
        and not lease.claim
        and lease.owner.key not in valid
    ]
    return _without(block, gone, now)


def resting(block: Block, since: float) -> int:
    """Return the free offsets that were released after ``since``, as bits."""
    bits = 0
    for offset, when in block.freed.items():
        if when > since:
            bits |= 1 << offset
    return bits


def _with(block: Block, offset: int, lease: Lease) -> Block:
    leases = thawed(block.leases)
    leases[offset] = lease
    freed = block.freed
    if offset in freed:
        freed = {each: when for each, when in freed.items() if each != offset}
    return block.changed(leases, freed, lease.sequence, block.taken | 1 << offset)


def _without(block: Block, gone: list[int], now: float) -> tuple[Block, tuple[Lease, ...]]:
    if not gone:
        return block, ()
    leases, taken = thawed(block.leases), block.taken
    for offset in gone:
        del leases[offset]
        taken &= ~(1 << offset)
    freed = {**block.freed, **dict.fromkeys(gone, now)}
    removed = tuple(block.leases[offset] for offset in sorted(gone))
    return block.changed(leases, freed, block.sequence, taken), removed
