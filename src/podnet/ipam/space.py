"""Which addresses a pool may hand out: ranges − excludes − gateway − reserved, as intervals.

Intervals are pairs of integers, both ends included, ascending and apart. Nothing here counts
single addresses, so that an IPv6 ``/0`` costs what a ``/24`` does.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from podnet.errors import InvalidConfigError
from podnet.model.addresses import BITS
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE
from podnet.model.pool import INNER, STANDARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from podnet.ipam.runs import Runs
    from podnet.model.addresses import Address, Prefix
    from podnet.model.block import Block
    from podnet.model.pool import Pool

    Interval = tuple[int, int]


def usable(network: Prefix, edges: str) -> Interval:
    """Return the lowest and highest address of a network that an edge rule permits.

    Raises:
        InvalidConfigError: the rule leaves none.
    """
    first, last, host_bits = network.first, network.last, BITS[network.version] - network.length
    if edges == INNER:
        if host_bits < 2:
            raise InvalidConfigError(
                f"net mask is too short, subnet {network} has no usable IP addresses, it is too "
                "small"
            )
        return first + 1, last - 1
    if edges == STANDARD and host_bits > 1:
        return first + 1, last - 1 if network.version == 4 else last
    return first, last


def bounds(pool: Pool) -> Interval:
    """Return lowest and highest address of a pool's range before excludes.

    ``first`` and ``last`` at an edge that the rule forbids mean the nearest address it permits.

    Raises:
        InvalidConfigError: the range holds no usable address.
    """
    low, high = usable(pool.network, pool.edges)
    if pool.first is not None:
        low = max(low, pool.first.value)
    if pool.last is not None:
        high = min(high, pool.last.value)
    if low > high:
        raise InvalidConfigError(f"pool {pool.name!r}: its range holds no usable address")
    return low, high


def intervals(pool: Pool) -> tuple[Interval, ...]:
    """Return every address the pool may hand out, held or not; may be empty.

    Raises:
        InvalidConfigError: the network is too small for its edge rule, or the range is empty.
    """
    spans = (*pool.exclude, *pool.reserved)
    cuts = [(s.first, s.last) for s in spans if s.version == pool.network.version]
    if pool.gateway is not None:
        cuts.append((pool.gateway.value, pool.gateway.value))
    return tuple(subtract([bounds(pool)], sorted(cuts)))


def subtract(spans: Iterable[Interval], cuts: Iterable[Interval]) -> Iterator[Interval]:
    """Return what of ascending ``spans`` no cut covers.

    Args:
        spans: ascending and apart.
        cuts: ordered by their lower end, may overlap; read only as far as the caller reads.
    """
    rest = iter(cuts)
    cut = next(rest, None)
    for low, high in spans:
        start = low
        while cut is not None and cut[0] <= high:
            if cut[0] > start:
                yield start, cut[0] - 1
            start = max(start, cut[1] + 1)
            if cut[1] > high:  # it may reach into the next span
                break
            cut = next(rest, None)
        if start <= high:
            yield start, high


def size(spans: Iterable[Interval]) -> int:
    """Return how many addresses the intervals hold."""
    return sum(high - low + 1 for low, high in spans)


def covers(spans: Sequence[Interval], value: int) -> bool:
    """Tell whether an interval holds the address."""
    at = bisect_left(spans, value, key=lambda span: span[1])
    return at < len(spans) and spans[at][0] <= value


def block_count(spans: Sequence[Interval]) -> int:
    """Return how many blocks the intervals touch."""
    count, before = 0, -1
    for low, high in spans:
        start = max(low >> BLOCK_BITS, before + 1)
        before = high >> BLOCK_BITS
        count += max(0, before - start + 1)
    return count


def block_indexes(spans: Sequence[Interval]) -> Iterator[int]:
    """Return the indexes of the blocks that the intervals touch, in order."""
    before = -1
    for low, high in spans:
        yield from range(max(low >> BLOCK_BITS, before + 1), (high >> BLOCK_BITS) + 1)
        before = high >> BLOCK_BITS


def touches(spans: Sequence[Interval], index: int) -> bool:
    """Tell whether an interval has an address in the block."""
    low = index << BLOCK_BITS
    at = bisect_left(spans, low, key=lambda span: span[1])
    return at < len(spans) and spans[at][0] < low + BLOCK_SIZE


def free(spans: Sequence[Interval], blocks: Iterable[Block]) -> Iterator[Interval]:
    """Return the free addresses as ascending intervals, those of unknown blocks included.

    Args:
        spans: what the pool may hand out.
        blocks: the existing blocks.
    """
    taken = {block.index: block.taken for block in blocks}
    return iter(Free(spans, taken, sorted(taken)))


class Free:
    """The free addresses of a pool, read as far as somebody asks.

    Iterating gives ascending inclusive intervals that do not overlap; two may touch.
    """

    def __init__(
        self,
        spans: Sequence[Interval],
        taken: Mapping[int, int],
        order: Sequence[int],
        full: Runs | None = None,
    ) -> None:
        """Take what is known; it is not copied and must stay as it is while this is in use.

        Args:
            spans: what the pool may hand out, ascending and apart.
            taken: index of a block to its held offsets as bits; a block that is absent is free.
            order: the keys of ``taken``, ascending.
            full: indexes of blocks that are known to have no free address of the spans. A block
                of ``order`` that turns out to be so is added.
        """
        self._spans = spans
        self._taken = taken
        self._order = order
        self._full = full

    def __iter__(self) -> Iterator[Interval]:
        return self.after(0)

    def after(self, value: int) -> Iterator[Interval]:
        """Return the same, but from the number ``value`` upward."""
        spans = self._spans
        for at in range(bisect_left(spans, value, key=lambda span: span[1]), len(spans)):
            low, high = max(spans[at][0], value), spans[at][1]
            if self._full is None or not self._full:
                yield from self._between(low, high)
                continue
            for first, last in list(self._full.starting(low >> BLOCK_BITS)):
                start, end = first << BLOCK_BITS, ((last + 1) << BLOCK_BITS) - 1
                if start > high:
                    break
                if start > low:
                    yield from self._between(low, start - 1)
                low = max(low, end + 1)
            if low <= high:
                yield from self._between(low, high)

    def known(self) -> Iterator[Interval]:
        """Return what is free in blocks that exist, ascending."""
        for index in self._unspent():
            low, hole = index << BLOCK_BITS, None
            for first, last in clipped(self._spans, low, low + BLOCK_SIZE - 1):
                for hole in _holes(low, self._taken[index], first, last):
                    yield hole
            if hole is None and self._full is not None:
                self._full.add(index)

    def _unspent(self) -> Iterator[int]:
        """Return the blocks of ``order`` that are not known to be full, ascending."""
        order, at = self._order, 0
        for first, last in () if self._full is None else list(self._full.starting(0)):
            yield from order[at : bisect_left(order, first, at)]
            at = bisect_left(order, last + 1, at)
        yield from order[at:]

    def _between(self, low: int, high: int) -> Iterator[Interval]:
        order, last_index = self._order, high >> BLOCK_BITS
        at = bisect_left(order, low >> BLOCK_BITS)
        while at < len(order) and (index := order[at]) <= last_index:
            first = index << BLOCK_BITS
            if low < first:
                yield low, first - 1
            low, end = max(low, first), first + BLOCK_SIZE - 1
            holes = _holes(first, self._taken[index], low, min(high, end))
            hole = next(holes, None)
            if hole is not None:
                yield hole
                yield from holes
            elif self._full is not None and self._spent(index):
                self._full.add(index)
            low = end + 1
            at += 1
        if low <= high:
            yield low, high

    def _spent(self, index: int) -> bool:
        low = index << BLOCK_BITS
        return not any(
            next(_holes(low, self._taken[index], first, last), None)
            for first, last in clipped(self._spans, low, low + BLOCK_SIZE - 1)
        )


def clipped(spans: Sequence[Interval], low: int, high: int) -> Iterator[Interval]:
    """Return the parts of ascending intervals between two addresses, both included."""
    for at in range(bisect_left(spans, low, key=lambda span: span[1]), len(spans)):
        if spans[at][0] > high:
            return
        yield max(low, spans[at][0]), min(high, spans[at][1])


def _holes(first: int, taken: int, low: int, high: int) -> Iterator[Interval]:
    """Return the runs of zero bits of ``taken`` between two addresses of one block."""
    rest = ~taken & ((1 << (high - first + 1)) - 1) & (-1 << (low - first))
    while rest:
        start = (rest & -rest).bit_length() - 1
        beyond = rest >> start
        length = (~beyond & (beyond + 1)).bit_length() - 1
        yield first + start, first + start + length - 1
        rest = beyond >> length << (start + length)


def why_not(pool: Pool, address: Address) -> str | None:
    """Return why the pool never hands an address out, or None where it may."""
    if address not in pool.network:
        return f"is outside {pool.network}"
    if address == pool.gateway:
        return "is the gateway"
    low, high = usable(pool.network, pool.edges)
    if not low <= address.value <= high:
        return f"is the first or last address of {pool.network}"
    if not (bounds(pool)[0] <= address.value <= bounds(pool)[1]):
        return "is outside the pool's range"
    for spans, what in ((pool.exclude, "excluded"), (pool.reserved, "reserved")):
        for span in spans:
            if address in span:
                return f"is {what} by {span}"
    return None
