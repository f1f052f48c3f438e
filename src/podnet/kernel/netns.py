"""Network namespaces as files: opened only if they are what they should be, entered and left."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NoReturn

from podnet.errors import (
    KernelError,
    NetnsMissingError,
    NotNetnsError,
    PodnetError,
    TryAgainLaterError,
)
from podnet.kernel import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN = "/proc/thread-self/ns/net"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h, since 4.11
_CLONE_NEWNET = 0x40000000
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)
# Nothing can be at such a path, whatever the machine's state.
_NO_PATH = (errno.ELOOP, errno.ENAMETOOLONG)
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN)


def identity(fd: int) -> str:
    """Return what tells one namespace from another while both live: ``dev:inode``.

    Inode numbers of dead namespaces are given out again (fs/proc/generic.c, ``proc_alloc_inum``):
    another identity proves another namespace, the same one alone proves nothing.
    """
    stat = os.fstat(fd)
    return f"{stat.st_dev}:{stat.st_ino}"


@cache
def boot() -> str:
    """Return the id of this boot (random(4), ``boot_id``); empty where the machine has none.

    Raises:
        KernelError, TryAgainLaterError: it cannot be read just now. No id would mean another boot.
    """
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _failure(f"cannot read {_BOOT_ID}", error) from error


def open_own() -> int:
    """Open the namespace of the calling thread; the caller closes the descriptor.

    Raises:
        KernelError, TryAgainLaterError: it cannot be opened; perhaps ``/proc`` is not mounted.
    """
    try:
        return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _failure(f"cannot open {_OWN}", error) from error


def open_netns(path: str, *, allow_host: bool = False) -> int:
    """Open the network namespace at ``path``; the caller closes the descriptor.

    The path is looked at with O_PATH first: opening a FIFO or a device, which a mistaken or
    hostile path may name, has effects of its own.

    Args:
        path: such as ``/run/netns/x`` or ``/proc/4711/ns/net``.
        allow_host: accept the namespace that the calling thread is in.

    Raises:
        NetnsMissingError: nothing is there.
        NotNetnsError: it is something else, of another kind of namespace, or the host's own.
        KernelError, TryAgainLaterError: what is there cannot be told; it may be the sandbox.
    """
    if not path or "\0" in path:
        raise NotNetnsError("CNI_NETNS is empty" if not path else "CNI_NETNS has a zero byte")
    try:
        seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        _refuse(path, error)
    try:
        if libc.filesystem(seen) not in (libc.NSFS_MAGIC, libc.PROC_SUPER_MAGIC):
            raise NotNetnsError(f"{path} is not a network namespace", "it is another file")
        fd = os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        _refuse(path, error)
    finally:
        os.close(seen)
    try:
        _check(path, fd, allow_host=allow_host)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse(path: str, error: OSError) -> NoReturn:
    if error.errno in _GONE:
        raise NetnsMissingError(f"network namespace {path} does not exist") from error
    if error.errno in _NO_PATH:
        raise NotNetnsError(f"cannot open {path}", error.strerror or "") from error
    raise _failure(f"cannot open {path}", error) from error


def _failure(what: str, error: OSError, hint: str = "") -> PodnetError:
    """Return the error for a namespace that may be there, which DEL must not take for gone."""
    kind = TryAgainLaterError if error.errno in _PASSING else KernelError
    return kind(what, f"{error.strerror}{hint}")


def _check(path: str, fd: int, *, allow_host: bool) -> None:
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        raise NotNetnsError(f"{path} is not a network namespace", "not a namespace") from error
    if kind != _CLONE_NEWNET:
        raise NotNetnsError(f"{path} is not a network namespace", "another kind of namespace")
    if allow_host:
        return
    own = open_own()
    try:
        if os.path.sameopenfile(own, fd):
            raise NotNetnsError(
                f"{path} is the host's own network namespace",
                "plugin's netns and netns from CNI_NETNS should not be the same",
            )
    finally:
        os.close(own)


@contextmanager
def entered(fd: int, path: str = "") -> Iterator[None]:
    """Have the calling thread be in the namespace behind ``fd`` for the block.

    Python threads are kernel threads, so nothing else runs in it meanwhile; keep the block free of
    anything that yields to other code. Should the way back fail, the process ends: a thread left
    in a pod's namespace would configure that instead of the node's.

    Args:
        fd: the namespace.
        path: where it was opened, for messages.

    Raises:
        KernelError, TryAgainLaterError: the thread cannot enter.
    """
    own = open_own()
    try:
        try:
            libc.setns(fd)
        except OSError as error:
            # setns(2): CAP_SYS_ADMIN, both here and in the user namespace that owns the other.
            need = "; needs root (CAP_SYS_ADMIN)" if error.errno == errno.EPERM else ""
            where = f" {path}" if path else ""
            raise _failure(f"cannot enter network namespace{where}", error, need) from error
        try:
            yield
        finally:
            try:
                libc.setns(own)
            except OSError as error:
                os.write(2, f"podnet: cannot return to own network namespace: {error}\n".encode())
                os._exit(70)  # EX_SOFTWARE of sysexits.h
    finally:
        os.close(own)
