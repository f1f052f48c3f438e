"""What is known of one domain's blocks of one family: which are there, and what is free in them."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Protocol
from weakref import ref
from zlib import crc32

from attrs import frozen

from podnet.errors import StoreError
from podnet.ipam import space
from podnet.ipam.holders import OwnerIndex
from podnet.ipam.runs import Runs
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block, block_key, domain_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podnet.ipam.space import Interval
    from podnet.model.addresses import Address
    from podnet.model.lease import Lease, Owner
    from podnet.model.pool import Pool
    from podnet.ports import Picker

# Up to this many blocks it is cheaper to load each than to ask which exist.
FEW_BLOCKS = 8
# Decoded blocks that a lane of a large pool keeps at hand.
_AT_HAND = 32
ALL_TAKEN = (1 << BLOCK_SIZE) - 1


class Listener(Protocol):
    """Somebody who keeps in mind which blocks are full."""

    def discard(self, index: int) -> None:
        """A block is not, or need not be any more."""


@frozen(eq=False)
class Plan:
    """What there is to know of a pool before any block is read.

    Attributes:
        pool: the pool.
        spans: every address it may hand out.
        picker: takes one of the free ones.
        indexes: the blocks of its whole network where they are few; else empty. An owner's lease
            may lie outside the pool's range since the configuration changed.
        full: blocks that are known to have no free address of the spans.
    """

    pool: Pool
    spans: tuple[Interval, ...]
    picker: Picker
    indexes: tuple[int, ...]
    full: Runs

    @classmethod
    def of(cls, pool: Pool, picker: Picker) -> Plan:
        """Work it out.

        Raises:
            InvalidConfigError: the pool cannot hold an address.
        """
        whole = [(pool.network.first, pool.network.last)]
        few = space.block_count(whole) <= FEW_BLOCKS
        indexes = tuple(space.block_indexes(whole)) if few else ()
        return cls(pool, space.intervals(pool), picker, indexes, Runs())

    def touches(self, index: int) -> bool:
        """Tell whether the block has an address of the pool's network."""
        network = self.pool.network
        return network.first >> BLOCK_BITS <= index <= network.last >> BLOCK_BITS


