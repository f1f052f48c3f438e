"""Hypothesis strategies for the nouns of address management."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError
from podnet.ipam import space
from podnet.model.addresses import BITS, Address, Prefix, Span
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.model.pool import EDGES, MODES, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
_IDS = st.text("0123456789abcdef", min_size=1, max_size=64)
_IFNAMES = st.sampled_from(["eth0", "eth1", "net1"])
_TIMES = st.floats(0, 1e11, allow_nan=False)
_OFFSETS = st.integers(0, BLOCK_SIZE - 1) | st.sampled_from([0, 255, 256, BLOCK_SIZE - 1])


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
        cool_down=draw(st.sampled_from([0.0, 0.5, 300.0])),
        mode=draw(st.sampled_from(MODES)),
    )


@st.composite
def owners(draw: st.DrawFn) -> Owner:
    """Owners with and without a pod: containers, claims, reservations, and odd names."""
    ifname = draw(_IFNAMES)
    kind = draw(st.sampled_from(["container", "pod", "claim", "reserved", "odd"]))
    if kind == "claim":
        namespace, name = draw(_NAMES), draw(_NAMES)
        return Owner(f"claim:{namespace}/{name}", ifname, namespace)
    if kind == "reserved":
        return Owner(f"reserved:{draw(_NAMES)}", "-")
    owner = Owner(draw(_IDS), ifname)
    if kind == "container":
        return owner
    if kind == "odd":
        owner = Owner(draw(_NAMES), draw(_NAMES))
    return evolve(
        owner,
        pod_namespace=draw(_NAMES),
        pod_name=draw(_NAMES),
        pod_uid=draw(st.just("") | _IDS),
    )


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
def leases(draw: st.DrawFn, domain: str, ip: Address, most: int) -> Lease:
    """Leases of one address, granted by podnet or read from a shared format.

    Args:
        draw: given by Hypothesis.
        domain: collision domain.
        ip: the address.
        most: highest sequence.
    """
    owner = draw(owners())
    if draw(st.integers(0, 5)) == 0:
        # What host-local or whereabouts wrote tells little more than who has it.
        return Lease(domain=domain, pool="", ip=ip, length=0, owner=evolve(owner, pod_uid=""))
    kept = owner.container_id if owner.container_id.startswith("reserved:") else ""
    return Lease(
        domain=domain,
        pool=draw(_NAMES),
        ip=ip,
        length=draw(st.integers(0, BITS[ip.version])),
        owner=owner,
        node=draw(st.just("") | _NAMES),
        network=draw(st.just("") | _NAMES),
        since=draw(_TIMES),
        sequence=draw(st.integers(0, most)),
        claim=kept or draw(st.just("") | st.just("default/web-0") | _NAMES),
    )


@st.composite
def blocks(
    draw: st.DrawFn,
    *,
    domain: str | None = None,
    version: int | None = None,
    index: int | None = None,
) -> Block:
    """Blocks anywhere in the address space, empty to full, shared and held by a node.

    Args:
        draw: given by Hypothesis.
        domain: collision domain; any if not given.
        version: 4 or 6; any if not given.
        index: which block of the domain; any if not given.
    """
    domain = draw(_NAMES) if domain is None else domain
    version = draw(st.sampled_from([4, 6])) if version is None else version
    if index is None:
        top = (1 << (BITS[version] - BLOCK_BITS)) - 1
        index = draw(st.integers(0, top) | st.just(top))
    offsets = draw(st.sets(_OFFSETS, max_size=6))
    # Above 64 bits now and then: what a store counts with must not be narrower than Python's.
    sequence = draw(st.integers(len(offsets), 1 << 70))
    first = index << BLOCK_BITS
    held = {n: draw(leases(domain, Address(version, first + n), sequence)) for n in offsets}
    rested = draw(st.sets(_OFFSETS, max_size=3)) - offsets
    holder = draw(st.just("") | _NAMES)
    return Block(
        domain=domain,
        version=version,
        index=index,
        leases=held,
        sequence=sequence,
        freed={n: draw(_TIMES) for n in rested},
        holder=holder,
        recalled=bool(holder) and draw(st.booleans()),
    )
