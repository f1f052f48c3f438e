"""Owners and leases: one address held by one attachment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.errors import DecodingError
from podnet.model.addresses import BITS, Address, Prefix, parse_address
from podnet.model.fields import Fields

if TYPE_CHECKING:
    import netaddr

UNREADABLE = "unreadable file"
"""The claim of a lease of which its store cannot tell whose it is: nobody sweeps it."""

_OWNER_KEYS = ("container", "ifname", "namespace", "pod", "uid")
_KEYS = ("ip", "length", "pool", *_OWNER_KEYS, "node", "network", "since", "sequence", "claim")
# Any finite time; a bound is compared faster than finiteness is asked.
_YEARS = 1e300


@frozen
class Owner:
    """Who holds a lease: one interface of one container.

    Attributes:
        container_id: ``CNI_CONTAINERID``, or any name that is unique among holders.
        ifname: ``CNI_IFNAME``.
        pod_namespace: for people; empty if unknown.
        pod_name: for people; empty if unknown.
        pod_uid: with the interface name, says that a new container is the same pod's; empty if
            unknown. Namespace and name alone do not: two pods may bear one name after each other.
    """

    container_id: str
    ifname: str
    pod_namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Container id and interface name, which name an attachment in CNI."""
        return self.container_id, self.ifname

    def __str__(self) -> str:
        if self.pod_name:
            return f"{self.pod_namespace}/{self.pod_name} ({self.ifname})"
        return f"{self.container_id} ({self.ifname})"


@frozen(kw_only=True)
class Lease:
    """One address held by one owner.

    Attributes:
        domain: collision domain of the address.
        pool: name of the pool it was handed out from.
        ip: the address.
        length: prefix length of the pool's network.
        owner: who holds it.
        node: node that asked for it; empty if nodes have no names here.
        network: name of the CNI network it is for; empty outside CNI.
        since: when the owner was granted it, in seconds since the epoch.
        sequence: number of the grant; never the same for two grants of one address.
        claim: what keeps the address beyond the life of any container, such as the IPAMClaim
            ``namespace/name`` or an administrator's reservation; neither GC nor reconciliation
            takes such a lease. Empty for the usual lease, which lives as long as its container.
    """

    domain: str
    pool: str
    ip: Address
    length: int
    owner: Owner
    node: str = ""
    network: str = ""
    since: float = 0.0
    sequence: int = 0
    claim: str = ""

    @property
    def address(self) -> netaddr.IPAddress:
        """The address as netaddr's value."""
        return self.ip.netaddr()

    @property
    def prefix(self) -> netaddr.IPNetwork:
        """The address with its prefix length as netaddr's value, host bits kept."""
        return self.cidr.netaddr()

    @property
    def cidr(self) -> Prefix:
        """The address with its prefix length; text such as ``192.168.60.20/24``."""
        return Prefix(self.ip, self.length)

    def to_document(self) -> dict[str, object]:
        """Return it as JSON values, without the domain; ``from_document`` reads them."""
        return {
            "ip": str(self.ip),
            "length": self.length,
            "pool": self.pool,
            "container": self.owner.container_id,
            "ifname": self.owner.ifname,
            "namespace": self.owner.pod_namespace,
            "pod": self.owner.pod_name,
            "uid": self.owner.pod_uid,
            "node": self.node,
            "network": self.network,
            "since": self.since,
            "sequence": self.sequence,
            "claim": self.claim,
        }

    @classmethod
    def from_document(cls, document: object, domain: str, where: str = "lease") -> Lease:
        """Read what ``to_document`` wrote.

        Args:
            document: JSON values.
            domain: collision domain of the lease.
            where: place in a larger document, for messages.

        Raises:
            DecodingError: it is no lease; the message names the place.
        """
        lease = _quickly(cls, document, domain)
        if lease is not None:
            return lease
        entry = Fields(document, where)
        try:
            ip = parse_address(entry.text("ip"))
        except ValueError as error:
            raise DecodingError(f"{where}: {error}") from None
        owner = Owner(*(entry.text(key) for key in _OWNER_KEYS))
        return cls(
            domain=domain,
            pool=entry.text("pool"),
            ip=ip,
            length=entry.number("length", BITS[ip.version]),
            owner=owner,
            node=entry.text("node"),
            network=entry.text("network"),
            since=entry.seconds("since"),
            sequence=entry.number("sequence"),
            claim=entry.text("claim"),
        )


def _quickly(cls: type[Lease], document: object, domain: str) -> Lease | None:
    """Return the lease if nothing is wrong with it, at a third of the price; else None.

    A process that opens a large pool reads a million of them.
    """
    try:
        assert type(document) is dict
        ip, length, pool, *owner, node, network, since, sequence, claim = map(
            document.__getitem__, _KEYS
        )
        if not (
            {*map(type, owner), type(pool), type(node), type(network), type(claim)} == {str}
            and type(length) is int is type(sequence)
            and type(since) is float
            and -_YEARS < since < _YEARS
            and sequence >= 0
        ):
            return None
        address = parse_address(ip)
        if not 0 <= length <= BITS[address.version]:
            return None
    except (KeyError, ValueError, TypeError, AssertionError):
        return None
    return cls(
        domain=domain,
        pool=pool,
        ip=address,
        length=length,
        owner=Owner(*owner),
        node=node,
        network=network,
        since=since,
        sequence=sequence,
        claim=claim,
    )
