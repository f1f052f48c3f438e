"""whereabouts' objects: how they are called, and how they tell addresses (v0.9.3).

An IPPool is a collision domain of its own here. Its domain's text tells all there is to know of
it: ``ippool:10.0.0.0/24``, ``ippool:red@10.0.0.0/24`` in the network ``red``, with ``%node`` for a
slice of one node's, and ``ippool-apart:`` instead of ``ippool:`` where ranges may overlap
(``enable_overlapping_ranges: false``), so that no address is reserved beyond its own pool.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.ipam import space
from podnet.model.addresses import BITS, Address, Prefix, parse_address, parse_prefix
from podnet.model.block import block_key, key_parts
from podnet.model.pool import SHARED
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.ipam.want import IpamWant
    from podnet.model.conf import NetworkConfig
    from podnet.model.pool import Pool

MOST_OFFSET = (1 << 63) - 1
"""Highest key: whereabouts reads keys as int64, and drops what is not (ipam.go, ParseInt)."""

_UNIQUE, _APART = "ippool:", "ippool-apart:"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME = 253
_V4_END = re.compile(r"(?:(.+)-)?(\d+\.\d+\.\d+\.\d+)-(\d+)")
_KEY = re.compile(r"[+-]?[0-9]+")
_LONGEST_KEY = 64
_NO_ROOM = "whereabouts' objects have no room for this IPAM configuration"
_MAPPED = 0xFFFF


@frozen(kw_only=True)
class PoolRef:
    """Which IPPool.

    Attributes:
        network: its range without host bits; of a slice, the slice.
        network_name: whereabouts' ``network_name``; empty if not set.
        node: whose slice it is; empty if it is none.
        unique: whether an address is held once in all pools of the network name
            (``enable_overlapping_ranges``), for which there are reservation objects.
    """

    network: Prefix
    network_name: str = ""
    node: str = ""
    unique: bool = True

    @property
    def domain(self) -> str:
        """Its collision domain's text; ``pool_of_domain`` reads it."""
        name = f"{self.network_name}@" if self.network_name else ""
        node = f"%{self.node}" if self.node else ""
        return f"{_UNIQUE if self.unique else _APART}{name}{self.network}{node}"

    @property
    def name(self) -> str:
        """The object's name."""
        return pool_name(self.network, self.network_name, self.node)

    @property
    def lease(self) -> str:
        """Name of the Lease that whereabouts holds while it changes the pool."""
        return self.name if self.node else "whereabouts"


def pool_name(network: Prefix, network_name: str = "", node: str = "") -> str:
    """Return the name of an IPPool (ipam.go, IPPoolName)."""
    cidr = re.sub("[:/]", "-", f"{go_text(network.masked.address)}/{network.length}")
    return "-".join(filter(None, (network_name, node, cidr)))


def reservation_name(address: Address, network_name: str = "") -> str:
    """Return the name of an address's OverlappingRangeIPReservation (ipam.go, normalizeIP)."""
    text = go_text(address)
    text = (text + "0" if text.endswith(":") else text).replace(":", "-")
    return f"{network_name}-{text}" if network_name else text


def reserved_address(name: str, network_name: str = "") -> Address | None:
    """Return the address whose reservation has that name in a network; None if it is none."""
    prefix = f"{network_name}-" if network_name else ""
    rest = name.removeprefix(prefix)
    try:
        address = parse_address(rest if "." in rest else rest.replace("-", ":"))
    except ValueError:
        return None
    return address if reservation_name(address, network_name) == name else None


def go_text(address: Address) -> str:
    """Return an address as Go prints it: as IPv4 if it is one mapped into IPv6."""
    if is_mapped(address):
        return str(Address(4, address.value & 0xFFFFFFFF))
    return str(address)


def is_mapped(address: Address) -> bool:
    """Tell whether it is an IPv4 address mapped into IPv6."""
    return address.version == 6 and address.value >> 32 == _MAPPED


@lru_cache(maxsize=256)
def pool_of_domain(domain: str) -> PoolRef | None:
    """Return the pool whose domain has that text; None for any other text."""
    for scheme in (_UNIQUE, _APART):
        if domain.startswith(scheme):
            name, _, rest = domain.removeprefix(scheme).rpartition("@")
            cidr, _, node = rest.partition("%")
            try:
                network = parse_prefix(cidr)
            except ValueError:
                return None
            ref = PoolRef(network=network, network_name=name, node=node, unique=scheme == _UNIQUE)
            return ref if ref.domain == domain and not fault(ref) else None
    return None


def pool_of_name(name: str, network: Prefix) -> PoolRef | None:
    """Return which pool an object may be: what precedes its range is taken for a network's name.

    Args:
        name: of the object.
        network: its range without host bits.
    """
    end = pool_name(network)
    head, found, _ = name.rpartition(end)
    if not found or (head and not head.endswith("-")):
        return None
    ref = PoolRef(network=network, network_name=head[:-1])
    return ref if ref.name == name and not fault(ref) else None


