"""What each CNI verb does for host-local: in host-local's own folder, beside its executable."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Protocol, cast

from attrs import evolve

from podnet.engine.ipam_verbs import HouseParts, IpamPlugin, owner_of
from podnet.engine.leases import Ipam
from podnet.errors import (
    CheckFailedError,
    InvalidConfigError,
    IOFailureError,
    NotAvailableError,
    PoolExhaustedError,
    StoreError,
)
from podnet.ipam import space
from podnet.ipam.host_local import data_dir, parse_resolv_conf
from podnet.ipam.want import describe
from podnet.model.addresses import parse_prefix
from podnet.model.conf import salvage_config, valid_attachments
from podnet.model.lease import Owner
from podnet.model.result import DNS
from podnet.ports import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from podnet.ipam.want import IpamWant
    from podnet.model.attachment import Call
    from podnet.model.conf import NetworkConfig
    from podnet.model.lease import Lease
    from podnet.model.pool import Pool
    from podnet.model.result import Result

_LONGEST_RESOLV_CONF = 1 << 20


class HostParts(HouseParts, Protocol):
    """What this plugin needs of the house besides."""

    @property
    def served_by_sandbox(self) -> bool:
        """Whether podnet itself is the runtime of the call."""


class FolderStore(Store, Protocol):
    """A store in folders, one for each domain."""

    def fault(self, domain: str) -> str:
        """Return why nothing can be kept for a domain; empty if it can."""


class HostLocalPlugin(IpamPlugin):
    """The IPAM plugin type host-local. Its ``dataDir``, not the house's store, has the leases."""

    _house: HostParts

    def add(self, call: Call) -> Result:
        """Return the attachment's addresses; asked again, the same ones.

        Raises:
            InvalidConfigError: with every mistake of the configuration.
            IOFailureError: ``resolvConf`` cannot be read; nothing was taken.
            PoolExhaustedError, AddressUnavailableError: an address cannot be had; none is kept.
            TryAgainLaterError, StoreError: see ``Ipam.allocate``.
        """
        config, want = self._read(call)
        want = evolve(want, dns=_resolver(want))
        ipam = self._ipam(config)
        self._house.step("ipam-allocate")
        try:
            leases = ipam.acquire(want, owner_of(call), network=config.name)
        except PoolExhaustedError as error:
            raise _exhausted(ipam, want, error) from error
        return describe(want, leases)

    def validate(self, call: Call) -> None:
        """Let a configuration pass that ADD can do, as far as it tells; nothing is leased.

        Raises:
            InvalidConfigError: with every mistake.
            IOFailureError: ``resolvConf`` cannot be read.
        """
        _, want = self._read(call)
        _resolver(want)

    def delete(self, call: Call) -> None:
        """Release what the attachment holds, whoever handed it out; nothing held is no error.

        Raises:
            TryAgainLaterError, StoreError: a retry may help.
        """
        config = salvage_config(call.config)
        if data_dir(config) is None:
            return  # no ADD went well with it
        ipam, owner = self._ipam(config), owner_of(call)
        self._house.step("ipam-release")
        if not ipam.release(owner, pool=config.name):
            # As written by host-local before 0.8: of no interface.
            ipam.release(Owner(owner.container_id, ""), pool=config.name)

    def check(self, call: Call) -> None:
        """Compare the previous result with the leases.

        Raises:
            CheckFailedError: a lease is missing, or the previous result tells another address;
                all differences are listed.
            StoreError: the store is broken.
        """
        config, want = self._read(call)
        owner = owner_of(call)
        keys = (owner.key, (owner.container_id, ""))
        held = [each for each in self._ipam(config).leases(config.name) if each.owner.key in keys]
        if not held:
            raise CheckFailedError(
                f"host-local: Failed to find address added by container {owner.container_id}"
            )
        if config.prev_result is None:
            raise CheckFailedError("Required prevResult missing")
        wrong = list(_differences(owner, want, held, config.prev_result))
        if wrong:
            raise CheckFailedError(f"IPAM of network {config.name!r}", "; ".join(wrong))

    def gc(self, call: Call) -> None:
        """Release the network's leases whose attachments are gone, those of host-local as well.

        Where podnet is the runtime, and so knows of its own attachments only, what others handed
        out stays. Without a list of valid attachments nothing is released.

        Raises:
            InvalidConfigError: an entry of the list is wrong.
            TryAgainLaterError, StoreError: a retry may help.
        """
        valid = valid_attachments(call.config)
        config = salvage_config(call.config)
        if valid is None or data_dir(config) is None:
            return
        self._house.step("ipam-sweep")
        # A lease in the old form tells no interface: it lives as long as its container does.
        alive = {*valid, *((container_id, "") for container_id, _ in valid)}
        self._ipam(config).sweep(config.name, alive, domain=config.name)
        if not self._house.served_by_sandbox:
            # The folder is this node's, though its files tell no node.
            theirs = Ipam(self._store(config), clock=self._house.clock)
            theirs.sweep(config.name, alive, domain=config.name)

    def status(self, call: Call) -> None:
        """Tell whether ADD can be served.

        Raises:
            InvalidConfigError: with every mistake of the configuration.
            NotAvailableError: the folder cannot be used, or a range set has no free address.
        """
        config, want = self._read(call)
        if what := cast("FolderStore", self._store(config)).fault(config.name):
            raise NotAvailableError(f"the folder of network {config.name!r} cannot be used", what)
        try:
            _resolver(want)
            full = _full(self._ipam(config), want)
        except (IOFailureError, StoreError) as error:
            raise NotAvailableError("no address can be handed out", str(error)) from error
        if full is not None:
            raise NotAvailableError(full)

    def _store(self, config: NetworkConfig) -> Store:
        folder = data_dir(config)
        if folder is None:
            raise InvalidConfigError("invalid IPAM configuration", (("ipam.dataDir", "is wrong"),))
        return self._house.store(f"host-local:{folder}")


