"""Which leases a person means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.model.block import BLOCK_BITS, domain_prefix, key_parts

if TYPE_CHECKING:
    from podnet.model.addresses import Span
    from podnet.model.lease import Lease


@frozen(kw_only=True)
class Filter:
    """Leases that fit all that is given; None means any.

    Attributes:
        pool: name of the pool.
        domain: collision domain.
        network: name of the CNI network.
        node: name of the node; empty for leases that tell none.
        namespace: of the pod.
        pod: name of the pod.
        container: container id, or a beginning of it.
        interface: name of the interface.
        claim: the claim that keeps it; empty for leases that none keeps.
        addresses: the address is one of these.
        before: it was granted before this time, in seconds since the epoch.
    """

    pool: str | None = None
    domain: str | None = None
    network: str | None = None
    node: str | None = None
    namespace: str | None = None
    pod: str | None = None
    container: str | None = None
    interface: str | None = None
    claim: str | None = None
    addresses: Span | None = None
    before: float | None = None

    def takes(self, lease: Lease) -> bool:
        """Tell whether a lease fits."""
        owner = lease.owner
        pairs = (
            (self.pool, lease.pool),
            (self.domain, lease.domain),
            (self.network, lease.network),
            (self.node, lease.node),
            (self.namespace, owner.pod_namespace),
            (self.pod, owner.pod_name),
            (self.interface, owner.ifname),
            (self.claim, lease.claim),
        )
        return (
            all(wanted is None or wanted == is_ for wanted, is_ in pairs)
            and (self.container is None or owner.container_id.startswith(self.container))
            and (self.addresses is None or lease.ip in self.addresses)
            and (self.before is None or lease.since < self.before)
        )

    @property
    def prefix(self) -> str:
        """What the keys of blocks with such leases begin with."""
        return "" if self.domain is None else domain_prefix(self.domain)

    def may_be_at(self, key: str) -> bool:
        """Tell whether the block at a key may have such leases."""
        span, parts = self.addresses, key_parts(key)
        if span is None or parts is None:
            return True
        _, version, index = parts
        return version == span.version and (
            span.first >> BLOCK_BITS <= index <= span.last >> BLOCK_BITS
        )
