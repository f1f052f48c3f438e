"""What one IPAM configuration asks for, and the result it ends in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, field, frozen

from podnet.errors import AddressUnavailableError
from podnet.ipam import space
from podnet.model.addresses import Address, Prefix
from podnet.model.pool import Pool
from podnet.model.result import DNS, IP, Result, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podnet.model.lease import Lease

Pools: TypeAlias = Pool | Iterable[Pool]
"""Where one address comes from: a pool, or several of one name and domain, tried in order."""


def _as_sets(sets: Iterable[Pools]) -> tuple[tuple[Pool, ...], ...]:
    return tuple((each,) if isinstance(each, Pool) else tuple(each) for each in sets)


@frozen(kw_only=True)
class IpamWant:
    """One attachment's addresses.

    Attributes:
        sets: one address of each, in order; the pools of one set are alternatives.
        addresses: fixed addresses, told after those of the pools and never leased.
        routes: told as they are.
        dns: told as it is.
        resolv_conf: path of a resolver configuration to be told as ``dns``; empty for none.
        requested: addresses wanted from the pools; each must be had.
    """

    sets: tuple[tuple[Pool, ...], ...] = field(default=(), converter=_as_sets)
    addresses: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = field(factory=DNS)
    resolv_conf: str = ""
    requested: tuple[Address, ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of all sets, in order."""
        return tuple(pool for pools in self.sets for pool in pools)

    @property
    def domains(self) -> tuple[str, ...]:
        """The collision domains of the pools, each once, in order."""
        return tuple(dict.fromkeys(pool.domain for pool in self.pools))


def share_out(sets: Iterable[Pools], requested: Sequence[Address]) -> tuple[Address | None, ...]:
    """Return for each set of pools the requested address that is for it, or None.

    An address goes to the first set that may hand it out, else to the first whose network it lies
    in, which will say why not. Two of one network go to two sets of it, in order.

    Raises:
        AddressUnavailableError: an address belongs to no set that is still without one.
    """
    pools = _as_sets(sets)
    shares: list[Address | None] = [None] * len(pools)
    for address in requested:
        inside = [
            n
            for n, alternatives in enumerate(pools)
            if shares[n] is None and any(address in pool.network for pool in alternatives)
        ]
        if not inside:
            networks = ", ".join(str(pool.network) for each in pools for pool in each)
            raise AddressUnavailableError(
                f"requested address {address} is in no pool that is left ({networks or 'none'})"
            )
        giving = (n for n in inside if space.why_not(pool_of(pools[n], address), address) is None)
        shares[next(giving, inside[0])] = address
    return tuple(shares)


def pool_of(pools: Sequence[Pool], address: Address) -> Pool:
    """Return which of several alternatives an address is of.

    That is the one that may hand it out, else the first whose network it lies in, else the first.
    """
    inside = [pool for pool in pools if address in pool.network]
    giving = (pool for pool in inside if space.why_not(pool, address) is None)
    return next(giving, (inside or pools)[0])


def in_turn(pools: Sequence[Pool], last: Address | None) -> tuple[Pool, ...]:
    """Return alternatives in the order in which they are tried after an address of them went out.

    First what is above it in its own range, then the ranges after that one, then those from the
    first on, its own from its beginning at the end: as host-local goes round.

    Args:
        pools: one set.
        last: the address that went out last; None, or one of no range, begins with the first.
    """
    for n, pool in enumerate(pools):
        if last is None or last.version != pool.network.version:
            continue
        low, high = space.bounds(pool)
        if low <= last.value <= high:
            rest = (*pools[n + 1 :], *pools[: n + 1])
            if last.value == high:
                return rest
            return evolve(pool, first=Address(last.version, last.value + 1)), *rest
    return tuple(pools)


def describe(want: IpamWant, leases: Sequence[Lease]) -> Result:
    """Return the abbreviated result: no interfaces, and addresses of no interface.

    CNI 1.1.0, section 4, "Delegated plugins (IPAM)", wants it so.

    Args:
        want: what was asked for.
        leases: one for each set, in order.
    """
    leased = tuple(told(lease, pools) for lease, pools in zip(leases, want.sets, strict=True))
    return Result(ips=(*leased, *want.addresses), routes=want.routes, dns=want.dns)


def told(lease: Lease, pools: Sequence[Pool]) -> IP:
    """Return how a lease of a set of pools is told: with the length of the pool's network."""
    pool = pool_of(pools, lease.ip)
    # A lease found in a shared format may not tell the length of its network.
    length = pool.network.length if lease.ip in pool.network else lease.length
    return IP(str(Prefix(lease.ip, length)), pool.gateway or "")
