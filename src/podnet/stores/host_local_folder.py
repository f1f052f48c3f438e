"""A network's folder as host-local knows it; the caller holds its lock.

No file of an address is ever replaced by a rename, and none is seen half written: its content is
written under another name, elsewhere, and then linked to its own, which fails where a file is
there, as host-local's ``O_EXCL`` does. Only a change of hands is written in place.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from podnet import disk
from podnet.model.addresses import Address, parse_address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE
from podnet.stores.host_local_names import Found, address_of_file, cursor_name, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 1 << 20
# A file written this shortly before it was read may be written again within one tick of the
# kernel's clock (CONFIG_HZ=100: 10 ms), and then looks the same from outside.
_SETTLED = 100_000_000
_FORGOTTEN = 4096


class Folder:
    """The files of one network. Every method raises OSError where the disk does."""

    def __init__(self, path: str, known: dict[str, tuple[Found, bool]], *, durable: bool) -> None:
        """Look at a folder.

        Args:
            path: where; it may be missing as long as nothing is written.
            known: files as last read, by name, each with whether its stamp tells it from what may
                be there later; kept between calls.
            durable: ``sync`` does something.
        """
        self.path = path
        self._known = known
        self._durable = durable

    def make(self) -> None:
        """Make the folder and those above it, with the mode that host-local gives them."""
        missing = []
        path = self.path
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            try:
                os.mkdir(each, 0o755)
            except FileExistsError:
                if not os.path.isdir(each):
                    raise
            self._sync(os.path.dirname(each))

    def addresses(self) -> Iterator[Address]:
        """Yield the addresses that have a file, in no order."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        for name in names:
            address = address_of_file(name)
            if address is not None:
                yield address

    def scan(self, version: int, index: int) -> dict[int, Found]:
        """Return the files of a block's addresses by offset."""
        addresses = list(self.addresses())
        if len(self._known) > 2 * len(addresses) + _FORGOTTEN:
            self._known.clear()
        return {
            address.value % BLOCK_SIZE: found
            for address in addresses
            if address.version == version and address.value >> BLOCK_BITS == index
            if (found := self.find(address)) is not None
        }

    def find(self, address: Address) -> Found | None:
        """Return an address's file; None if there is none."""
        name = file_name(address)
        path = os.path.join(self.path, name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            self._known.pop(name, None)
            return None
        stamp = status.st_ino, status.st_mtime_ns
        known = self._known.get(name)
        if known is not None and known[1] and known[0].stamp == stamp:
            return known[0]
        content = _read(path) if stat.S_ISREG(status.st_mode) else None
        found = Found(content, status.st_mtime_ns / 1e9, stamp)
        self._known[name] = found, time.time_ns() - status.st_mtime_ns > _SETTLED
        return found

    def inode(self, address: Address) -> int | None:
        """Return the inode number of an address's file; None if there is none."""
        return inode_of(os.path.join(self.path, file_name(address)))

    def link(self, source: str, address: Address) -> bool:
        """Give a file the name of an address; False, and nothing done, where it has one."""
        try:
            os.link(source, os.path.join(self.path, file_name(address)), follow_symlinks=False)
        except FileExistsError:
            return False
        return True

    def rewrite(self, address: Address, content: bytes) -> None:
        """Replace what an address's file says, in place: nobody may find the name free meanwhile.

        A kill between the two system calls leaves the new content with the end of a longer old one.
        """
        path = os.path.join(self.path, file_name(address))
        self._known.pop(file_name(address), None)
        with opened(path, os.O_WRONLY) as fd:
            write_all(fd, content)
            os.ftruncate(fd, len(content))
            if self._durable:
                os.fsync(fd)

    def remove(self, address: Address) -> None:
        """Remove an address's file; a missing one is fine."""
        disk.remove(os.path.join(self.path, file_name(address)), durable=False)

    def sync(self) -> None:
        """Return when a power cut would not take back what was linked and removed."""
        self._sync(self.path)

    def _sync(self, path: str) -> None:
        if self._durable:
            with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
                os.fsync(fd)

    def cursor(self, pool: str) -> Address | None:
        """Return the address that went out last of a range set; None if that cannot be known."""
        name = cursor_name(pool)
        try:
            text = None if name is None else _read(os.path.join(self.path, name))
            return None if not text else parse_address(text.decode("ascii"))
        except (OSError, ValueError):
            # host-local starts from the beginning then, too: nothing is lost but the turn.
            return None

    def set_cursor(self, pool: str, address: Address) -> None:
        """Note that an address was handed out of a range set; of other pools nothing is noted."""
        name = cursor_name(pool)
        if name is None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        # Without it nothing is lost but the turn; the swap that moves it would never be finished.
        with suppress(OSError), opened(os.path.join(self.path, name), flags) as fd:
            write_all(fd, file_name(address).encode())


@contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """Have a file open, mode 0600 if it is made; follows no symbolic link.

    Raises:
        OSError: with the file's name, which those of calls on a descriptor do not have.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes) -> None:
    """Write a content to an open file, in as many calls as that takes."""
    while content:
        content = content[os.write(fd, content) :]


def inode_of(path: str) -> int | None:
    """Return the inode number of a file; None if there is none."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def _read(path: str) -> bytes:
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
        parts: list[bytes] = []
        while (part := os.read(fd, _MOST)) and len(parts) < 4:
            parts.append(part)
        return b"".join(parts)
