"""Reading the ``ipam`` object of type host-local (plugins v1.9.1, plugins/ipam/host-local).

Its *range sets* become sets of pools: one address of each set, the ranges of a set being
alternatives. All pools of a set have the set's number for a name and the network's for a domain,
which is how host-local's directory tells addresses and cursors apart.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.ipam.given import check_families, hosts, requested_texts, routes_and_dns
from podnet.ipam.want import IpamWant
from podnet.model.addresses import BITS, Address
from podnet.model.pool import ALL, Pool
from podnet.model.reader import Reader
from podnet.model.result import DNS
from podnet.model.wire import kind, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from podnet.model.addresses import Prefix
    from podnet.model.conf import NetworkConfig

HOST_LOCAL = "host-local"
DATA_DIR = "/var/lib/cni/networks"
"""Where host-local keeps its networks if the configuration does not say."""


@frozen
class Range:
    """A run of addresses of one subnet, both ends included.

    Attributes:
        subnet: the network, without host bits.
        first: lowest address; may be the network address.
        last: highest address; may be the broadcast address.
        gateway: told with each address and never handed out; may lie outside the subnet.
    """

    subnet: Prefix
    first: Address
    last: Address
    gateway: Address

    def __contains__(self, address: Address) -> bool:
        return address in self.subnet and self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: Range) -> bool:
        """Tell whether an address is in both."""
        same_family = self.subnet.version == other.subnet.version
        return same_family and self.first <= other.last and other.first <= self.last

    def pool(self, name: str, domain: str) -> Pool:
        """Return it as a pool."""
        return Pool(
            name,
            self.subnet,
            first=self.first,
            last=self.last,
            gateway=self.gateway,
            domain=domain,
            edges=ALL,
            picker="round-robin",
        )


def data_dir(config: NetworkConfig) -> str | None:
    """Return the folder of host-local's networks; None where the configuration names none."""
    reader = Reader(config.ipam, "ipam")
    folder = _path(reader, "dataDir") or DATA_DIR
    return None if reader.mistakes else folder


def read_host_local(ipam: Reader, config: NetworkConfig, args: Mapping[str, str]) -> IpamWant:
    """Return what the configuration asks for; mistakes are recorded in ``ipam``."""
    before = known = len(ipam.mistakes)
    sets: list[tuple[Range, ...]] = []
    # Their order is part of the format: a set's cursor is kept by its number.
    for path, readers in _range_sets(ipam, config):
        ranges = tuple(found for each in readers if (found := read_range(each)) is not None)
        if len(ipam.mistakes) == known and (what := set_fault(ranges)):
            ipam.mistakes.append((path, what))
        known = len(ipam.mistakes)
        sets.append(ranges)
    if not sets and len(ipam.mistakes) == before:
        ipam.mistake("ranges", "no IP ranges specified")
    for (m, one), (n, other) in combinations(enumerate(sets), 2):
        if any(a.overlaps(b) for a in one for b in other):
            ipam.mistake("ranges", f"range set {m} overlaps with {n}")
    check_families(ipam, config, "ranges", [ranges[0].subnet.version for ranges in sets if ranges])
    requested = [
        address
        for where, texts in reversed(tuple(requested_texts(ipam, config, args)))
        for address in hosts(ipam, where, texts)
    ]
    _path(ipam, "dataDir")
    return IpamWant(
        sets=[[each.pool(str(n), config.name) for each in ranges] for n, ranges in enumerate(sets)],
        routes=routes_and_dns(ipam, "routes")[0],
        resolv_conf=_path(ipam, "resolvConf"),
        # What two sources name is asked for once.
        requested=tuple(dict.fromkeys(requested)),
    )


