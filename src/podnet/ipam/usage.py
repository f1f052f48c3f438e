"""How full a pool is, and where in it: counted block by block, in the order of addresses.

Nothing here grows with the pool: a ``/64`` with a million leases takes what its map takes, and
blocks are looked at one after the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from podnet.ipam import space
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from podnet.ipam.space import Interval
    from podnet.model.block import Block
    from podnet.model.pool import Pool

_WHOLE = (1 << BLOCK_SIZE) - 1


@frozen(kw_only=True)
class Cell:
    """One run of addresses of a map; the counts add up to its size.

    Attributes:
        first: lowest address as an integer.
        last: highest address.
        mine: held, by owners on the node that looks.
        others: held, by owners elsewhere or nowhere.
        kept: held for a claim or an administrator.
        resting: free, and released a moment ago.
        lent: free, in a block that a node has for itself.
        closed: never handed out: excluded, reserved, the gateway, the edges.
        free: what is left.
    """

    first: int
    last: int
    mine: int = 0
    others: int = 0
    kept: int = 0
    resting: int = 0
    lent: int = 0
    closed: int = 0
    free: int = 0

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return self.last - self.first + 1

    @property
    def held(self) -> int:
        """How many of them are held."""
        return self.mine + self.others + self.kept


@frozen(kw_only=True)
class Usage:
    """What is known of one pool.

    Attributes:
        pool: the pool; where no definition is known, one that the leases tell of, with all the
            addresses of its network.
        defined: whether a definition is known.
        networks: names of the CNI networks that define it.
        size: addresses that may be handed out.
        used: of them, held, whoever handed them out.
        kept: of these, for a claim or an administrator.
        resting: free addresses whose cool-down is not over.
        closed: addresses of the network that are never handed out.
        outside: leases of the pool on addresses that it no longer hands out.
        blocks: blocks of the store in which it has addresses.
        by_node: node to leases on the pool's addresses; "" for leases that tell no node.
        holders: node to the blocks that it has for itself.
        free_runs: how many runs of free addresses there are.
        longest_free: how many addresses the longest of them has.
        cells: the map, if one was asked for; it may be of a part of the pool.
        moving: what is known of a move to another store; empty for none.
    """

    pool: Pool
    defined: bool = True
    networks: tuple[str, ...] = ()
    size: int = 0
    used: int = 0
    kept: int = 0
    resting: int = 0
    closed: int = 0
    outside: int = 0
    blocks: int = 0
    by_node: Mapping[str, int] = field(factory=dict)
    holders: Mapping[str, int] = field(factory=dict)
    free_runs: int = 0
    longest_free: int = 0
    cells: tuple[Cell, ...] = ()
    moving: str = ""

    @property
    def free(self) -> int:
        """Addresses that may be handed out and are not held."""
        return self.size - self.used


def window(pool: Pool, extent: Interval | None, cells: int) -> Interval:
    """Return which part of a pool a map shows: all of it, unless what is in use is lost in it.

    Args:
        pool: the pool, which has addresses.
        extent: lowest and highest index of its blocks in the store; None if there are none.
        cells: how many the map has.
    """
    network = pool.network
    low = network.first if pool.first is None else space.bounds(pool)[0]
    high = network.last if pool.last is None else space.bounds(pool)[1]
    if extent is None:
        return low, high
    first = max(low, extent[0] << BLOCK_BITS)
    last = min(high, (extent[1] << BLOCK_BITS) + BLOCK_SIZE - 1)
    # A cell of the whole would be larger than all that is in use.
    if first > last or (high - low + 1) // cells <= last - first + 1:
        return low, high
    return first, last


@define
class _Runs:
    """Counts runs of free addresses between held ones that come in ascending order."""

    spans: Sequence[Interval]
    at: int = 0
    count: int = 0
    longest: int = 0

    def held(self, low: int, high: int) -> None:
        """Take note of a run of held addresses."""
        if low > self.at:
            self._free(self.at, low - 1)
        self.at = max(self.at, high + 1)

    def _free(self, low: int, high: int) -> None:
        spans = self.spans
        for n in range(bisect_left(spans, low, key=lambda span: span[1]), len(spans)):
            first, last = max(low, spans[n][0]), min(high, spans[n][1])
            if first > last:
                return
            self.count += 1
            self.longest = max(self.longest, last - first + 1)

    def end(self) -> None:
        """Count what is above the last held address."""
        if self.spans:
            self._free(self.at, self.spans[-1][1])


@define
class _Map:
    """Counts of a map's cells by kind."""

    low: int
    high: int
    cells: int
    counts: dict[str, list[int]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.cells = max(1, min(self.cells, self.high - self.low + 1))
        kinds = ("mine", "others", "kept", "resting", "lent")
        self.counts = {kind: [0] * self.cells for kind in kinds}

    def add(self, kind: str, value: int) -> None:
        if self.low <= value <= self.high:
            at = (value - self.low) * self.cells // (self.high - self.low + 1)
            self.counts[kind][at] += 1

    def done(self, spans: Sequence[Interval]) -> tuple[Cell, ...]:
        found = []
        total = self.high - self.low + 1
        for n in range(self.cells):
            # The addresses that `add` counts for it, and no others.
            first = self.low + -(-n * total // self.cells)
            last = self.low + -(-(n + 1) * total // self.cells) - 1
            open_ = sum(high - low + 1 for low, high in _inside(spans, first, last))
            counts = {kind: counted[n] for kind, counted in self.counts.items()}
            cell = Cell(first=first, last=last, closed=last - first + 1 - open_, **counts)
            free = open_ - cell.held - cell.resting - cell.lent
            found.append(evolve(cell, free=free))
        return tuple(found)


class Tally:
    """Counts one pool, block by block."""

    def __init__(
        self,
        pool: Pool,
        *,
        now: float,
        node: str = "",
        cells: int = 0,
        extent: Interval | None = None,
    ) -> None:
        """Begin.

        Args:
            pool: what is counted.
            now: seconds since the epoch.
            node: the node that looks.
            cells: how many cells the map is to have; 0 for no map.
            extent: lowest and highest index of the blocks that will come; None for none.

        Raises:
            InvalidConfigError: the pool cannot hold an address.
        """
        self.pool = pool
        self._spans = space.intervals(pool)
        self._node, self._now = node, now
        self._runs = _Runs(self._spans)
        self._used = self._kept = self._resting = self._outside = self._blocks = 0
        self._nodes: Counter[str] = Counter()
        self._holders: Counter[str] = Counter()
        self._map = _Map(*window(pool, extent, cells), cells) if cells else None

    def touches(self, block: Block) -> bool:
        """Tell whether the pool's network has addresses of a block of its domain."""
        network = self.pool.network
        return (
            block.version == network.version
            and network.first >> BLOCK_BITS <= block.index <= network.last >> BLOCK_BITS
        )

    def add(self, block: Block) -> None:
        """Count a block; blocks come in ascending order."""
        bits = self._bits(block)
        taken = block.taken & bits
        self._blocks += bool(bits)
        self._used += taken.bit_count()
        for low, high in _runs(taken):
            self._runs.held(block.first + low, block.first + high)
        for offset, lease in block.leases.items():
            if bits >> offset & 1:
                self._count(block.first + offset, lease.node, kept=bool(lease.claim))
            elif lease.pool == self.pool.name:
                self._outside += 1
        resting = self._rest(block, bits & ~taken)
        if block.holder and bits:
            self._holders[block.holder] += 1
            if self._map:
                for low, high in _runs(bits & ~taken & ~resting):
                    for offset in range(low, high + 1):
                        self._map.add("lent", block.first + offset)

    def _bits(self, block: Block) -> int:
        """Return the offsets of the block that the pool may hand out, as bits."""
        bits, first = 0, block.first
        for low, high in _inside(self._spans, first, first + BLOCK_SIZE - 1):
            bits |= (1 << (high - first + 1)) - (1 << (low - first))
        return bits & _WHOLE

    def _count(self, value: int, node: str, *, kept: bool) -> None:
        self._nodes[node] += 1
        self._kept += kept
        if self._map:
            mine = node == self._node and node != ""
            self._map.add("kept" if kept else "mine" if mine else "others", value)

    def _rest(self, block: Block, free: int) -> int:
        resting = 0
        for offset, when in block.freed.items():
            if free >> offset & 1 and when > self._now - self.pool.cool_down:
                resting |= 1 << offset
                if self._map:
                    self._map.add("resting", block.first + offset)
        self._resting += resting.bit_count()
        return resting

    def done(self, *, defined: bool = True, networks: tuple[str, ...] = ()) -> Usage:
        """Return what was counted; nothing can be added after it."""
        self._runs.end()
        network, size = self.pool.network, space.size(self._spans)
        return Usage(
            pool=self.pool,
            defined=defined,
            networks=networks,
            size=size,
            used=self._used,
            kept=self._kept,
            resting=self._resting,
            closed=network.last - network.first + 1 - size,
            outside=self._outside,
            blocks=self._blocks,
            by_node=dict(sorted(self._nodes.items())),
            holders=dict(sorted(self._holders.items())),
            free_runs=self._runs.count,
            longest_free=self._runs.longest,
            cells=self._map.done(self._spans) if self._map else (),
        )


def _inside(spans: Sequence[Interval], low: int, high: int) -> Iterator[Interval]:
    """Return what of ascending spans lies between two addresses."""
    for n in range(bisect_left(spans, low, key=lambda span: span[1]), len(spans)):
        if spans[n][0] > high:
            return
        yield max(low, spans[n][0]), min(high, spans[n][1])


def _runs(bits: int) -> Iterator[Interval]:
    """Return the runs of ones, ascending."""
    at = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        length = (~bits & (bits + 1)).bit_length() - 1
        yield at + skip, at + skip + length - 1
        bits >>= length
        at += skip + length
