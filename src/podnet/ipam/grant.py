"""Changes of one block, as pure functions: grant, renew, revoke, end and sweep.

Each returns the block itself, the same object, where nothing changes, so that a caller can tell
whether there is anything to swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from podnet.model.lease import Owner
    from podnet.model.pool import Pool


def grant(
    block: Block, value: int, pool: Pool, owner: Owner, *, node: str, network: str, now: float
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
    """
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
    )
    return _with(block, {value % BLOCK_SIZE: lease}, block.sequence + 1), lease


def find(block: Block, pool: str, owner: Owner) -> Lease | None:
    """Return the lease that ``owner`` already has in the pool of that name, or None.

    It is the owner's if it is on the same interface of the same container, or of the pod of the
    same UID, whose container was replaced; the former goes first.
    """
    found = None
    container, ifname, uid = owner.container_id, owner.ifname, owner.pod_uid
    # No calls in here: this loop sees every lease of a pool at every request.
    for lease in block.leases.values():
        held_by = lease.owner
        if held_by.ifname == ifname and lease.pool == pool:
            if held_by.container_id == container:
                return lease
            if uid and held_by.pod_uid == uid:
                found = found or lease
    return found


def renew(
    block: Block, lease: Lease, owner: Owner, *, node: str, network: str
) -> tuple[Block, Lease]:
    """Let ``owner`` keep a lease that it or an earlier container of its pod holds.

    The container id is replaced and the sequence moves on, so that the earlier container's late
    release finds nothing of its own.
    """
    if lease.owner == owner and lease.node == node and lease.network == network:
        return block, lease
    sequence = block.sequence + 1
    renewed = evolve(lease, owner=owner, node=node, network=network, sequence=sequence)
    return _with(block, {lease.ip.value % BLOCK_SIZE: renewed}, sequence), renewed


def revoke(
    block: Block, owner: Owner, *, pool: str | None = None, network: str | None = None
) -> tuple[Block, tuple[Lease, ...]]:
    """Take away the leases of one attachment: container id and interface name decide.

    Args:
        block: where to look.
        owner: whose leases; pod fields do not matter.
        pool: only leases of the pool of that name.
        network: only leases for that CNI network.
    """
    return _without(
        block,
        lambda lease: (
            lease.owner.key == owner.key
            and pool in (None, lease.pool)
            and network in (None, lease.network)
        ),
    )


def end(block: Block, grant: Lease) -> tuple[Block, tuple[Lease, ...]]:
    """Take away one grant; a later one of the same address, even to the same owner, stays."""
    return _without(
        block,
        lambda lease: (
            (lease.ip, lease.sequence, lease.owner.key)
            == (grant.ip, grant.sequence, grant.owner.key)
        ),
    )


def sweep(
    block: Block, *, network: str, node: str, valid: Collection[tuple[str, str]]
) -> tuple[Block, tuple[Lease, ...]]:
    """Take away one node's leases for one network whose attachments are gone (CNI GC).

    Args:
        block: where to look.
        network: CNI network.
        node: leases of other nodes stay: a runtime knows its own node's attachments only.
        valid: container id and interface name of each attachment that lives.
    """
    return _without(
        block,
        lambda lease: (
            lease.network == network and lease.node == node and lease.owner.key not in valid
        ),
    )


def _with(block: Block, leases: dict[int, Lease], sequence: int) -> Block:
    return evolve(block, leases={**block.leases, **leases}, sequence=sequence)


def _without(block: Block, gone: Callable[[Lease], bool]) -> tuple[Block, tuple[Lease, ...]]:
    removed = {offset: lease for offset, lease in block.leases.items() if gone(lease)}
    if not removed:
        return block, ()
    kept = {offset: lease for offset, lease in block.leases.items() if offset not in removed}
    return evolve(block, leases=kept), tuple(removed[offset] for offset in sorted(removed))
