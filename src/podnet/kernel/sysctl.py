"""Writing and reading ``/proc/sys/net`` safely, in the namespace the thread is in.

CVE-2025-52881: writes meant for procfs were redirected by mounts and links. Every component is
opened without following links, and the file has to be on procfs.
"""

from __future__ import annotations

import os

from podnet.errors import KernelError
from podnet.kernel import libc

_ROOT = "/proc/sys"


def read(key: str) -> str | None:
    """Return a value without surrounding blanks; None if the kernel has no such key.

    Raises:
        KernelError: the key is invalid, or reading failed.
    """
    try:
        fd = _open(key, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError(f"cannot read sysctl {key}", error.strerror or "") from error
    with os.fdopen(fd, "rb") as file:
        return file.read().decode(errors="replace").strip()


def write(key: str, value: str, *, optional: bool = False) -> None:
    """Write a value; with ``optional`` a kernel without the key is fine.

    Raises:
        KernelError: the key is invalid or absent, or the kernel refuses the value.
    """
    try:
        fd = _open(key, os.O_WRONLY)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        if not optional:
            raise KernelError(f"cannot set sysctl {key}", "the kernel has no such key") from error
    except OSError as error:
        raise KernelError(f"cannot set sysctl {key} = {value}", error.strerror or "") from error


def _open(key: str, flags: int) -> int:
    parts = key.split("/")
    if parts[0] != "net" or len(parts) < 3 or any(p in ("", ".", "..") or "\0" in p for p in parts):
        raise KernelError(f"{key!a} is not a sysctl below net/")
    fd = os.open(_ROOT, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    for part in parts[:-1]:
        fd = _step(fd, part, os.O_PATH | os.O_DIRECTORY)
    fd = _step(fd, parts[-1], flags)
    if libc.filesystem(fd) != libc.PROC_SUPER_MAGIC:
        os.close(fd)
        raise KernelError(f"refused to open sysctl {key}", f"{_ROOT} is not procfs")
    return fd


def _step(parent: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
