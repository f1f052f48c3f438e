"""What host-local's files have no room for, kept beside them: ``.podnet/NETWORK/BLOCK.json``.

A sidecar holds a block with the leases that podnet handed out; each counts only as long as the
address's file names its owner. It is also the log of the swap that made it: until it has its final
name it says what has yet to be done to the files.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet import disk
from podnet.errors import DecodingError, StoreError
from podnet.model.block import Block
from podnet.stores.host_local_folder import opened, write_all
from podnet.stores.recent import remember

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDECARS = ".podnet"
"""Folder beside those of the networks; no network's name can begin with a dot."""

FINAL = ".json"
INTENT = ".intent"
COMMIT = ".commit"
_NEW = ".new-"
_NAME = re.compile(r"([46])-([0-9a-f]{1,32})\.(?:json|intent|commit)")
_KIND = "host-local block"
_KNOWN = 1024


@frozen(kw_only=True)
class Sidecar:
    """A block as podnet keeps it.

    Attributes:
        version: of the swap that made it; random.
        block: with podnet's own leases alone.
        deleted: the swap deletes the block.
        linked: offsets of addresses whose files the swap makes.
        rewritten: offset to the former content of each file whose owner the swap changes.
        removed: offset to the stamp of each file that the swap removes.
    """

    version: str
    block: Block
    deleted: bool
    linked: tuple[int, ...]
    rewritten: Mapping[int, bytes]
    removed: Mapping[int, tuple[int, int]]

    @property
    def pending(self) -> bool:
        """Whether the swap has anything to do to the files."""
        return bool(self.linked or self.rewritten or self.removed)

    def encode(self) -> bytes:
        """Return the content of its file."""
        body = {
            "block": self.block.to_document(),
            "deleted": self.deleted,
            "linked": list(self.linked),
            "rewritten": [[offset, old.hex()] for offset, old in self.rewritten.items()],
            "removed": [[offset, *stamp] for offset, stamp in self.removed.items()],
        }
        data = json.dumps(body, separators=(",", ":")).encode()
        head = {"podnet": _KIND, "version": self.version, "crc32": zlib.crc32(data)}
        return json.dumps(head).encode() + b"\n" + data


class Sidecars:
    """The sidecars of one network; the caller holds the network's lock."""

    def __init__(self, folder: str, known: dict[str, Sidecar], *, durable: bool) -> None:
        """Look at a folder.

        Args:
            folder: where; it may be missing.
            known: sidecars as last read or written, by path; kept between calls.
            durable: synchronise the disk.
        """
        self.folder = folder
        self._known = known
        self._durable = durable

    def names(self) -> list[str]:
        """Return the names of the files here, temporary ones left out."""
        return disk.names(self.folder)

    def blocks(self) -> set[tuple[int, int]]:
        """Return family and index of each block with a sidecar."""
        found = set()
        for name in self.names():
            known = _NAME.fullmatch(name)
            if known is not None:
                found.add((int(known[1]), int(known[2], 16)))
        return found

    def unfinished(self) -> bool:
        """Tell whether a swap was killed here."""
        return any(name.endswith((INTENT, COMMIT)) or _NEW in name for name in self.names())

    def path(self, version: int, index: int, ending: str) -> str:
        """Return where a block's file with that ending is."""
        return os.path.join(self.folder, f"{version}-{index:x}{ending}")

    def new_path(self, version: int, index: int, offset: int) -> str:
        """Return where the file of an address is before it has the address's name."""
        return self.path(version, index, f"{_NEW}{offset}")

    def read(self, version: int, index: int, ending: str = FINAL) -> Sidecar | None:
        """Return a block's sidecar; None if there is none.

        Raises:
            StoreError: it is damaged.
            IOFailureError: it cannot be read.
        """
        path = self.path(version, index, ending)
        data = disk.read_file(path)
        if data is None:
            self._known.pop(path, None)
            return None
        head, _, body = data.partition(b"\n")
        try:
            header: Any = json.loads(head)
            known = self._known.get(path)
            if known is not None and known.version == header["version"]:
                return known
            if header["podnet"] != _KIND or header["crc32"] != zlib.crc32(body):
                raise DecodingError("its checksum is wrong")
            sidecar = _decode(header["version"], json.loads(body))
        except (ValueError, KeyError, TypeError, RecursionError, DecodingError) as error:
            raise StoreError(
                f"{path} is damaged: {error}",
                "the files of the addresses tell who has which: move it away; pods' names and "
                "claims of these leases are lost then",
            ) from error
        if (sidecar.block.version, sidecar.block.index) != (version, index):
            raise StoreError(f"{path} is damaged: it is of the block {sidecar.block.key}")
        remember(self._known, path, sidecar, _KNOWN)
        return sidecar

    def write(self, sidecar: Sidecar, ending: str) -> None:
        """Write a sidecar under one of its names; it is on the disk when this returns."""
        block = sidecar.block
        disk.make_private_dir(self.folder)
        path = self.path(block.version, block.index, ending)
        disk.write_atomic(path, sidecar.encode(), durable=self._durable, alone=True)

    def write_new(self, version: int, index: int, offset: int, content: bytes) -> None:
        """Write the file of an address before it has the address's name."""
        disk.make_private_dir(self.folder)
        path = self.new_path(version, index, offset)
        disk.remove(path, durable=False)
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            write_all(fd, content)
            if self._durable:
                os.fsync(fd)

    def rename(self, sidecar: Sidecar, old: str, new: str) -> None:
        """Go from one stage of a swap to the next.

        Not synchronised: after a power cut the stage is done again, which changes nothing.
        """
        block = sidecar.block
        path = self.path(block.version, block.index, new)
        os.replace(self.path(block.version, block.index, old), path)
        if new == FINAL:
            remember(self._known, path, sidecar, _KNOWN)

    def remove(self, version: int, index: int, ending: str, *, durable: bool = False) -> None:
        """Remove one of a block's files; a missing one is fine."""
        path = self.path(version, index, ending)
        self._known.pop(path, None)
        disk.remove(path, durable=durable and self._durable)

    def tidy(self) -> None:
        """Remove what killed swaps left of files that have, or never got, their address's name."""
        names = self.names()
        for name in names:
            stem, found, _ = name.partition(_NEW)
            if found and stem + INTENT not in names:
                disk.remove(os.path.join(self.folder, name), durable=False)


def _decode(version: str, body: Any) -> Sidecar:
    return Sidecar(
        version=version,
        block=Block.from_document(body["block"]),
        deleted=body["deleted"],
        linked=tuple(body["linked"]),
        rewritten={offset: bytes.fromhex(old) for offset, old in body["rewritten"]},
        removed={offset: (inode, when) for offset, inode, when in body["removed"]},
    )