class Lane:
    """The blocks of one domain and family as last seen; ``Turn`` makes sure of those it changes.

    Attributes:
        blocks: decoded blocks with their versions, the last seen ones.
        owners: who holds leases in ``blocks``.
        taken: index of each block ever seen to its held offsets as bits; all, where another node
            holds the block.
        order: the keys of ``taken``, ascending.
        foreign: those of them that another node holds, with what it told of its held offsets.
        unseen: blocks that exist and that nobody looked at yet, ascending; they are in ``taken`` as
            if all were held.
        last: name of a pool to the address handed out of it last.
        contended: attempts still to be made in the store's queue, since one was lost to others.
    """

    def __init__(self, domain: str, version: int) -> None:
        """Know nothing yet."""
        self.domain = domain
        self.version = version
        self.prefix = domain_prefix(domain, version)
        self.blocks: dict[int, tuple[Block, str]] = {}
        self.owners = OwnerIndex()
        self.taken: dict[int, int] = {}
        self.order: list[int] = []
        self.foreign: dict[int, int] = {}
        self.unseen: list[int] = []
        self.last: dict[str, Address] = {}
        self.contended = 0
        # By weak references: who keeps what he knows of full blocks is told, and nobody else.
        self._full: dict[int, ref[Listener]] = {}
        self._listed: set[int] = set()
        self._keys: dict[int, str] = {}

    def key(self, index: int) -> str:
        """Return the key of a block."""
        key = self._keys.get(index)
        if key is None:
            key = self._keys[index] = block_key(self.domain, self.version, index)
            if len(self._keys) > 4 * _AT_HAND:
                del self._keys[next(iter(self._keys))]
        return key

    def serve(self, plan: Plan) -> None:
        """Keep the plan's full blocks up to date, as long as anybody uses the plan."""
        self.listen(plan.full)

    def listen(self, listener: Listener) -> None:
        """Tell somebody else, too, in which blocks something became free, while he is there."""
        number = id(listener)

        def forget(_: object) -> None:
            self._full.pop(number, None)
            self._listed.discard(number)

        self._full[number] = ref(listener, forget)

    def ignore(self, listener: Listener) -> None:
        """Tell him no more."""
        self._full.pop(id(listener), None)

    def stir(self, index: int) -> None:
        """Take note that something may be free in a block."""
        # A copy: other threads serve plans that are new.
        for each in tuple(self._full.values()):
            listener = each()
            if listener is not None:
                listener.discard(index)

    def check(self, key: str, index: int, block: Block) -> None:
        """Refuse a block that is not the one its key says.

        Raises:
            StoreError: other hands put it there.
        """
        if (block.index, block.version, block.domain) != (index, self.version, self.domain):
            raise StoreError(f"the store has the block {block.key!r} under the key {key!r}")

    def see(self, index: int, entry: tuple[Block, str] | None, *, usable: bool) -> None:
        """Take note of what the store has; None for no block."""
        if entry is None:
            self.forget(index)
            return
        before = self.blocks.pop(index, None)
        block = entry[0]
        self.blocks[index] = entry
        if before is None or before[0] is not block:
            self.owners.update(self.key(index), None if before is None else before[0], block)
            self.mark(index, block.taken if usable else ALL_TAKEN)
            if usable:
                self.foreign.pop(index, None)
            else:
                self.foreign[index] = block.taken
        if len(self.blocks) > _AT_HAND:
            self._let_go(next(iter(self.blocks)))

    def swapped(
        self,
        index: int,
        block: Block,
        gone: Iterable[Lease],
        come: Iterable[Lease],
        *,
        usable: bool,
    ) -> None:
        """Take note of a block that was swapped in, knowing what it changed.

        Its version is not known; nothing is decided on it without a load.
        """
        before = self.blocks.get(index)
        if before is None:
            self.see(index, (block, ""), usable=usable)
            return
        key = self.key(index)
        for lease in gone:
            self.owners.remove(key, lease.owner)
        for lease in come:
            self.owners.add(key, lease.owner)
        self.blocks[index] = (block, "")
        self.mark(index, block.taken if usable else ALL_TAKEN)

    def mark(self, index: int, taken: int) -> None:
        """Take note of what is held in a block."""
        before = self.taken.get(index)
        if before is None:
            insort(self.order, index)
        elif self.unseen and index in self.unseen:
            self.unseen.remove(index)
        if before is None or before & ~taken:
            self.stir(index)
        self.taken[index] = taken

    def forget(self, index: int) -> None:
        """Know nothing of a block any more."""
        if index in self.blocks:
            self._let_go(index)
        self.foreign.pop(index, None)
        if self.unseen and index in self.unseen:
            self.unseen.remove(index)
        if index in self.taken:
            self.stir(index)
            del self.taken[index], self.order[bisect_left(self.order, index)]

    def reset(self) -> None:
        """Know nothing of any block any more: what was noted last may not be so."""
        seen = {*self.taken, *self.order}
        self.blocks, self.owners = {}, OwnerIndex()
        self.taken, self.order, self.foreign, self.unseen = {}, [], {}, []
        self._listed.clear()
        for index in seen:
            self.stir(index)

    def _let_go(self, index: int) -> None:
        block, _ = self.blocks.pop(index)
        self.owners.update(self.key(index), block, None)

    def listed(self, plan: Plan) -> bool:
        """Tell whether it is known which blocks of the plan exist."""
        return id(plan.full) in self._listed

    def exists(self, index: int) -> bool:
        """Tell whether a block is known to exist."""
        return index in self.taken

    def list(self, plan: Plan, indexes: Iterable[int]) -> None:
        """Take note of blocks that exist, and of which nothing else is known."""
        self._listed.add(id(plan.full))
        new = [index for index in indexes if index not in self.taken]
        for index in new:
            self.taken[index] = ALL_TAKEN
        self.order = sorted(self.taken)
        self.unseen = sorted({*self.unseen, *new})

    def next_unseen(self, plan: Plan, owner: Owner) -> int | None:
        """Return a block of the plan that nobody looked at: the last, or one the owner decides.

        Blocks are begun in ascending order, so that most of what is free is in the last one.
        """
        network = plan.pool.network
        low = bisect_left(self.unseen, network.first >> BLOCK_BITS)
        high = bisect_left(self.unseen, (network.last >> BLOCK_BITS) + 1)
        if low >= high:
            return None
        if self.unseen[high - 1] == self.order[-1]:
            return self.unseen[high - 1]
        return self.unseen[low + crc32(owner.container_id.encode()) % (high - low)]

    def inside(self, plan: Plan) -> Iterator[int]:
        """Return the indexes of blocks seen that have addresses of the plan's network."""
        network = plan.pool.network
        for at in range(
            bisect_left(self.order, network.first >> BLOCK_BITS),
            bisect_left(self.order, (network.last >> BLOCK_BITS) + 1),
        ):
            yield self.order[at]
