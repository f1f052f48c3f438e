"""What each CNI verb does for whereabouts, podnet-ipam and static."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from attrs import evolve

from podnet.engine import registry
from podnet.engine.leases import Ipam
from podnet.errors import (
    CheckFailedError,
    InvalidConfigError,
    InvalidEnvironmentError,
    NotAvailableError,
    StoreError,
    TryAgainLaterError,
)
from podnet.ipam.claims import Keeping, keeping
from podnet.ipam.conf import STATIC, read_want
from podnet.ipam.reserve import without
from podnet.ipam.want import describe, told
from podnet.model.addresses import parse_prefix, parse_span
from podnet.model.cniargs import parse_cni_args
from podnet.model.conf import network_config, salvage_config, valid_attachments
from podnet.model.lease import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podnet.ipam.want import IpamWant
    from podnet.model.addresses import Address
    from podnet.model.attachment import Call
    from podnet.model.conf import NetworkConfig
    from podnet.model.pool import Pool
    from podnet.model.result import Result
    from podnet.ports import Store


class HouseParts(Protocol):
    """What an IPAM plugin needs of the house."""

    @property
    def settings(self) -> NodeName:
        """Holds the node's name."""

    def store(self, url: str = "") -> Store:
        """Return the open store of that URL, or the one in use."""

    def ipam(self, store: Store) -> Ipam:
        """Return what hands out addresses of an open store; it is not closed here."""

    def clock(self) -> float:
        """Return seconds since the epoch."""

    def step(self, name: str) -> None:
        """Be told of each side effect before it happens."""


class NodeName(Protocol):
    """Where an IPAM plugin finds its node's name."""

    @property
    def node(self) -> str:
        """The node's name; empty if nodes have none."""