def _differences(owner: Owner, want: IpamWant, held: list[Lease], told: Result) -> Iterator[str]:
    for n, pools in enumerate(want.sets):
        if not any(_is_of(lease, str(n), pools) for lease in held):
            yield f"{owner} holds no address of range set {n}"
    addresses = {parse_prefix(ip.address).address for ip in told.ips}
    for lease in held:
        if lease.ip not in addresses:
            yield f"{lease.ip} is leased but not in prevResult"


def _is_of(lease: Lease, name: str, pools: Sequence[Pool]) -> bool:
    """Tell whether a lease is of a range set; host-local's files do not tell of which they are."""
    if lease.pool:
        return lease.pool == name
    return any(space.why_not(pool, lease.ip) is None for pool in pools)


def _exhausted(ipam: Ipam, want: IpamWant, error: PoolExhaustedError) -> PoolExhaustedError:
    """Return the error in host-local's words, which name the range set."""
    full = _full(ipam, want)
    return error if full is None else PoolExhaustedError(full, str(error))


def _full(ipam: Ipam, want: IpamWant) -> str | None:
    """Return in host-local's words which range set has no free address; None if none is full."""
    for n, pools in enumerate(want.sets):
        if not any(map(ipam.has_free, pools)):
            text = ",".join(f"{pool.first}-{pool.last}" for pool in pools)
            return (
                f"failed to allocate for range {n}: no IP addresses available in range set: {text}"
            )
    return None


def _resolver(want: IpamWant) -> DNS:
    """Return what the resolver configuration tells that the want names.

    Raises:
        IOFailureError: it cannot be read.
    """
    path = want.resolv_conf
    if not path:
        return DNS()
    try:
        # It often is a link; and what is named may be a FIFO, which nobody may wait for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise IOFailureError(f"resolvConf {path} is no regular file")
            content = os.read(fd, _LONGEST_RESOLV_CONF)
        finally:
            os.close(fd)
    except OSError as error:
        raise IOFailureError(f"cannot read resolvConf {path}", error.strerror or "") from error
    return parse_resolv_conf(content.decode("utf-8", "replace"))
