"""The one place that writes files: atomic, private and power-safe.

A file is replaced as a whole: written under another name in the same folder, synchronised, renamed,
and the folder synchronised, so that after a crash or a power cut there is the old file or the new
one, never a part.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING, Self

from podnet.errors import DeadlineError, IOFailureError

if TYPE_CHECKING:
    from types import TracebackType

# NAME_MAX of Linux file systems is 255 bytes; callers add endings of their own.
LONGEST_NAME = 200
_TEMPORARY = ".tmp-"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.=@,")


def safe_name(text: str) -> str:
    """Return a file name that differs for every text and never leaves its folder.

    Bytes other than ASCII letters, digits and ``-_.=@,`` are ``%`` and two hexadecimal digits, and
    so is a dot in front: the name is never empty, ``.``, ``..`` or hidden. A name above 200 bytes
    ends in ``%%`` and a digest instead, from which the text cannot be had back.
    """
    raw = text.encode("utf-8", "surrogatepass")
    parts = [chr(b) if b in _PLAIN else f"%{b:02X}" for b in raw]
    if parts and parts[0] == ".":
        parts[0] = "%2E"
    name = "".join(parts) or "%"
    if len(name) <= LONGEST_NAME:
        return name
    from hashlib import sha256

    return f"{name[: LONGEST_NAME - 70]}%%{sha256(raw).hexdigest()}"


def text_of_name(name: str) -> str | None:
    """Return the text that ``safe_name`` made a name of; None where it cannot be had back."""
    if name == "%":
        return ""
    head, *parts = name.split("%")
    try:
        raw = head.encode() + b"".join(bytes([int(p[:2], 16)]) + p[2:].encode() for p in parts)
        text = raw.decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    return text if safe_name(text) == name else None


def make_private_dir(path: str) -> None:
    """Make a folder, mode 0700, and those above it; one that exists is left as it is.

    Raises:
        IOFailureError: it cannot be made, or something else is there.
    """
    path = os.path.abspath(path)
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    # One by one: os.makedirs gives the mode to the last alone, and those above it the umask's.
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if os.path.isdir(folder):  # another process was faster
                continue
            raise _failure(
                "make folder", folder, NotADirectoryError(errno.ENOTDIR, "another file is there")
            ) from None
        except OSError as error:
            raise _failure("make folder", folder, error) from error
        _sync_folder(os.path.dirname(folder))


def write_atomic(path: str, data: bytes, *, durable: bool = True, alone: bool = False) -> None:
    """Replace a file's content, mode 0600; a symbolic link at ``path`` is itself replaced.

    Args:
        path: where; its folder exists.
        data: the whole new content.
        durable: return only when it would survive a power cut.
        alone: the caller holds a lock that all writers of the folder take. The temporary file
            then always has the same name, and the next write removes what a kill left of one.

    Raises:
        IOFailureError: it failed, and the old content is still there; or, if the message says
            the folder could not be synchronised, the new content is there but may not last.
    """
    folder, name = os.path.split(path)
    own = "alone" if alone else f"{os.getpid()}-{os.urandom(8).hex()}"
    temporary = f"{_TEMPORARY}{own}"
    try:
        at = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failure("write", path, error) from error
    try:
        if alone:
            _forget(at, temporary)
        try:
            _write_new(at, temporary, data, durable=durable)
            os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            _forget(at, temporary)
            raise
        if durable:
            os.fsync(at)
    except OSError as error:
        raise _failure("write", path, error) from error
    finally:
        os.close(at)


def _write_new(at: int, name: str, data: bytes, *, durable: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=at)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def _forget(at: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=at)
    except OSError:
        # The failure that brought us here is the one to report; sweep_temporary takes the rest.
        return


def read_file(path: str, most: int = 64 << 20) -> bytes | None:
    """Return a regular file's content, or None if there is none; follows no symbolic link.

    Args:
        path: which.
        most: bytes beyond which it is refused.

    Raises:
        IOFailureError: it cannot be read, is no regular file, or is too large.
    """
    try:
        # Without O_NONBLOCK a FIFO put there by somebody else would hold the open for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure("read", path, error) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise IOFailureError(f"cannot read {path}: it is no regular file")
        if status.st_size > most:
            raise IOFailureError(f"cannot read {path}: it has more than {most} bytes")
        parts = []
        while part := os.read(fd, max(status.st_size + 1, 4096)):
            parts.append(part)
        return b"".join(parts)
    except OSError as error:
        raise _failure("read", path, error) from error
    finally:
        os.close(fd)


def remove(path: str, *, durable: bool = True) -> bool:
    """Remove a file; return whether there was one.

    Raises:
        IOFailureError: it cannot be removed.
    """
    try:
        os.unlink(path)
        if durable:
            _sync_folder(os.path.dirname(path) or ".")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failure("remove", path, error) from error
    return True


def names(path: str, *, folders: bool = False) -> list[str]:
    """Return the names in a folder, sorted, without hidden ones; none if there is no folder.

    Args:
        path: the folder.
        folders: the names of its sub-folders only.

    Raises:
        IOFailureError: it cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            seen = [each.name for each in entries if not folders or each.is_dir()]
        return sorted(name for name in seen if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failure("read folder", path, error) from error


def sweep_temporary(path: str, *, older: float = 3600.0) -> int:
    """Remove what interrupted writes left in a folder; return how many files.

    Args:
        path: the folder.
        older: seconds since the last write that make a file a left-over; 0 only for a caller who
            holds the lock that all writers of the folder take.

    Raises:
        IOFailureError: the folder cannot be read or a file not be removed.
    """
    count = 0
    try:
        for name in os.listdir(path):
            if not name.startswith(_TEMPORARY):
                continue
            full = os.path.join(path, name)
            try:
                if older <= 0 or time.time() - os.lstat(full).st_mtime > older:
                    os.unlink(full)
                    count += 1
            except FileNotFoundError:
                continue
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _failure("sweep folder", path, error) from error
    return count


class Lock:
    """An advisory lock on a file (flock) that other processes and threads respect.

    Each entry opens the file anew: flock belongs to the open file, so two threads exclude each
    other as two processes do, each with a ``Lock`` of its own. The file stays: removing it would
    let two holders lock two files.
    """

    def __init__(self, path: str, *, shared: bool = False, timeout: float = 10.0) -> None:
        """Prepare it.

        Args:
            path: the lock file, made if missing; its folder exists.
            shared: let other shared holders in beside this one.
            timeout: seconds to wait for it.
        """
        self._path = path
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._timeout = timeout
        self._fd = -1

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            DeadlineError: others held it for the whole timeout; a retry can succeed.
            IOFailureError: the file cannot be opened or locked.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise _failure("lock", self._path, error) from error
        self._fd = fd
        _held.add(self)
        try:
            self._wait(fd)
        except BaseException:
            self._let_go()
            raise
        return self

    def _wait(self, fd: int) -> None:
        deadline = time.monotonic() + self._timeout
        pause = 0.0002
        while True:
            try:
                fcntl.flock(fd, self._operation | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                    raise _failure("lock", self._path, error) from error
            else:
                return
            if time.monotonic() >= deadline:
                raise DeadlineError(f"{self._path} is locked by others for {self._timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        _held.discard(self)
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            # Explicitly: a child forked meanwhile shares the open file; closing would not unlock.
            fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _disown(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)


_held: set[Lock] = set()


def _after_fork() -> None:
    # The parent's locks are not the child's: it must neither keep them alive nor release them.
    for lock in _held:
        lock._disown()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failure(what: str, path: str, error: OSError) -> IOFailureError:
    return IOFailureError(f"cannot {what} {path}: {error.strerror or error}")