class IpamPlugin:
    """One IPAM plugin type over the house's store. ``static`` leases nothing and opens none."""

    def __init__(self, house: HouseParts, name: str) -> None:
        """Serve the plugin type ``name``."""
        self._house = house
        self._name = name

    def add(self, call: Call) -> Result:
        """Return the attachment's addresses; asked again, the same ones.

        Raises:
            InvalidConfigError: with every mistake of the configuration.
            PoolExhaustedError, AddressUnavailableError: an address cannot be had; none is kept.
            TryAgainLaterError, StoreError: see ``Ipam.allocate``.
        """
        config, want = self._read(call)
        if not want.sets:
            return describe(want, ())
        self._house.step("ipam-allocate")
        kept = _keeping(call, config)
        if kept.ips:
            want = evolve(want, requested=tuple(ip.address for ip in kept.ips))
        leases = self._ipam(config).acquire(want, kept.owner, network=config.name, claim=kept.claim)
        return describe(want, leases)

    def validate(self, call: Call) -> None:
        """Let a configuration pass that ADD can do, as far as it tells; nothing is leased.

        Raises:
            InvalidConfigError: with every mistake.
            StoreError: the store cannot be opened.
        """
        config, want = self._read(call)
        _keeping(call, config)
        if want.sets:
            self._store(config)

    def delete(self, call: Call) -> None:
        """Release what the attachment holds; nothing held is no error.

        Where the configuration has mistakes, all domains are searched for the attachment's
        leases of this network.

        Raises:
            TryAgainLaterError, StoreError: a retry may help.
        """
        if self._name == STATIC:
            return
        config = salvage_config(call.config)
        owner = owner_of(call)
        ipam = self._ipam(config)
        self._house.step("ipam-release")
        try:
            want = self._want(config, call)
        except (InvalidConfigError, InvalidEnvironmentError):
            self._release_anywhere(ipam, owner, config.name)
            return
        hints = _told(config)
        for domain in want.domains:
            pools = [pool for pool in want.pools if pool.domain == domain]
            inside = [ip for ip in hints if any(ip in pool.network for pool in pools)]
            # A hint only: unless it accounts for every pool, look everywhere.
            known = inside if len(inside) >= len(pools) else ()
            self._release(ipam, owner, pools, config.name, known)

    def _release_anywhere(self, ipam: Ipam, owner: Owner, network: str) -> None:
        """Release what an owner holds for a network, in whatever domain."""
        ipam.release(owner, network=network)

    def _release(
        self, ipam: Ipam, owner: Owner, pools: list[Pool], network: str, hints: Iterable[Address]
    ) -> None:
        """Release what an owner holds of pools, all of one domain, for a network."""
        # Another network's attachment may have the same name: it is why ADD was refused.
        ipam.release(owner, pool=pools[0].domain, network=network, hints=hints)

    def check(self, call: Call) -> None:
        """Compare the previous result with the leases.

        Raises:
            CheckFailedError: a lease is missing, or the previous result tells another address;
                all differences are listed.
            StoreError: the store is broken.
        """
        config, want = self._read(call)
        if config.prev_result is None:
            raise CheckFailedError("Required prevResult missing")
        if self._name == STATIC:
            _check_static(call, want, config.prev_result)
            return
        wrong = list(self._differences(call, config, want, config.prev_result))
        if wrong:
            raise CheckFailedError(f"IPAM of network {config.name!r}", "; ".join(wrong))

    def _differences(
        self, call: Call, config: NetworkConfig, want: IpamWant, result: Result
    ) -> Iterator[str]:
        owner, ipam = _keeping(call, config).owner, self._ipam(config)
        addresses = {ip.address for ip in result.ips}
        for pool in want.pools:
            lease = ipam.holds(owner, pool)
            if lease is None or lease.owner.key != owner.key:
                yield f"{owner} holds no lease of pool {pool.name!r}"
            # As it was told, with the configuration of that time or of now.
            elif addresses.isdisjoint((str(lease.cidr), told(lease, (pool,)).address)):
                yield f"{lease.cidr} is leased but not in prevResult"
        for ip in want.addresses:
            if ip.address not in addresses:
                yield f"{ip.address} is configured but not in prevResult"

    def gc(self, call: Call) -> None:
        """Release this node's leases of the network whose attachments are gone.

        Without a list of valid attachments nothing is released.

        Raises:
            InvalidConfigError: an entry of the list is wrong.
            TryAgainLaterError, StoreError: a retry may help.
        """
        valid = valid_attachments(call.config)
        if self._name == STATIC or valid is None:
            return
        config = salvage_config(call.config)
        self._house.step("ipam-sweep")
        # Not only the domains of today's configuration: it may have changed since ADD.
        self._ipam(config).sweep(config.name, valid)

    def status(self, call: Call) -> None:
        """Tell whether ADD can be served.

        Raises:
            InvalidConfigError: with every mistake of the configuration.
            NotAvailableError: the store cannot be read, or a pool has no free address.
        """
        config, want = self._read(call)
        if not want.sets:
            return
        try:
            ipam = self._ipam(config)
            full = [pools[0].name for pools in want.sets if not any(map(ipam.has_free, pools))]
        except (StoreError, TryAgainLaterError) as error:
            raise NotAvailableError("the IPAM store cannot be read", str(error)) from error
        if full:
            raise NotAvailableError("no free address in pool " + ", ".join(map(repr, full)))

    def _read(self, call: Call) -> tuple[NetworkConfig, IpamWant]:
        config = network_config(call.config)
        spans = map(parse_span, getattr(self._house.settings, "reserved", ()))
        want = self._want(config, call)
        for name in {pool.picker for pool in want.pools if pool.picker}:
            registry.open_picker(name)  # refuses one that nobody offers
        return config, without(want, tuple(spans))

    def _want(self, config: NetworkConfig, call: Call) -> IpamWant:
        return read_want(self._name, config, _args(call))

    def _store(self, config: NetworkConfig) -> Store:  # noqa: ARG002 - for types that name theirs
        return self._house.store()

    def _ipam(self, config: NetworkConfig) -> Ipam:
        return self._house.ipam(self._store(config))


def _args(call: Call) -> dict[str, str]:
    return dict(parse_cni_args(call.args))


def owner_of(call: Call) -> Owner:
    """Return who asks for addresses."""
    args: dict[str, str] = {}
    # Who asks is clear without them, and ADD has reported what is wrong with them.
    with suppress(InvalidEnvironmentError):
        args = _args(call)
    return Owner(
        call.container_id,
        call.ifname,
        args.get("K8S_POD_NAMESPACE", ""),
        args.get("K8S_POD_NAME", ""),
        args.get("K8S_POD_UID", ""),
    )


def _keeping(call: Call, config: NetworkConfig) -> Keeping:
    return keeping(owner_of(call), config.ipam, config.args)


def _told(config: NetworkConfig) -> tuple[Address, ...]:
    if config.prev_result is None:
        return ()
    return tuple(parse_prefix(ip.address).address for ip in config.prev_result.ips)


def _check_static(call: Call, want: IpamWant, result: Result) -> None:
    """Refuse another gateway on a configured address, as the reference does, and no more."""
    gateways = {ip.address: ip.gateway for ip in result.ips}
    wrong = [
        f"static: Failed to match addr {ip.address} on interface {call.ifname}"
        for ip in want.addresses
        if gateways.get(ip.address, ip.gateway) != ip.gateway
    ]
    if wrong:
        raise CheckFailedError(wrong[0], "; ".join(wrong[1:]))
