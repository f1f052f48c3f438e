"""What one IPAM configuration asks for, and the result it ends in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.errors import AddressUnavailableError
from podnet.model.result import DNS, IP, Result, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podnet.model.addresses import Address
    from podnet.model.lease import Lease
    from podnet.model.pool import Pool


@frozen(kw_only=True)
class IpamWant:
    """One attachment's addresses.

    Attributes:
        pools: one address of each, in order.
        addresses: fixed addresses, told after those of the pools and never leased.
        routes: told as they are.
        dns: told as it is.
        requested: addresses wanted from the pools; each must be had.
    """

    pools: tuple[Pool, ...] = ()
    addresses: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = field(factory=DNS)
    requested: tuple[Address, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The collision domains of the pools, each once, in order."""
        return tuple(dict.fromkeys(pool.domain for pool in self.pools))


def share_out(pools: Sequence[Pool], requested: Sequence[Address]) -> tuple[Address | None, ...]:
    """Return for each pool the requested address that lies in its network, or None.

    Two requested addresses in one network go to two pools of it, in order.

    Raises:
        AddressUnavailableError: an address belongs to no pool that is still without one.
    """
    shares: list[Address | None] = [None] * len(pools)
    for address in requested:
        for n, pool in enumerate(pools):
            if shares[n] is None and address in pool.network:
                shares[n] = address
                break
        else:
            networks = ", ".join(str(pool.network) for pool in pools)
            raise AddressUnavailableError(
                f"requested address {address} is in no pool that is left ({networks or 'none'})"
            )
    return tuple(shares)


def describe(want: IpamWant, leases: Sequence[Lease]) -> Result:
    """Return the abbreviated result: no interfaces, and addresses of no interface.

    CNI 1.1.0, section 4, "Delegated plugins (IPAM)", wants it so.

    Args:
        want: what was asked for.
        leases: one for each pool, in order.
    """
    leased = tuple(
        IP(lease.cidr, pool.gateway or "") for pool, lease in zip(want.pools, leases, strict=True)
    )
    return Result(ips=(*leased, *want.addresses), routes=want.routes, dns=want.dns)
