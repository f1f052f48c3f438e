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
    from collections.abc import Iterable, Iterator, Sequence

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


def free(spans: Iterable[Interval], blocks: Iterable[Block]) -> Iterator[Interval]:
    """Return the free addresses as ascending intervals, those of unknown blocks included.

    Args:
        spans: what the pool may hand out.
        blocks: the existing blocks in ascending order; read only as far as the caller reads.
    """
    held = ((b.first + offset,) * 2 for b in blocks for offset in sorted(b.leases))
    return subtract(spans, held)


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
