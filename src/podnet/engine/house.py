"""What every built-in plugin works with: settings, store, kernel, executors, journal, clock.

Each part is made when first used, because a plugin process lives for one call and most calls
need only some of them.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any

from podnet import disk
from podnet.engine import registry
from podnet.engine.journal import Journal
from podnet.errors import InvalidConfigError, PodnetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from podnet.engine.leases import Ipam
    from podnet.engine.settings import Settings
    from podnet.model.attachment import Call
    from podnet.ports import ClaimSource, Executor, NetworkSource, Store

LEAST = 5.0
"""Seconds every call gets however late it is: an undo that is not tried leaves something."""

_STRIPES = 256
"""Lock files per role for ordering within a container: enough that two pods seldom share one."""


def no_step(_name: str) -> None:
    """Observe nothing."""


class House:
    """The parts that plugins share, opened lazily and closed together.

    Attributes:
        settings: where things are.
        step: called with a short name before each side effect; tests kill the process there.
        journal: the intent journal below the state folder.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        step: Callable[[str], None] = no_step,
        clock: Callable[[], float] = time.time,
        store: Store | None = None,
        kernel: Any = None,
        resident: bool = False,
    ) -> None:
        """Take the parts that differ; a store or kernel given here is used and not closed.

        Args:
            settings: where things are.
            step: called before each side effect.
            clock: seconds since the epoch.
            store: the IPAM store, instead of that of the settings.
            kernel: instead of Linux.
            resident: this process stays, and calls ``tick`` about every second.
        """
        self.settings = settings
        self.step = step
        self.clock = clock
        self.journal = Journal(os.path.join(settings.state_dir, "journal"))
        self._resident = resident
        self._given_store = store
        self._stores: dict[str, Store] = {}
        self._ipams: dict[int, tuple[Store, Ipam]] = {}
        self._lock = threading.Lock()
        self._is_real = kernel is None
        self._kernel = kernel
        self._owned = ExitStack()
        self._closed = False
        self._deadline: ContextVar[float] = ContextVar("end of the call's time", default=0.0)
        self._parent: ContextVar[tuple[str, ...]] = ContextVar("sandbox being served", default=())
        self._url: ContextVar[str] = ContextVar("store of the record being served", default="")
        self._in_sandbox: ContextVar[bool] = ContextVar("a sandbox is being served", default=False)
        self._environ: ContextVar[Mapping[str, str]] = ContextVar(
            "of the caller", default=os.environ
        )
        self._held: ContextVar[str] = ContextVar("role of the call being served", default="")

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here; nothing of it can be used any more."""
        self._closed = True
        self._owned.close()

    @property
    def store_url(self) -> str:
        """URL of the store in use: the one of the record being served, else the settings'."""
        return self._url.get() or self.settings.store

    @property
    def parent(self) -> tuple[str, ...]:
        """Network, container id and interface name of the sandbox being served; empty if none."""
        return self._parent.get()

    @property
    def environ(self) -> Mapping[str, str]:
        """The caller's environment: this process's, if it was called as a process."""
        return self._environ.get()

    @contextmanager
    def called_with(self, environ: Mapping[str, str]) -> Iterator[None]:
        """Serve somebody whose environment is another one than this process's."""
        token = self._environ.set({**os.environ, **environ})
        try:
            yield
        finally:
            self._environ.reset(token)

    @contextmanager
    def within(self, *parent: str) -> Iterator[None]:
        """Have what is made inside be recorded as a part of a sandbox."""
        token = self._parent.set(parent)
        try:
            yield
        finally:
            self._parent.reset(token)

    @contextmanager
    def at_store(self, url: str) -> Iterator[None]:
        """Use the store of a record for what is done inside; empty for the settings' own.

        DEL needs nothing but the record: settings that changed since ADD must not make it look
        for leases where there are none.
        """
        token = self._url.set(url or self._url.get())
        try:
            yield
        finally:
            self._url.reset(token)

    def store(self, url: str = "") -> Store:
        """Return the open IPAM store.

        Args:
            url: of the store that a configuration names itself; empty for the one in use.

        Raises:
            InvalidConfigError: no store has the URL's scheme, or it would forget leases of
                interfaces that live on.
            StoreError: it cannot be opened.
        """
        self._check_open()
        if self._given_store is not None and not url:
            return self._given_store
        url = url or self.store_url
        if self._is_real and url.partition(":")[0] == "memory":
            raise InvalidConfigError(
                f"store {url!r} ends with the process, and interfaces do not",
                (("store", "has to be durable, such as file:/var/lib/podnet/leases"),),
            )
        with self._lock:
            if url not in self._stores:
                from podnet.engine.migration_follow import follow

                self._stores[url] = self._tiered(follow(url), url)
                self._owned.callback(self._stores[url].close)
            return self._stores[url]

    def ipam(self, store: Store) -> Ipam:
        """Return what hands out addresses of an open store of this house; it closes nothing.

        Calls that are served at once ride in one swap of the blocks they share.
        """
        with self._lock:
            known = self._ipams.get(id(store))
            if known is None:
                from podnet.engine.leases import Ipam

                node = self.settings.node
                known = store, Ipam(store, clock=self.clock, node=node)
                self._ipams[id(store)] = known
            return known[1]

    def _tiered(self, store: Store, url: str) -> Store:
        """Put the store of blocks that this node holds before one, if it may hold any."""
        folder = os.path.join(self.settings.state_dir, "owned")
        resident = self._resident and self.settings.owned
        # A process that does not stay has to know them nevertheless: it may release in them.
        if url.partition(":")[0] in registry.SHARED_FORMATS or not (
            resident or os.path.isdir(folder)
        ):
            return store
        from podnet.engine.owning_ipam import local_folder, two_tiers

        if not resident and not os.path.isdir(local_folder(folder, url)):
            return store
        node = self.settings.node
        return two_tiers(store, url, folder, node=node, resident=resident, clock=self.clock)

    def tick(self) -> None:
        """Do what is due in the background; to be called about every second.

        Raises:
            PodnetError: what went wrong with some blocks; the next call tries again.
        """
        for store in list(self._stores.values()):
            if (tick := getattr(store, "tick", None)) is not None:
                tick()

    def _check_open(self) -> None:
        if self._closed:
            raise PodnetError("it is closed: what is done with a node is done before its close")

    @property
    def kernel(self) -> Any:
        """The Linux kernel, as ``podnet.kernel`` shows it."""
        self._check_open()
        with self._lock:
            if self._kernel is None:
                self._kernel = registry.resolve(registry.KERNEL)()
                self._owned.callback(self._kernel.close)
        return self._kernel

    @cached_property
    def executor(self) -> Executor:
        """Runs delegates: built-in plugins in this process, others from ``CNI_PATH``."""
        from podnet.engine.verbs import Delegates

        return Delegates(self)

    @cached_property
    def source(self) -> NetworkSource:
        """Pods and network definitions from the configured manifests."""
        source: NetworkSource = registry.resolve(registry.DIRECTORY_SOURCE)(*self.settings.networks)
        return source

    @cached_property
    def claims(self) -> ClaimSource:
        """IPAMClaims of the cluster that the settings name, else those among the manifests.

        Raises:
            InvalidConfigError: the setting is no source, or its credentials cannot be used.
        """
        if self.settings.claims:
            return self._owned.enter_context(closing(registry.open_claims(self.settings.claims)))
        return self.source  # type: ignore[return-value]  # the directory source is both

    def configurations(self, folder: str) -> tuple[tuple[str, bytes | PodnetError], ...]:
        """Return names of a folder's CNI configurations, in order, each with content or error.

        Raises:
            IOFailureError: the folder cannot be read.
        """
        found: tuple[tuple[str, bytes | PodnetError], ...] = registry.resolve(
            registry.READ_CONFIGS
        )(folder)
        return found

    def configuration(self, path: str) -> bytes:
        """Return the content of one CNI configuration file, with its network's folder.

        Raises:
            IOFailureError: it cannot be read.
        """
        content: bytes = registry.resolve(registry.READ_CONFIG)(path)
        return content

    def plugin(self, name: str) -> Any:
        """Return the built-in plugin of that name, or None."""
        target = registry.PLUGINS.get(name)
        return None if target is None else registry.resolve(target)(self, name)

    def time_left(self) -> float:
        """Return the seconds that the call being served has left; all of them if none is."""
        deadline = self._deadline.get()
        if not deadline:
            return self.settings.timeout
        return max(deadline - time.monotonic(), 0.0)

    @property
    def served_by_sandbox(self) -> bool:
        """Whether a plugin of the role ``sandbox`` is being served, or calls the one that is."""
        return bool(self._in_sandbox.get())

    def may_delegate(self, role: str) -> bool:
        """Tell whether the plugin being served may call one of that role.

        It may not where the other has to be above it, as with an ``ipam`` of type macvlan.
        """
        outer = self._held.get()
        return not outer or registry.ORDER.index(role) > registry.ORDER.index(outer)

    @contextmanager
    def exclusive(self, role: str, call: Call) -> Iterator[None]:
        """Hold the locks of one call: verbs of one container in turn, GC alone in its role.

        CNI 1.1.0, "Lifecycle & Ordering": no parallel operations on one container, and GC
        exclusive against ADD and DEL. A lock dies with its process. Locks are taken in the order
        of roles alone, in all processes, so that nobody waits in a circle.

        Raises:
            TryAgainLaterError: a lock could not be had within the call's time.
        """
        folder = os.path.join(self.settings.state_dir, "locks")
        disk.make_private_dir(folder)
        with ExitStack() as held:
            if not self._deadline.get():
                # Waiting for locks is part of a call's time.
                started = self._deadline.set(time.monotonic() + call.timeout)
                held.callback(self._deadline.reset, started)
            # An undo that comes late still gets what every call gets (``driving``).
            wait = min(call.timeout, max(self.time_left(), LEAST))
            alone = call.verb == "GC"
            whole = os.path.join(folder, role)
            held.enter_context(disk.Lock(whole, shared=not alone, timeout=wait))
            if call.container_id:
                digest = hashlib.blake2b(call.container_id.encode(), digest_size=2).digest()
                stripe = os.path.join(folder, f"{role}.{int.from_bytes(digest) % _STRIPES:02x}")
                held.enter_context(disk.Lock(stripe, shared=False, timeout=wait))
            token = self._held.set(role)
            whole_token = self._in_sandbox.set(self._in_sandbox.get() or role == "sandbox")
            try:
                yield
            finally:
                self._in_sandbox.reset(whole_token)
                self._held.reset(token)
