"""Hypothesis strategies for the nouns of address management."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from hypothesis import assume
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError
from podnet.ipam import space
from podnet.model.addresses import BITS, Address, Prefix, Span
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.model.pool import EDGES, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
_IDS = st.text("0123456789abcdef", min_size=1, max_size=64)
_IFNAMES = st.sampled_from(["eth0", "eth1", "net1"])


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    versions: Sequence[int] = (4, 6),
    shortest: int = 0,
    longest: int | None = None,
) -> Prefix:
    """Networks of any length, without host bits.

    Args:
        draw: given by Hypothesis.
        versions: families to choose from.
        shortest: least prefix length.
        longest: greatest prefix length; None for the family's.
    """
    version = draw(st.sampled_from(list(versions)))
    bits = BITS[version]
    length = draw(st.integers(shortest, min(bits, bits if longest is None else longest)))
    value = draw(st.integers(0, (1 << bits) - 1))
    return Prefix(Address(version, value), length).masked


@st.composite
def pools(
    draw: st.DrawFn,
    *,
    within: st.SearchStrategy[Prefix] | None = None,
    name: str | None = None,
    domain: str | None = None,
) -> Pool:
    """Pools with ranges, excludes, gateway and reserved addresses; some may hand out nothing.

    Args:
        draw: given by Hypothesis.
        within: networks to take; any if not given.
        name: the pool's name; any if not given.
        domain: its collision domain; its name if not given.
    """
    network = draw(networks() if within is None else within)
    inside = st.integers(network.first, network.last)
    near = st.one_of(
        inside,
        st.integers(network.first, min(network.last, network.first + 5)),
        st.integers(max(network.first, network.last - 5), network.last),
    )

    def address() -> Address:
        return Address(network.version, draw(near))

    low, high = sorted((address(), address()))
    spans = st.lists(
        st.tuples(near, near).map(lambda two: Span(network.version, min(two), max(two))),
        max_size=3,
    )
    return Pool(
        draw(_NAMES) if name is None else name,
        network,
        first=low if draw(st.booleans()) else None,
        last=high if draw(st.booleans()) else None,
        exclude=draw(spans),
        gateway=address() if draw(st.booleans()) else None,
        reserved=draw(spans),
        domain=domain,
        edges=draw(st.sampled_from(EDGES)),
    )


@st.composite
def owners(draw: st.DrawFn) -> Owner:
    """Owners with and without a pod."""
    owner = Owner(draw(_IDS), draw(_IFNAMES))
    if draw(st.booleans()):
        return evolve(
            owner,
            pod_namespace=draw(_NAMES),
            pod_name=draw(_NAMES),
            pod_uid=draw(st.just("") | _IDS),
        )
    return owner


@st.composite
def requests(draw: st.DrawFn, pool: Pool) -> Address:
    """Addresses to ask a pool for: most can be had, some are taken out, outside or at its ends."""
    try:
        spans = space.intervals(pool)
    except InvalidConfigError:
        spans = ()
    choices = [st.integers(low, high) for low, high in spans]
    top = (1 << BITS[pool.network.version]) - 1
    choices.append(st.integers(max(0, pool.network.first - 2), min(top, pool.network.last + 2)))
    return Address(pool.network.version, draw(st.one_of(choices)))


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Blocks anywhere in the address space, empty to full."""
    version = draw(st.sampled_from([4, 6]))
    top = (1 << (BITS[version] - BLOCK_BITS)) - 1
    index = draw(st.integers(0, top) | st.just(top))
    domain = draw(_NAMES)
    offsets = draw(st.sets(st.integers(0, BLOCK_SIZE - 1), max_size=6))
    assume(domain)
    # Above 64 bits now and then: what a store counts with must not be narrower than Python's.
    sequence = draw(st.integers(len(offsets), 1 << 70))
    leases = {
        offset: Lease(
            domain=domain,
            pool=draw(_NAMES),
            ip=Address(version, (index << BLOCK_BITS) + offset),
            length=draw(st.integers(0, BITS[version])),
            owner=draw(owners()),
            node=draw(st.just("") | _NAMES),
            network=draw(st.just("") | _NAMES),
            since=draw(st.floats(0, 1e11, allow_nan=False)),
            sequence=draw(st.integers(0, sequence)),
        )
        for offset in offsets
    }
    return Block(domain=domain, version=version, index=index, leases=leases, sequence=sequence)