def read_range(reader: Reader) -> Range | None:
    """Return the range that an object tells; None if it has mistakes, which are recorded."""
    before = len(reader.mistakes)
    subnet = reader.prefix("subnet", required=True)
    gateway = reader.address("gateway")
    first, last = reader.address("rangeStart"), reader.address("rangeEnd")
    if subnet is None or len(reader.mistakes) > before:
        return None
    if what := _subnet_fault(subnet):
        reader.mistake("subnet", what)
        return None
    version = subnet.version
    lowest = first or Address(version, subnet.first + 1)
    # An IPv6 network has no broadcast address.
    highest = last or Address(version, subnet.last - (version == 4))
    if lowest not in subnet or (last is not None and last < lowest and first is not None):
        reader.mistake("rangeStart", f"RangeStart {lowest} not in network {subnet}")
    elif highest not in subnet or highest < lowest:
        reader.mistake("rangeEnd", f"RangeEnd {highest} not in network {subnet}")
    gateway = gateway or Address(version, subnet.first + 1)
    if gateway.version != version:
        reader.mistake("gateway", f"{gateway} is not of the family of {subnet}")
    if len(reader.mistakes) > before:
        return None
    return Range(subnet, lowest, highest, gateway)


def set_fault(ranges: Sequence[Range]) -> str:
    """Return what is wrong with a set of ranges; empty if nothing is."""
    if not ranges:
        return "empty range set"
    if len({each.subnet.version for each in ranges}) > 1:
        return "mixed address families"
    for one, other in combinations(ranges, 2):
        if one.overlaps(other):
            return f"subnets {one} and {other} overlap"
    return ""


def _subnet_fault(subnet: Prefix) -> str:
    if subnet.length > BITS[subnet.version] - 2:
        return f"Network {subnet} too small to allocate from"
    if subnet != subnet.masked:
        return (
            f"Network has host bits set. For a subnet mask of length {subnet.length} the network "
            f"address is {subnet.masked.address}"
        )
    if subnet.version == 6 and subnet.length >= 96 and subnet.first >> 32 == 0xFFFF:
        # Go prints an IPv4-mapped address as the IPv4 one, and so names its file.
        return f"Network {subnet} is IPv4 written as IPv6"
    return ""


def _range_sets(ipam: Reader, config: NetworkConfig) -> Iterator[tuple[str, tuple[Reader, ...]]]:
    """Yield each range set with its place: the runtime's, the one of the old form, the others."""
    yield from _nested(Reader(config.runtime_config, "runtimeConfig", ipam.mistakes), "ipRanges")
    if ipam.string("subnet"):
        yield ipam.where("subnet"), (ipam,)
    yield from _nested(ipam, "ranges")


def _nested(reader: Reader, key: str) -> Iterator[tuple[str, tuple[Reader, ...]]]:
    for n, value in enumerate(reader.values(key)):
        where = f"{reader.where(key)}[{n}]"
        if not isinstance(value, list):
            reader.mistakes.append((where, f"must be a list, not {kind(value)}"))
            yield where, ()
            continue
        readers = []
        for m, each in enumerate(value):
            if isinstance(each, dict):
                readers.append(Reader(each, f"{where}[{m}]", reader.mistakes))
            else:
                reader.mistakes.append((f"{where}[{m}]", f"must be an object, not {kind(each)}"))
        yield where, tuple(readers)


def _path(reader: Reader, key: str) -> str:
    """Return an absolute path; empty if it is absent or wrong."""
    path = reader.string(key)
    if path and (not path.startswith("/") or "\0" in path):
        # A plugin's working folder is the runtime's, whatever that is.
        reader.mistake(key, f"must be an absolute path, not {short(path)}")
        return ""
    return path


def parse_resolv_conf(text: str) -> DNS:
    """Return what a resolver configuration tells (resolv.conf(5)); what is not known is passed."""
    values: dict[str, list[str]] = {"nameserver": [], "domain": [], "search": [], "options": []}
    for line in text.split("\n"):
        key, *words = line.split() or [""]
        if key in values:
            values[key] += words[:1] if key in ("nameserver", "domain") else words
    return DNS(
        nameservers=values["nameserver"],
        domain="".join(values["domain"][-1:]),
        search=values["search"],
        options=values["options"],
    )
