"""One network of host-local's under its lock: blocks as the files and sidecars tell, and swaps.

A swap is done whole or not at all, as podnet sees it, wherever it is killed; whoever locks the
network next finishes it or takes it back:

1. The files of new addresses are written under other names, then the sidecar as ``.intent``.
2. They are linked to the addresses' names. A kill up to here takes everything back, unless all
   are linked: which of the files are podnet's, their inodes tell, whatever host-local did since.
3. As ``.commit`` the sidecar says that owners are to be changed and files removed: always done.
4. As ``.json`` it says that all is done.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING

from attrs import evolve

from podnet.errors import StoreError
from podnet.model.addresses import BITS, Address
from podnet.model.block import BLOCK_BITS, Block
from podnet.stores.host_local_folder import Folder, inode_of
from podnet.stores.host_local_names import content_of
from podnet.stores.host_local_sidecar import COMMIT, FINAL, INTENT, Sidecar, Sidecars

if TYPE_CHECKING:
    from podnet.model.lease import Lease
    from podnet.stores.host_local_names import Found


class View:
    """A block as files and sidecar together tell it.

    Attributes:
        block: the block; a lease whose file is gone is over, a file that the sidecar does not
            know is a lease of which little is known.
        version: changes with the sidecar and with whatever host-local does to the block.
        found: the files by offset.
        strangers: offsets of the leases that the sidecar does not know.
    """

    def __init__(self, before: Sidecar | None, block: Block, found: dict[int, Found]) -> None:
        """Put the two together.

        Args:
            before: the sidecar; None if there is none.
            block: its block, or one without leases.
            found: the files.
        """
        own = {n: lease for n, lease in block.leases.items() if n in found}
        own = {n: lease for n, lease in own.items() if found[n].is_of(lease.owner)}
        self.found = found
        self.strangers = found.keys() - own.keys()
        self.block = block
        self.version = "" if before is None else before.version
        if self.strangers or len(own) < len(block.leases):
            theirs = {n: _stranger(block, n, found[n]) for n in sorted(self.strangers)}
            freed = {n: when for n, when in block.freed.items() if n not in theirs}
            self.block = evolve(block, leases={**own, **theirs}, freed=freed)
            seen = [(n, found[n].stamp if n in theirs else ()) for n in sorted(found)]
            self.version += "+" + blake2b(repr(seen).encode(), digest_size=12).hexdigest()


def _stranger(block: Block, offset: int, found: Found) -> Lease:
    ip = Address(block.version, block.first + offset)
    return found.lease(block.domain, ip, BITS[block.version])


class Network:
    """One network's folder and sidecars; the caller holds the lock."""

    def __init__(self, domain: str, folder: Folder, sidecars: Sidecars) -> None:
        """Take the parts; ``domain`` is what the network's blocks belong to."""
        self._domain = domain
        self._folder = folder
        self._sidecars = sidecars

    def unfinished(self) -> bool:
        """Tell whether a swap was killed here; a shared lock is enough to ask."""
        return self._sidecars.unfinished()

    def recover(self) -> None:
        """Finish or take back what killed swaps left."""
        if not self.unfinished():
            return
        for version, index in self._sidecars.blocks():
            commit = self._sidecars.read(version, index, COMMIT)
            intent = None if commit else self._sidecars.read(version, index, INTENT)
            if commit is not None:
                self._finish(commit, COMMIT)
            elif intent is not None and all(self._is_ours(intent, n) for n in intent.linked):
                self._finish(intent, INTENT)
            elif intent is not None:
                self._take_back(intent)
        self._sidecars.tidy()

    def blocks(self) -> set[tuple[int, int]]:
        """Return family and index of the blocks that there are."""
        held = {(each.version, each.value >> BLOCK_BITS) for each in self._folder.addresses()}
        return held | self._sidecars.blocks()

    def view(self, version: int, index: int) -> View | None:
        """Return a block as it is; None if there is none."""
        sidecar = self._sidecars.read(version, index)
        found = self._folder.scan(version, index)
        if sidecar is None and not found:
            return None
        empty = Block(domain=self._domain, version=version, index=index)
        return View(sidecar, empty if sidecar is None else sidecar.block, found)

    def replace(self, view: View | None, block: Block | None) -> bool:
        """Put another block where a view is of; None for either means that there is none.

        Returns:
            False, and nothing changed, if a file was there that nobody had seen: whoever put it
            there did not hold the lock.

        Raises:
            StoreError: what has an address's name is no file, and cannot be changed.
        """
        swap = self._plan(view, block)
        if swap is None:
            return True
        version, index = swap.block.version, swap.block.index
        if not swap.pending:
            if swap.deleted:
                self._sidecars.remove(version, index, FINAL, durable=True)
            else:
                self._sidecars.write(swap, FINAL)
            return True
        if not swap.linked:
            self._sidecars.write(swap, COMMIT)
            self._finish(swap, COMMIT)
            return True
        for offset in swap.linked:
            content = content_of(swap.block.leases[offset].owner)
            self._sidecars.write_new(version, index, offset, content)
        self._sidecars.write(swap, INTENT)
        for offset in swap.linked:
            source = self._sidecars.new_path(version, index, offset)
            if not self._folder.link(source, _address(swap, offset)):
                self._take_back(swap)
                return False
        self._finish(swap, INTENT)
        return True

    def _plan(self, view: View | None, block: Block | None) -> Sidecar | None:
        """Return the swap from what is there to a block; None if neither is anything."""
        if view is None:
            if block is None:
                return None
            view = View(None, evolve(block, leases={}), {})
        old = view.block.leases
        new = {} if block is None else block.leases
        # What host-local gave, and podnet did not change, stays as it is.
        own = {n: e for n, e in new.items() if not (n in view.strangers and old[n] == e)}
        removed = [n for n in old if n not in new]
        rewritten = [n for n in old if n in own and not view.found[n].is_of(own[n].owner)]
        for offset in (*removed, *rewritten):
            if view.found[offset].content is None:
                raise StoreError(
                    f"{old[offset].ip} of {self._folder.path} is no regular file; it was left alone"
                )
        base = view.block if block is None else block
        return Sidecar(
            version=os.urandom(16).hex(),
            block=evolve(base, leases=own),
            deleted=block is None,
            linked=tuple(sorted(n for n in new if n not in old)),
            rewritten={n: view.found[n].content or b"" for n in rewritten},
            removed={n: view.found[n].stamp for n in removed},
        )

    def _is_ours(self, swap: Sidecar, offset: int) -> bool:
        """Tell whether an address's file is the very one that the swap wrote for it."""
        block = swap.block
        inode = inode_of(self._sidecars.new_path(block.version, block.index, offset))
        return inode is not None and inode == self._folder.inode(_address(swap, offset))

    def _take_back(self, swap: Sidecar) -> None:
        block = swap.block
        for offset in swap.linked:
            if self._is_ours(swap, offset):
                self._folder.remove(_address(swap, offset))
        self._folder.sync()
        self._sidecars.remove(block.version, block.index, INTENT)
        self._sidecars.tidy()

    def _finish(self, swap: Sidecar, stage: str) -> None:
        """Do what is left of a swap whose new files have their addresses' names."""
        version, index = swap.block.version, swap.block.index
        if stage == INTENT and (swap.rewritten or swap.removed):
            self._folder.sync()
            self._sidecars.rename(swap, INTENT, COMMIT)
            stage = COMMIT
        for offset, old in swap.rewritten.items():
            self._rewrite(_address(swap, offset), old, content_of(swap.block.leases[offset].owner))
        for offset, stamp in swap.removed.items():
            found = self._folder.find(_address(swap, offset))
            if found is not None and found.stamp == stamp:
                self._folder.remove(_address(swap, offset))
        self._folder.sync()
        for offset in sorted(swap.linked, key=lambda n: swap.block.leases[n].sequence):
            lease = swap.block.leases[offset]
            self._folder.set_cursor(lease.pool, lease.ip)
        if swap.deleted:
            self._sidecars.remove(version, index, FINAL)
            self._sidecars.remove(version, index, stage)
        else:
            self._sidecars.rename(swap, stage, FINAL)
        if swap.linked:
            self._sidecars.tidy()

    def _rewrite(self, address: Address, old: bytes, new: bytes) -> None:
        """Change the owner, if the file still is of the former one, or half changed."""
        found = self._folder.find(address)
        if found is not None and found.content in (old, new + old[len(new) :]):
            self._folder.rewrite(address, new)


def _address(swap: Sidecar, offset: int) -> Address:
    return Address(swap.block.version, swap.block.first + offset)
