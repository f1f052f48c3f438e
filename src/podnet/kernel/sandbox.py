"""The kernel as the rest of podnet sees it: namespaces to look at and to change."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

from podnet.errors import NetnsMissingError
from podnet.kernel import netns
from podnet.kernel.netlink import NetlinkSocket
from podnet.model.ops import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from podnet.model.facts import Have, Probe
    from podnet.model.ops import LinkName, Op


class Kernel:
    """The kernel of this node, seen from the namespace of the thread that makes this object."""

    def __init__(self, *, timeout: float = 30.0) -> None:
        """Open the host's namespace; ``timeout`` is the seconds to wait for each answer.

        Raises:
            KernelError, TryAgainLaterError: netlink or ``/proc`` cannot be had.
        """
        self._timeout = timeout
        self._closed_sends = 0
        self._open: list[Sandbox] = []
        self.host_fd = netns.open_own()
        try:
            self.host_netlink = NetlinkSocket(timeout)
        except BaseException:
            os.close(self.host_fd)
            raise

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is held; may be called again."""
        self.host_netlink.close()
        if self.host_fd >= 0:
            os.close(self.host_fd)
            self.host_fd = -1

    @property
    def sends(self) -> int:
        """Netlink sends so far, in all namespaces."""
        open_sends = sum(sandbox.own_sends for sandbox in self._open)
        return self.host_netlink.sends + self._closed_sends + open_sends

    @contextmanager
    def open(self, path: str, *, allow_host: bool = False) -> Iterator[Sandbox]:
        """Open the sandbox whose network namespace is at ``path``.

        Args:
            path: ``CNI_NETNS``.
            allow_host: accept the host's own namespace.

        Raises:
            NetnsMissingError: nothing is there.
            NotNetnsError: it is no network namespace, or the host's own.
            KernelError, TryAgainLaterError: it cannot be opened; it may be the sandbox.
        """
        fd = netns.open_netns(path, allow_host=allow_host)
        sandbox = Sandbox(self, fd, path, self._timeout)
        self._open.append(sandbox)
        try:
            yield sandbox
        finally:
            self._open.remove(sandbox)
            self._closed_sends += sandbox.own_sends
            sandbox.close()

    @contextmanager
    def host(self) -> Iterator[Sandbox]:
        """Open the host alone, for what is left there of a sandbox that is gone."""
        yield Sandbox(self, -1, "", self._timeout)


class Sandbox:
    """A pod's network namespace together with the host's.

    Attributes:
        path: as it was given.
    """

    def __init__(self, kernel: Kernel, fd: int, path: str, timeout: float) -> None:
        """Take over ``fd``; -1 means that there is no sandbox."""
        self._kernel = kernel
        self._fd = fd
        self._netlink: NetlinkSocket | None = None
        self._timeout = timeout
        self.path = path

    @cached_property
    def identity(self) -> str:
        """``dev:inode:cookie:boot`` of the namespace; empty where there is none.

        Another identity proves another namespace. Inodes are given out again as soon as a
        namespace has ended, cookies after the next boot, and journals outlive boots.

        Raises:
            KernelError, TryAgainLaterError: the namespace cannot be entered, or has no netlink.
        """
        if self._fd < 0:
            return ""
        cookie = self.netlink(Place.SANDBOX).cookie()
        return f"{netns.identity(self._fd)}:{cookie}:{netns.boot()}"

    def close(self) -> None:
        """Close what is held; may be called again."""
        if self._netlink:
            self._netlink.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def own_sends(self) -> int:
        """Netlink sends in the sandbox's namespace so far."""
        return self._netlink.sends if self._netlink else 0

    def probe(self, probe: Probe) -> Have:
        """Return what the probe asks for.

        Raises:
            KernelError, DeadlineError: the kernel refused to tell, or was too slow.
            NetnsMissingError: the sandbox's facts are asked for and there is none.
        """
        from podnet.kernel.probe import read

        return read(self, probe)

    def exists(self, link: LinkName) -> bool:
        """Tell whether there is a link of that name; costs no netlink message.

        Raises:
            KernelError: the kernel cannot tell.
        """
        return self.netlink(link.place).index(link.name) != 0

    def apply(self, ops: Iterable[Op], step: Callable[[str], None] | None = None) -> None:
        """Apply ops in order; see ``kernel.apply.apply``."""
        from podnet.kernel.apply import apply

        apply(self, ops, step)

    def fd(self, place: Place) -> int:
        """Return an open descriptor of the namespace of a place.

        Raises:
            NetnsMissingError: there is no sandbox.
        """
        fd = self._kernel.host_fd if place is Place.HOST else self._fd
        if fd < 0:
            raise NetnsMissingError("there is no network namespace to work in")
        return fd

    def netlink(self, place: Place) -> NetlinkSocket:
        """Return the netlink socket of a place, opened when first asked for.

        Raises:
            NetnsMissingError: there is no sandbox.
        """
        if place is Place.HOST:
            return self._kernel.host_netlink
        if self._netlink is None:
            with self.entered(place):
                self._netlink = NetlinkSocket(self._timeout)
        return self._netlink

    def entered(self, place: Place) -> AbstractContextManager[None]:
        """Return a context in which the calling thread is in the namespace of a place."""
        return nullcontext() if place is Place.HOST else netns.entered(self.fd(place), self.path)
