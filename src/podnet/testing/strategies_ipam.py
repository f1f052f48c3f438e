"""Hypothesis strategies for the IPAM part of network configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import assume
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError
from podnet.ipam import space
from podnet.model.addresses import BITS, Address, Span
from podnet.model.pool import Pool
from podnet.testing.strategies import networks, pools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podnet.model.addresses import Prefix

    Config = tuple[dict[str, Any], tuple[Pool, ...]]

NATIVE, WHEREABOUTS, HOST_LOCAL = "podnet-ipam", "whereabouts", "host-local"


@st.composite
def ipam_configs(
    draw: st.DrawFn,
    *,
    types: Sequence[str] = (NATIVE, WHEREABOUTS, HOST_LOCAL),
    network_name: str = "net",
) -> Config:
    """Network configurations with an ``ipam`` object, and the pools that it means.

    Args:
        draw: given by Hypothesis.
        types: of the IPAM plugin; any of ``podnet-ipam``, ``whereabouts`` and ``host-local``.
        network_name: of the configuration; host-local's collision domain.
    """
    kind = draw(st.sampled_from(list(types)))
    drawn = {NATIVE: _native, WHEREABOUTS: _whereabouts, HOST_LOCAL: _host_local}[kind]
    ipam, meant = draw(drawn(network_name))
    document = {
        "cniVersion": "1.0.0",
        "name": network_name,
        "type": "macvlan",
        "ipam": {"type": kind, **ipam},
    }
    return document, meant


def _has_addresses(pool: Pool) -> bool:
    try:
        space.bounds(pool)
    except InvalidConfigError:
        return False
    return True


@st.composite
def _native(draw: st.DrawFn, _name: str) -> Config:
    meant = draw(
        st.lists(
            pools().filter(_has_addresses),
            min_size=1,
            max_size=3,
            unique_by=lambda pool: (pool.domain, pool.name),
        )
    )
    # The configuration tells whole seconds.
    assume(all(pool.cool_down == int(pool.cool_down) for pool in meant))
    return {"pools": [_native_pool(pool) for pool in meant]}, tuple(meant)


def _native_pool(pool: Pool) -> dict[str, Any]:
    texts = {"first": pool.first, "last": pool.last, "gateway": pool.gateway}
    return {
        "name": pool.name,
        "network": str(pool.network),
        **{key: str(value) for key, value in texts.items() if value is not None},
        "exclude": [str(span) for span in pool.exclude],
        "reserved": [str(span) for span in pool.reserved],
        "domain": pool.domain,
        "edges": pool.edges,
        "coolDown": int(pool.cool_down),
        "mode": pool.mode,
    }


@st.composite
def _whereabouts(draw: st.DrawFn, _name: str) -> Config:
    network, first, last = draw(_ranges())
    inside = st.integers(network.first, network.last)
    ends = draw(st.lists(st.tuples(inside, inside).map(sorted), max_size=2))
    exclude = [Span(network.version, low, high) for low, high in ends]
    gateway = draw(st.none() | inside)
    in_one = draw(st.booleans())
    ipam: dict[str, Any] = {"range": str(network), "exclude": [str(span) for span in exclude]}
    if in_one:
        ipam["range"] = f"{first}-{last}/{network.length}"
    else:
        ipam |= {"range_start": str(first), "range_end": str(last)}
    meant = Pool(
        str(network),
        network,
        first=first,
        last=last,
        exclude=exclude,
        gateway=None if gateway is None else Address(network.version, gateway),
        domain="whereabouts",
        edges="inner",
        picker="lowest",
    )
    if meant.gateway is not None:
        ipam["gateway"] = str(meant.gateway)
    return ipam, (meant,)


@st.composite
def _host_local(draw: st.DrawFn, name: str) -> Config:
    network, first, last = draw(_ranges())
    gateway = Address(network.version, draw(st.integers(network.first, network.last)))
    entry = {"subnet": str(network), "rangeStart": str(first), "rangeEnd": str(last)}
    meant = Pool(
        "0",
        network,
        first=first,
        last=last,
        gateway=gateway,
        domain=name,
        edges="all",
        picker="round-robin",
    )
    return {"ranges": [[{**entry, "gateway": str(gateway)}]]}, (meant,)


@st.composite
def _ranges(draw: st.DrawFn) -> tuple[Prefix, Address, Address]:
    """A network with inner addresses, and two of them in order."""
    version = draw(st.sampled_from([4, 6]))
    network = draw(networks(versions=[version], longest=BITS[version] - 2))
    inner = st.integers(network.first + 1, network.last - 1)
    low, high = sorted((draw(inner), draw(inner)))
    return network, Address(version, low), Address(version, high)
