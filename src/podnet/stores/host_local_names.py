"""Names and contents of host-local's files (facts: plugins v1.9.1, host-local/backend/disk).

A network is a folder of its name. An address is a file whose name is the address as Go prints it
and whose content says who has it: container id, CR LF, interface name. ``lock`` is locked by
flock, ``last_reserved_ip.N`` is the cursor of range set N; everything else is not host-local's.
"""

from __future__ import annotations

from functools import lru_cache

from attrs import frozen

from podnet import disk
from podnet.model.addresses import Address, parse_address
from podnet.model.lease import UNREADABLE, Lease, Owner
from podnet.model.names import container_id_fault, ifname_fault, network_name_fault

LOCK = "lock"
EMPTY_FILE = "(empty file)"
"""Container id of a lease whose file is empty, as a crash between open and write leaves it."""

_CURSOR = "last_reserved_ip."
_LINE_BREAK = "\r\n"
_NAME_MAX = 255
_HEX = frozenset("0123456789abcdef:")
_MAPPED = 0xFFFF


def folder_name(domain: str) -> str:
    """Return the name of a domain's folder: it differs for every domain and is one folder's name.

    A valid CNI network name is itself, as in host-local. Any other text has a ``%`` in its folder's
    name, or begins with none of the letters and digits that a network's name begins with.
    """
    if network_name_fault(domain) == "" and len(domain) <= _NAME_MAX:
        return domain
    return disk.safe_name(domain)


def domain_of_folder(name: str) -> str | None:
    """Return the domain whose folder has that name; None where the name alone does not tell."""
    if network_name_fault(name) == "":
        return name
    text = disk.text_of_name(name)
    return text if text and folder_name(text) == name else None


def file_name(address: Address) -> str:
    """Return the name of an address's file."""
    if address.version == 6 and address.value >> 32 == _MAPPED:
        # Go prints it as IPv4, whose file is another address's; Python as its release pleases.
        return f"::ffff:{address.value >> 16 & 0xFFFF:x}:{address.value & 0xFFFF:x}"
    return str(address)


@lru_cache(maxsize=1 << 14)
def address_of_file(name: str) -> Address | None:
    """Return the address whose file has that name; None for a file that is no address's."""
    if not (_HEX.issuperset(name) if ":" in name else name[:1].isdigit()):
        return None
    try:
        address = parse_address(name)
    except ValueError:
        return None
    return address if file_name(address) == name else None


def cursor_name(pool: str) -> str | None:
    """Return the name of a range set's cursor; None for a pool that is not a set's number."""
    is_number = len(pool) < 10 and pool.isascii() and pool.isdigit() and str(int(pool)) == pool
    return _CURSOR + pool if is_number else None


def content_of(owner: Owner) -> bytes:
    """Return what an address's file says of its owner."""
    text = owner.container_id.strip() + _LINE_BREAK + owner.ifname
    return text.encode("utf-8", "surrogatepass")


@frozen
class Found:
    """An address's file as it is.

    Attributes:
        content: what it says; None for something that is no regular file.
        changed: time of the last write in seconds since the epoch.
        stamp: inode number and time of the last write in nanoseconds: which file it is.
    """

    content: bytes | None
    changed: float
    stamp: tuple[int, int]

    def is_of(self, owner: Owner) -> bool:
        """Tell whether it says that the owner has the address; white space around is no matter."""
        return self.content is not None and self.content.strip() == content_of(owner).strip()

    def lease(self, domain: str, ip: Address, length: int) -> Lease:
        """Return the lease as far as the file tells of it.

        Args:
            domain: collision domain of its folder.
            ip: the address.
            length: prefix length, of which the file says nothing.
        """
        owner, claim = self._owner()
        return Lease(
            domain=domain,
            pool="",
            ip=ip,
            length=length,
            owner=owner,
            network="" if network_name_fault(domain) else domain,
            since=self.changed,
            claim=claim,
        )

    def _owner(self) -> tuple[Owner, str]:
        if self.content is None:
            return Owner("(no regular file)", "-"), UNREADABLE
        try:
            # Like host-local, which compares what is left after trimming.
            text = self.content.decode("utf-8", "surrogatepass").strip()
        except UnicodeDecodeError:
            return Owner("(no text)", "-"), UNREADABLE
        if not text:
            return Owner(EMPTY_FILE, "-"), ""
        container, _, ifname = text.partition(_LINE_BREAK)
        # The old form is the container id alone, and stands for any interface of it.
        wrong = container_id_fault(container) or (ifname and ifname_fault(ifname))
        return Owner(container, ifname), UNREADABLE if wrong else ""
