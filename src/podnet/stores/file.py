"""A store in a folder of one host: a file for each block, shared by processes and threads.

Layout: ``<folder>/<first part of the key>/<rest of the key>.block``, names made safe, and in each
sub-folder a file ``.lock`` that writers of it take, and one ``.changes`` in which they tell what
they change. A block's file has lines of JSON: a header with version, key and a checksum of the
rest, then the block without its leases, then one line for each lease. The version is random: it
never comes back, and a reader that knows the block of a version need not decode it again, nor the
lines that an earlier version had already.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import TYPE_CHECKING

from attrs import frozen

from podnet import disk
from podnet.errors import (
    DeadlineError,
    DecodingError,
    InvalidConfigError,
    IOFailureError,
    StoreBusyError,
    StoreError,
)
from podnet.model.block import Block
from podnet.model.lease import Lease
from podnet.stores.file_index import ChangeLog, FolderIndex
from podnet.stores.recent import remember

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.model.lease import Owner

_ENDING = ".block"
# The file of a key without "/": a name that disk.safe_name makes of no text.
_NO_REST = "%%" + _ENDING
_KNOWN_BLOCKS = 64


@frozen
class _Known:
    """A version of a block as last read or written, with the lines of its leases."""

    version: str
    block: Block
    lines: dict[bytes, Lease]


def _decode(version: str, body: bytes, before: _Known | None) -> _Known:
    head_line, *lease_lines = body.splitlines() or [b""]
    head = json.loads(head_line)
    domain = str(head.get("domain")) if isinstance(head, dict) else ""
    earlier = before.lines if before is not None and before.block.domain == domain else {}
    fresh = [line for line in lease_lines if line not in earlier]
    # One call of the parser for all of them.
    documents = json.loads(b"[" + b",".join(fresh) + b"]")
    if len(documents) != len(fresh):
        raise DecodingError("block: a line is not one lease")
    read = iter(documents)
    lines = {
        line: earlier.get(line) or Lease.from_document(next(read), domain) for line in lease_lines
    }
    if len(lines) != len(lease_lines):
        raise DecodingError("block: a lease is told twice")
    return _Known(version, Block.assemble(head, lines.values()), lines)


def _encode(version: str, block: Block, before: _Known | None) -> tuple[_Known, bytes]:
    earlier = {} if before is None else {id(lease): line for line, lease in before.lines.items()}
    lines = {
        earlier.get(id(lease)) or _to_line(lease.to_document()): lease
        for _, lease in sorted(block.leases.items())
    }
    body = b"\n".join((_to_line(block.head()), *lines, b""))
    return _Known(version, block, lines), body


def _to_line(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


class FileStore:
    """Blocks in files; every swap is on the disk, for good, when it returns."""

    def __init__(self, folder: str, *, durable: bool = True, timeout: float = 10.0) -> None:
        """Open the folder, making it if missing.

        Args:
            folder: where; private to its owner if made here.
            durable: synchronise the disk at each swap. False is for tests: a power cut may then
                take back swaps and leave empty files.
            timeout: seconds to wait for other writers.

        Raises:
            StoreError: the folder cannot be made.
        """
        self._folder = os.path.abspath(folder)
        self._durable = durable
        self._timeout = timeout
        self._known: dict[str, _Known] = {}
        self._indexes: dict[str, FolderIndex] = {}
        self._pid = os.getpid()
        try:
            disk.make_private_dir(self._folder)
        except IOFailureError as error:
            raise StoreError(error.msg) from error

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none.

        Raises:
            StoreError: the file cannot be read, is empty or damaged; it is never taken for free.
        """
        path = self._path(key)
        try:
            data = disk.read_file(path)
        except IOFailureError as error:
            raise StoreError(error.msg) from error
        if data is None:
            return None
        version, checksum, body = self._open_envelope(path, key, data)
        known = self._known.get(key)
        if known is None or known.version != version:
            if zlib.crc32(body) != checksum:
                raise self._damaged(path, "its checksum is wrong")
            try:
                known = _decode(version, body, known)
            except (ValueError, RecursionError, DecodingError) as error:
                raise self._damaged(path, str(error)) from error
            remember(self._known, key, known, _KNOWN_BLOCKS)
        return known.block, version

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Raises:
            StoreError: reading or writing failed.
            StoreBusyError: other writers held the folder for the whole timeout.
        """
        path = self._path(key)
        folder = os.path.dirname(path)
        if new is None and expected is None and not os.path.isdir(folder):
            return True
        try:
            disk.make_private_dir(folder)
            with disk.Lock(os.path.join(folder, ".lock"), timeout=self._timeout):
                return self._swap_locked(key, path, new, expected)
        except DeadlineError as error:
            raise StoreBusyError(error.msg) from error
        except IOFailureError as error:
            raise StoreError(error.msg) from error

    def _swap_locked(self, key: str, path: str, new: Block | None, expected: str | None) -> bool:
        data = disk.read_file(path)
        current = None if data is None else self._open_envelope(path, key, data)[0]
        if current != expected:
            return False
        if new is None and current is None:
            return True
        folder, name = os.path.split(path)
        log = ChangeLog(folder)
        log.begin(name)
        try:
            self._replace(key, path, new, current)
        finally:
            log.end(name)
        return True

    def _replace(self, key: str, path: str, new: Block | None, current: str | None) -> None:
        if new is None:
            disk.remove(path, durable=self._durable)
            self._known.pop(key, None)
            return
        if current is None:
            # All writers of the folder hold its lock: a temporary file seen here is nobody's.
            disk.sweep_temporary(os.path.dirname(path), older=0)
        version = os.urandom(16).hex()
        known, body = _encode(version, new, self._known.get(key))
        header = {"podnet": "block", "version": version, "key": key, "crc32": zlib.crc32(body)}
        data = json.dumps(header).encode() + b"\n" + body
        disk.write_atomic(path, data, durable=self._durable, alone=True)
        remember(self._known, key, known, _KNOWN_BLOCKS)

    def keys(self, prefix: str) -> Iterator[str]:
        """Return the keys that start with ``prefix``, in order.

        Raises:
            StoreError: a folder or a file with a shortened name cannot be read.
        """
        head, slash, _ = prefix.partition("/")
        try:
            folders = [disk.safe_name(head)] if slash else disk.names(self._folder, folders=True)
            found = [key for folder in folders for key in self._keys_in(folder)]
        except IOFailureError as error:
            raise StoreError(error.msg) from error
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def seek(self, prefix: str, owner: Owner) -> Iterator[str]:
        """Return the keys under ``prefix`` of blocks that may have a lease of the owner.

        The first call reads the files of the folder, later ones those that changed since.

        Raises:
            StoreError: a folder or a file cannot be read.
        """
        head, slash, _ = prefix.partition("/")
        try:
            folders = [disk.safe_name(head)] if slash else disk.names(self._folder, folders=True)
            found = [
                key
                for folder in folders
                for name in self._index(folder).seek(owner)
                if (key := self._key_of(folder, name)) is not None
            ]
        except IOFailureError as error:
            raise StoreError(error.msg) from error
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def _index(self, folder: str) -> FolderIndex:
        if self._pid != os.getpid():
            # A thread of the parent's that is not here may have been at work in one of them.
            self._indexes, self._pid = {}, os.getpid()
        path = os.path.join(self._folder, folder)
        return self._indexes.setdefault(folder, FolderIndex(path, _ENDING))

    def close(self) -> None:
        """Forget the blocks read; nothing is open between calls."""
        self._known.clear()
        self._indexes.clear()

    def _path(self, key: str) -> str:
        head, slash, rest = key.partition("/")
        name = disk.safe_name(rest) + _ENDING if slash else _NO_REST
        return os.path.join(self._folder, disk.safe_name(head), name)

    def _keys_in(self, folder: str) -> Iterator[str]:
        for name in disk.names(os.path.join(self._folder, folder)):
            if name.endswith(_ENDING):
                key = self._key_of(folder, name)
                if key is not None:
                    yield key

    def _key_of(self, folder: str, name: str) -> str | None:
        key = _key_of_names(folder, name)
        return self._key_inside(os.path.join(self._folder, folder, name)) if key is None else key

    def _key_inside(self, path: str) -> str | None:
        """Return the key that a file tells itself, as one with a shortened name has to."""
        data = disk.read_file(path)
        if data is None:  # deleted since the folder was listed
            return None
        key = str(self._header(path, data)[0].get("key"))
        if self._path(key) != path:
            raise self._damaged(path, f"it says it belongs to the key {key!r}")
        return key

    def _open_envelope(self, path: str, key: str, data: bytes) -> tuple[str, int, bytes]:
        header, body = self._header(path, data)
        version, checksum = header.get("version"), header.get("crc32")
        if not isinstance(version, str) or not version or type(checksum) is not int:
            raise self._damaged(path, "its header has no version or checksum")
        if header.get("key") != key:
            raise self._damaged(path, f"it says it belongs to the key {header.get('key')!r}")
        return version, checksum, body

    def _header(self, path: str, data: bytes) -> tuple[dict[str, object], bytes]:
        line, newline, body = data.partition(b"\n")
        try:
            header = json.loads(line) if newline else None
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict) or header.get("podnet") != "block":
            raise self._damaged(path, "it is empty" if not data else "it has no header")
        return header, body

    @staticmethod
    def _damaged(path: str, what: str) -> StoreError:
        return StoreError(
            f"block file {path} is damaged: {what}",
            "its leases are unknown, so its addresses are not handed out; restore the file, or "
            "move it away once no container uses an address of it",
        )


def _key_of_names(folder: str, name: str) -> str | None:
    """Return the key that two names were made of; None for one that cannot be had back."""
    head = disk.text_of_name(folder)
    if head is None or name == _NO_REST:
        return head
    rest = disk.text_of_name(name.removesuffix(_ENDING))
    return None if rest is None else f"{head}/{rest}"


def open(url: str) -> FileStore:  # noqa: A001 - what a store module offers is called open
    """Open ``file:/absolute/folder``, ``file:///absolute/folder`` or ``file:relative/folder``.

    Raises:
        InvalidConfigError: it is no such URL.
        StoreError: the folder cannot be made.
    """
    scheme, colon, folder = url.partition(":")
    if folder.startswith("//"):
        host, slash, rest = folder[2:].partition("/")
        if host not in ("", "localhost"):
            raise InvalidConfigError(f"store {url!r} names the host {host!r}: files are local")
        folder = slash + rest
    if scheme != "file" or not colon or not folder:
        raise InvalidConfigError(f"store {url!r} is not file:FOLDER")
    return FileStore(folder)
