"""A store in host-local's own folder: podnet and host-local hand out of it at the same time.

Who has which address, the files of the addresses say, in host-local's format and under its lock;
what that has no room for is in a sidecar (``host_local_sidecar``). The files are always right: a
lease in a sidecar whose file is gone was released by host-local, a file that no sidecar knows is a
lease that host-local gave. Blocks are kept under their own keys only.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from podnet import disk
from podnet.errors import (
    DeadlineError,
    InvalidConfigError,
    IOFailureError,
    StoreBusyError,
    StoreError,
)
from podnet.model.block import block_key, domain_prefix, key_parts
from podnet.stores.host_local_folder import Folder
from podnet.stores.host_local_names import LOCK, Found, domain_of_folder, folder_name
from podnet.stores.host_local_network import Network
from podnet.stores.host_local_sidecar import COMMIT, FINAL, INTENT, SIDECARS, Sidecar, Sidecars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.model.addresses import Address
    from podnet.model.block import Block


@frozen
class _Place:
    """Which block: its domain, family and index."""

    domain: str
    version: int
    index: int


class HostLocalStore:
    """Blocks in host-local's folders; processes, threads and host-local itself may share them."""

    def __init__(self, folder: str, *, durable: bool = True, timeout: float = 10.0) -> None:
        """Use a folder; nothing is made before something is kept in it.

        Args:
            folder: host-local's ``dataDir``.
            durable: synchronise the disk at each swap. False is for tests.
            timeout: seconds to wait for others, host-local among them.
        """
        self.folder = os.path.abspath(folder)
        self._durable = durable
        self._timeout = timeout
        self._files: dict[str, dict[str, tuple[Found, bool]]] = {}
        self._known: dict[str, Sidecar] = {}

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none.

        Raises:
            StoreError: files cannot be read, or a sidecar is damaged.
            StoreBusyError: others held the network for the whole timeout.
        """
        place = self._place(key)
        if place is None:
            return None
        with self._told(), self._reading(place.domain) as network:
            view = None if network is None else network.view(place.version, place.index)
        return None if view is None else (view.block, view.version)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Raises:
            StoreError: reading or writing failed, or the block is of another key.
            StoreBusyError: others held the network for the whole timeout.
        """
        if new is not None and new.key != key:
            raise StoreError(f"the block {new.key!r} cannot be kept under the key {key!r}")
        place = self._place(key) if new is None else _Place(new.domain, new.version, new.index)
        if place is None or (new is None and not self._exists(place.domain)):
            return new is None and expected is None
        with self._told(), self._writing(place.domain) as network:
            view = network.view(place.version, place.index)
            if (None if view is None else view.version) != expected:
                return False
            return network.replace(view, new)

    def keys(self, prefix: str) -> Iterator[str]:
        """Return the keys that start with ``prefix``, in order.

        Raises:
            StoreError: a folder cannot be read.
            StoreBusyError: others held a network for the whole timeout.
        """
        found: set[str] = set()
        with self._told():
            for domain in self._domains():
                start = domain_prefix(domain)
                if start.startswith(prefix) or prefix.startswith(start):
                    found |= self._keys_of(domain)
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def cursor(self, domain: str, pool: str) -> Address | None:
        """Return the address that host-local or podnet handed out last of a range set.

        Args:
            domain: the network.
            pool: the set's number as text; of any other pool nothing is known.

        Raises:
            StoreError: the lock cannot be had.
            StoreBusyError: others held the network for the whole timeout.
        """
        with self._told(), self._sharing(domain):
            return self._folder(domain).cursor(pool)

    def fault(self, domain: str) -> str:
        """Return why nothing can be kept for a domain, as far as its folders tell; empty if it can.

        Args:
            domain: the network.
        """
        for path in (self._path(domain), self._sidecars_path(folder_name(domain))):
            there = path
            while not os.path.lexists(there):
                there = os.path.dirname(there)
            if not os.path.isdir(there):
                return f"{there} is no folder"
            if not os.access(there, os.W_OK | os.X_OK):
                return f"{there} cannot be written to"
        return ""

    def close(self) -> None:
        """Forget what was read; nothing is open between calls."""
        self._files.clear()
        self._known.clear()

    def _keys_of(self, domain: str) -> set[str]:
        with self._reading(domain) as network:
            blocks = set() if network is None else network.blocks()
        return {block_key(domain, version, index) for version, index in blocks}

    def _path(self, domain: str) -> str:
        return os.path.join(self.folder, folder_name(domain))

    def _sidecars_path(self, name: str) -> str:
        return os.path.join(self.folder, SIDECARS, name)

    def _exists(self, domain: str) -> bool:
        places = self._path(domain), self._sidecars_path(folder_name(domain))
        return any(os.path.lexists(path) for path in places)

    @contextmanager
    def _reading(self, domain: str) -> Iterator[Network | None]:
        """Have a network to read from, whole; None if there is none."""
        if not self._exists(domain):
            yield None
            return
        with self._sharing(domain):
            network = self._network(domain)
            if not network.unfinished():
                yield network
                return
        with self._writing(domain) as network:
            yield network

    @contextmanager
    def _sharing(self, domain: str) -> Iterator[None]:
        """Keep writers off; where there is no lock yet there are none, and reading makes none."""
        if os.path.lexists(os.path.join(self._path(domain), LOCK)):
            with self._locked(domain, shared=True):
                yield
        else:
            yield

    @contextmanager
    def _writing(self, domain: str) -> Iterator[Network]:
        """Have a network to oneself, whole."""
        with self._locked(domain, shared=False):
            network = self._network(domain)
            network.recover()
            yield network

    @contextmanager
    def _locked(self, domain: str, *, shared: bool) -> Iterator[None]:
        path = self._path(domain)
        if not os.path.isdir(path):
            self._folder(domain).make()
        with disk.Lock(os.path.join(path, LOCK), shared=shared, timeout=self._timeout):
            yield

    def _folder(self, domain: str) -> Folder:
        known = self._files.setdefault(domain, {})
        return Folder(self._path(domain), known, durable=self._durable)

    def _network(self, domain: str) -> Network:
        path = self._sidecars_path(folder_name(domain))
        sidecars = Sidecars(path, self._known, durable=self._durable)
        return Network(domain, self._folder(domain), sidecars)

    def _place(self, key: str) -> _Place | None:
        """Return the block that a key names; None for one that cannot be here."""
        parts = key_parts(key)
        if parts is not None:
            return _Place(*parts)
        part, _, rest = key.partition("/")
        in_any_domain = key_parts(f"any/{rest}")
        if in_any_domain is None or "--x" not in part:
            return None
        # A domain too long to be had back from its key is found by its folder.
        for domain in self._domains():
            if domain_prefix(domain) == f"{part}/":
                return _Place(domain, *in_any_domain[1:])
        return None

    def _domains(self) -> Iterator[str]:
        """Yield the domains that have a folder."""
        folders = self.folder, self._sidecars_path("")
        names = {name for folder in folders for name in disk.names(folder, folders=True)}
        for name in sorted(names):
            domain = domain_of_folder(name) or self._domain_told(name)
            if domain is not None and folder_name(domain) == name:
                yield domain

    def _domain_told(self, name: str) -> str | None:
        """Return the domain that a folder's sidecars tell, where its name is a shortened one."""
        sidecars = Sidecars(self._sidecars_path(name), self._known, durable=self._durable)
        for version, index in sidecars.blocks():
            for ending in (FINAL, COMMIT, INTENT):
                sidecar = sidecars.read(version, index, ending)
                if sidecar is not None:
                    return sidecar.block.domain
        return None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what goes wrong as the store's error."""
        try:
            yield
        except DeadlineError as error:
            raise StoreBusyError(error.msg) from error
        except IOFailureError as error:
            raise StoreError(error.msg) from error
        except OSError as error:
            where = error.filename2 or error.filename or self.folder
            raise StoreError(f"{where}: {error.strerror or error}") from error


def open(url: str) -> HostLocalStore:  # noqa: A001 - what a store module offers is called open
    """Open ``host-local:/absolute/folder`` or ``host-local:relative/folder``: a ``dataDir``.

    Raises:
        InvalidConfigError: it is no such URL.
    """
    scheme, colon, folder = url.partition(":")
    folder = folder.removeprefix("//") if folder.startswith("///") else folder
    if scheme != "host-local" or not colon or not folder.strip("/") or folder[:2] == "//":
        raise InvalidConfigError(f"store {url!r} is not host-local:FOLDER")
    return HostLocalStore(folder)