def range_of_name(name: str, network_name: str = "", *, slices: bool = False) -> Prefix | None:
    """Return the range that the name of a network's IPPool tells; None for any other name.

    Args:
        name: of the object.
        network_name: of the network.
        slices: whether the name of a node may precede the range.
    """
    prefix = f"{network_name}-" if network_name else ""
    if not name.startswith(prefix):
        return None
    rest = name[len(prefix) :]
    if match := _V4_END.fullmatch(rest):
        node, text = match[1] or "", f"{match[2]}/{match[3]}"
    else:
        head, _, length = rest.rpartition("-")
        node, text = "", f"{head.replace('-', ':')}/{length}"
    if node and not slices:
        return None
    try:
        network = parse_prefix(text)
    except ValueError:
        return None
    return network if pool_name(network, network_name, node) == name else None


def fault(ref: PoolRef) -> str:
    """Return why there can be no such pool; empty if there can."""
    name, longest = ref.name, reservation_name(Address(ref.network.version, ref.network.last))
    if ref.network != ref.network.masked or is_mapped(ref.network.address):
        return f"{ref.network} has host bits, or is IPv4 written as IPv6"
    longest = f"{ref.network_name}-{longest}" if ref.network_name else longest
    for text in (name, longest):
        if not _NAME.fullmatch(text):
            return f"{text!r} cannot be the name of an object in Kubernetes"
        if len(text) > _LONGEST_NAME:
            return f"{text!r} is longer than {_LONGEST_NAME} characters"
    if key_parts(block_key(ref.domain, ref.network.version, 0)) is None:
        return f"{name!r} is too long a name for podnet"
    return ""


def offset_key(base: Address, address: Address) -> str | None:
    """Return the key of an address in ``spec.allocations``; None where there is room for none.

    Args:
        base: the literal address of ``spec.range``.
        address: of the same family.
    """
    offset = address.value - base.value
    # IPAddOffset gives no address from 2^32 - 1 on: such a key would stop every later update.
    most = (1 << 32) - 2 if base.version == 4 else MOST_OFFSET
    return str(offset) if base.version == address.version and 0 <= offset <= most else None


def key_address(base: Address, key: str) -> int | None:
    """Return the address, as an integer, that a key means; None for a key that means none.

    Keys that whereabouts does not read, from 2^63 on, hold their address here all the same.
    """
    usual = len(key) <= 19 and key.isascii() and key.isdigit()
    if not usual and (not _KEY.fullmatch(key) or key[0] == "-" or len(key) > _LONGEST_KEY):
        return None
    value = base.value + int(key)
    return value if value < 1 << BITS[base.version] else None


def podref(namespace: str, pod: str) -> str:
    """Return whereabouts' name of a pod; empty where there is none.

    A reference to no pod would be taken back by whereabouts' reconciler; the empty one it leaves
    alone, which makes it fit for claims and administrators' reservations (iploop.go).
    """
    if not namespace or not pod or "/" in namespace or "/" in pod:
        return ""
    return f"{namespace}/{pod}"


def as_objects(
    want: IpamWant, config: NetworkConfig, node: str, slice_of: Callable[[str], Prefix | None]
) -> IpamWant:
    """Return what a configuration of type whereabouts asks for, out of whereabouts' own IPPools.

    Args:
        want: as ``read_want`` gave it: pools by range, domains by network name.
        config: the whole configuration.
        node: this node's name.
        slice_of: returns this node's slice of the NodeSlicePool of a name, None if it has none.

    Raises:
        InvalidConfigError: with every mistake.
        PodnetError: as ``slice_of``.
    """
    ipam = Reader(config.ipam, "ipam")
    network_name = ipam.string("network_name")
    unique = ipam.boolean("enable_overlapping_ranges", default=True)
    part: Prefix | None = None
    if ipam.string("node_slice_size") and want.sets:
        name = network_name or config.name
        part = slice_of(name)
        if part is None:
            ipam.mistake("node_slice_size", f"node {node!r} has no slice in NodeSlicePool {name!r}")
            ipam.finish(_NO_ROOM)
    pools = []
    for pool in want.pools:
        if part is None:
            ref = PoolRef(network=pool.network, network_name=network_name, unique=unique)
        elif part.address in pool.network and part.length >= pool.network.length:
            ref = PoolRef(network=part, network_name=network_name, node=node, unique=unique)
        else:
            ipam.mistake("node_slice_size", f"the slice {part} is not in {pool.network}")
            continue
        if what := fault(ref):
            ipam.mistake("network_name" if network_name else "range", what)
        elif (cut := _cut(pool, ref, ipam)) is not None:
            pools.append(cut)
    ipam.finish(_NO_ROOM)
    return evolve(want, sets=pools)


def _cut(pool: Pool, ref: PoolRef, ipam: Reader) -> Pool | None:
    """Return the pool with the IPPool's domain, cut to what its keys and its slice have room for.

    A block is never one node's own: whereabouts hands out of it as well.
    """
    low, high = space.bounds(pool)
    if ref.node:
        # whereabouts leaves out a slice's first and last address, as it does a range's.
        low, high = max(low, ref.network.first + 1), min(high, ref.network.last - 1)
    high = min(high, ref.network.first + MOST_OFFSET)
    if low > high:
        ipam.mistake("range", f"no address of it is in {ref.network} and has a key below 2^63")
        return None
    first, last = (Address(pool.network.version, value) for value in (low, high))
    return evolve(pool, domain=ref.domain, mode=SHARED, first=first, last=last)
