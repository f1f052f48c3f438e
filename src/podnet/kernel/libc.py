"""The two calls of libc that Python 3.11 lacks."""

from __future__ import annotations

import ctypes
import os

NSFS_MAGIC = 0x6E736673  # include/uapi/linux/magic.h
PROC_SUPER_MAGIC = 0x9FA0

_libc = ctypes.CDLL(None, use_errno=True)

# struct statfs starts with f_type, a long but on s390x (asm/statfs.h of each architecture).
_F_TYPE = ctypes.c_uint if os.uname().machine == "s390x" else ctypes.c_long
_STATFS_BYTES = 256


def setns(fd: int) -> None:
    """Move the calling thread into the namespace behind ``fd`` (setns(2)).

    Raises:
        OSError: it is none, or it is not allowed.
    """
    if _libc.setns(fd, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def filesystem(fd: int) -> int:
    """Return the magic number of the file system that an open file is on (fstatfs(2)).

    Raises:
        OSError: the call failed.
    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(_F_TYPE.from_buffer(buffer).value)
