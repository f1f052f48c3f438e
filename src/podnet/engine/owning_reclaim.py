"""Taking away what a dead node held, on somebody's word that it is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.errors import PodnetError, TryAgainLaterError
from podnet.ipam import owned

if TYPE_CHECKING:
    from podnet.model.lease import Lease
    from podnet.ports import Store

_ATTEMPTS = 100


@frozen
class Reclaimed:
    """What was taken away.

    Attributes:
        blocks: keys of the blocks that the node held and that are everybody's now.
        leases: its leases that ended, wherever they were.
    """

    blocks: tuple[str, ...]
    leases: tuple[Lease, ...]


def reclaim(store: Store, node: str, *, here: str, lost: bool, now: float) -> Reclaimed:
    """End a dead node's leases and take its blocks from it.

    Args:
        store: where; of two tiers or not.
        node: the dead one.
        here: name of this node.
        lost: ``node`` is this node, come back without its own store; only what is in blocks it
            held is taken away then.
        now: seconds since the epoch.

    Raises:
        PodnetError: the node is this one, and lives.
        TryAgainLaterError: a block changed faster than it could be read.
        StoreError: the store is broken; what is done is done, and doing it again does the rest.
    """
    if not node:
        raise PodnetError("a node without a name holds no blocks")
    if node == here and not lost:
        raise PodnetError(
            f"{node!r} is this very node, and it lives",
            "its blocks are given back by drain; that its own store is lost has to be said",
        )
    # What this node holds since then bears its name as well, and is not lost.
    holder: str = getattr(store, "elsewhere", node) if node == here else node
    blocks: list[str] = []
    leases: list[Lease] = []
    for key in list(store.keys("")):
        held, gone = _reclaim_block(store, key, node, holder, alone=node == here, now=now)
        blocks += [key] * held
        leases += gone
    return Reclaimed(tuple(blocks), tuple(leases))


def _reclaim_block(
    store: Store, key: str, node: str, holder: str, *, alone: bool, now: float
) -> tuple[bool, tuple[Lease, ...]]:
    for _ in range(_ATTEMPTS):
        entry = store.load(key)
        if entry is None or (alone and entry[0].holder != holder):
            return False, ()
        block, version = entry
        new, gone = owned.reclaimed(block, node, now, holder=holder)
        if new is block:
            return False, ()
        if store.swap(key, new, version):
            return block.holder == holder, gone
    raise TryAgainLaterError(f"block {key} changes faster than it can be read")
