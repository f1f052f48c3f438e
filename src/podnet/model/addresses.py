"""IP addresses and prefixes as integers, of any spelling callers use.

Texts are Go's and Python's common form: RFC 5952 for IPv6, no leading zeros in IPv4.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from typing import TypeAlias

    import netaddr

    AddressLike: TypeAlias = str | ipaddress.IPv4Address | ipaddress.IPv6Address | netaddr.IPAddress
    PrefixLike: TypeAlias = (
        str
        | ipaddress.IPv4Network
        | ipaddress.IPv6Network
        | ipaddress.IPv4Interface
        | ipaddress.IPv6Interface
        | netaddr.IPNetwork
    )
    SpanLike: TypeAlias = "AddressLike | PrefixLike | Address | Prefix | Span"

BITS = {4: 32, 6: 128}
_HEX = frozenset("0123456789abcdefABCDEF")


@frozen(order=True)
class Address:
    """One IP address.

    Attributes:
        version: 4 or 6.
        value: the address as an integer, network byte order.
    """

    version: int
    value: int

    def __str__(self) -> str:
        if self.version == 4:
            return str(ipaddress.IPv4Address(self.value))
        return str(ipaddress.IPv6Address(self.value))

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def netaddr(self) -> netaddr.IPAddress:
        """Return it as netaddr's value."""
        import netaddr

        return netaddr.IPAddress(self.value, self.version)


@frozen(order=True)
class Prefix:
    """An address with a prefix length; host bits are kept, as in CNI results.

    Attributes:
        address: the address as written.
        length: prefix length in bits, 0 to 32 or 128.
    """

    address: Address
    length: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.address.version

    @property
    def first(self) -> int:
        """The network address as an integer: all host bits 0."""
        host = BITS[self.version] - self.length
        return self.address.value >> host << host

    @property
    def last(self) -> int:
        """The highest address as an integer: all host bits 1."""
        return self.first | ((1 << (BITS[self.version] - self.length)) - 1)

    @property
    def masked(self) -> Prefix:
        """The same prefix without host bits."""
        return Prefix(Address(self.version, self.first), self.length)

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and self.first <= address.value <= self.last

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"

    def __repr__(self) -> str:
        return f"Prefix({str(self)!r})"

    def netaddr(self) -> netaddr.IPNetwork:
        """Return it as netaddr's value, host bits kept."""
        import netaddr

        return netaddr.IPNetwork((self.address.value, self.length), version=self.version)


_OCTETS = {str(octet): octet for octet in range(256)}


def parse_address(value: AddressLike | Address) -> Address:
    """Return an address of text, ``ipaddress`` or netaddr value.

    Raises:
        ValueError: it is none; the message quotes it.
    """
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        parts = value.split(".")
        if len(parts) == 4 and all(map(_OCTETS.__contains__, parts)):  # half of ipaddress's time
            a, b, c, d = map(_OCTETS.__getitem__, parts)
            return Address(4, a << 24 | b << 16 | c << 8 | d)
        if "%" in value:  # a zone names an interface of one host; no CNI field has room for it
            raise ValueError(f"{value!r} is not an IP address: it has a zone")
        try:
            parsed = ipaddress.ip_address(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an IP address") from None
        return Address(parsed.version, int(parsed))
    version = getattr(value, "version", None)
    try:
        if version in BITS:
            return Address(version, int(value))
    except TypeError:  # networks have a version, too, and are no numbers
        pass
    raise ValueError(f"{value!r} is not an IP address")


def parse_prefix(value: PrefixLike | Prefix) -> Prefix:
    """Return a prefix of ``address/length`` text, ``ipaddress`` or netaddr value; keeps host bits.

    Raises:
        ValueError: it is none; the message quotes it.
    """
    if isinstance(value, Prefix):
        return value
    text = str(value)
    address, slash, length = text.partition("/")
    # ASCII digits only: int() also takes signs, blanks and other scripts' digits.
    if not slash or not (length.isascii() and length.isdigit() and len(length) <= 3):
        raise ValueError(f"{text!r} is not in CIDR notation (address/prefix length)")
    try:
        parsed = parse_address(address)
    except ValueError:
        raise ValueError(f"{text!r} is not in CIDR notation (address/prefix length)") from None
    if int(length) > BITS[parsed.version]:
        raise ValueError(f"{text!r} has a prefix length above {BITS[parsed.version]}")
    return Prefix(parsed, int(length))


def parse_mac(text: str) -> str:
    """Return a hardware address in the kernel's form: lower case, bytes separated by colons.

    Takes what Go's ``net.ParseMAC`` takes: 6, 8 or 20 bytes as ``xx:xx:…``, ``xx-xx-…`` or
    ``xxxx.xxxx.…``.

    Raises:
        ValueError: it is none; the message quotes it.
    """
    for separator, digits in ((":", 2), ("-", 2), (".", 4)):
        groups = text.split(separator)
        if len(groups) * digits // 2 in (6, 8, 20) and all(
            len(group) == digits and all(each in _HEX for each in group) for group in groups
        ):
            return bytes.fromhex("".join(groups)).hex(":")
    raise ValueError(f"{text!r} is not a hardware address")


@frozen(order=True)
class Span:
    """A run of addresses of one family, both ends included.

    Attributes:
        version: 4 or 6.
        first: lowest address as an integer.
        last: highest address as an integer, not below ``first``.
    """

    version: int
    first: int
    last: int

    def __contains__(self, address: Address) -> bool:
        return address.version == self.version and self.first <= address.value <= self.last

    def __str__(self) -> str:
        low = Address(self.version, self.first)
        if self.first == self.last:
            return str(low)
        size = self.last - self.first + 1
        if size.bit_count() == 1 and self.first % size == 0:
            return f"{low}/{BITS[self.version] - size.bit_length() + 1}"
        return f"{low}-{Address(self.version, self.last)}"

    def __repr__(self) -> str:
        return f"Span({str(self)!r})"


def parse_span(value: SpanLike) -> Span:
    """Return the addresses that an address, a prefix or a ``first-last`` text means.

    Host bits of a prefix are dropped: ``10.0.0.9/30`` is 10.0.0.8 to 10.0.0.11.

    Raises:
        ValueError: it is none of them, or ends before it starts; the message quotes it.
    """
    if isinstance(value, Span):
        return value
    text = str(value)
    if "/" in text:
        prefix = parse_prefix(text)
        return Span(prefix.version, prefix.first, prefix.last)
    if isinstance(value, str) and "-" in value:
        low, _, high = value.partition("-")
        first, last = parse_address(low.strip()), parse_address(high.strip())
        if first.version != last.version or last.value < first.value:
            raise ValueError(f"{value!r} ends before it starts")
        return Span(first.version, first.value, last.value)
    address = parse_address(text)
    return Span(address.version, address.value, address.value)
