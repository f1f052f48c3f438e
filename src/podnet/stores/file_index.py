"""Who holds leases in the files of one folder, without reading all of them each time.

Writers tell each other in a file ``.changes``: a line with ``+`` and a file's name before it is
replaced, one with ``-`` after. A reader that has followed it knows which files to look at again:
those with a line since, and those with a ``+`` that no ``-`` followed, whose writer is at work or
was killed. The file need not survive a power cut, as no reader does; it is begun anew, with another
head, when it gets long.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import zlib
from array import array
from itertools import islice
from typing import TYPE_CHECKING

from podnet import disk
from podnet.errors import IOFailureError
from podnet.ipam.holders import OwnerIndex

if TYPE_CHECKING:
    from podnet.model.lease import Owner

_NAME = ".changes"
_HEAD_BYTES = 33
_LONGEST = 4 << 20
# A search through a file's bytes takes a hundredth of taking it into the index: the first look-up
# in a folder of a million leases would take seconds, so that each one takes in a few files.
_AT_ONCE = 32
# Files whose lines are remembered: one lease was added to the file that changed a moment ago.
_RECENT = 16

# A power cut may leave zeros.
_FILE_NAME = re.compile(r"[^/\0]+")

# The writer's order of keys is fixed (Lease.to_document); a quote inside of a text is escaped.
_TEXT = rb'("(?:[^"\\]|\\.)*")'
_LEASE = re.compile(
    rb'"container":%b,"ifname":%b,"namespace":%b,"pod":%b,"uid":%b' % ((_TEXT,) * 5)
)


class ChangeLog:
    """The file ``.changes`` of one folder, as writers see it; they hold the folder's lock."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, _NAME)

    def begin(self, name: str) -> None:
        """Tell that a file is about to change.

        Raises:
            IOFailureError: it cannot be told, so the file must not change.
        """
        try:
            self._append(b"+" + name.encode() + b"\n")
        except OSError as error:
            raise IOFailureError(f"cannot write {self._path}: {error.strerror}") from error

    def end(self, name: str) -> None:
        """Tell that it has changed, or not."""
        try:
            self._append(b"-" + name.encode() + b"\n")
        except OSError:
            # Readers go on looking at the file: slower, and right.
            return

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size < _HEAD_BYTES or (size > _LONGEST and line.startswith(b"+")):
                os.ftruncate(fd, 0)
                line = os.urandom((_HEAD_BYTES - 1) // 2).hex().encode() + b"\n" + line
            else:
                # A full disk or a power cut may have torn the line before: this one is its own.
                line = b"\n" + line
            if os.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)


class FolderIndex:
    """Finds the files of one folder that may have leases of an owner. Threads may share it."""

    def __init__(self, folder: str, ending: str) -> None:
        """Follow a folder whose block files have that ending; nothing is read yet."""
        self._folder = folder
        self._ending = ending
        self._path = os.path.join(folder, _NAME)
        self._lock = threading.Lock()
        self._owners = OwnerIndex()
        self._tokens: dict[str, array[int]] = {}
        self._recent: dict[str, dict[bytes, tuple[int, ...]]] = {}
        self._head = b""
        self._at = 0
        self._open: set[str] = set()
        # What the index says of these may be wrong. A name leaves when its file has been read.
        self._stale: dict[str, None] = {}
        # Whose leases they had is not known: they may be anybody's.
        self._damaged: set[str] = set()

    def seek(self, owner: Owner) -> tuple[str, ...]:
        """Return the names of files that may have a lease of the owner.

        Raises:
            IOFailureError: a file cannot be read; the next call tries it again.
        """
        with self._lock:
            self._catch_up()
            for name in list(islice(self._stale, _AT_ONCE)):
                self._look_at(name)
                del self._stale[name]
            known = (*self._owners.find(_tokens_of(owner)), *self._damaged)
            found = (name for name in known if name not in self._stale)
            mentioned = (name for name in self._stale if self._mentions(name, owner))
            return tuple(dict.fromkeys((*found, *mentioned)))

    def _mentions(self, name: str, owner: Owner) -> bool:
        data = disk.read_file(os.path.join(self._folder, name))
        texts = (owner.container_id, *filter(None, [owner.pod_uid]))
        if data is None:
            return False
        return not _intact(data) or any(json.dumps(text).encode() in data for text in texts)

    def _catch_up(self) -> None:
        """Find out which files are stale."""
        news = self._news() if self._at else None
        if news is None:
            self._begin_anew()
        else:
            self._follow(news)
        self._stale.update(dict.fromkeys(self._open))

    def _begin_anew(self) -> None:
        # Before the folder is listed: what changes later is told later.
        log = disk.read_file(self._path) or b""
        names = disk.names(self._folder)
        self._head, self._at = b"", 0
        self._owners.clear()
        self._tokens.clear()
        self._damaged.clear()
        self._recent.clear()
        self._open.clear()
        self._follow(log[_HEAD_BYTES:])
        self._stale = {name: None for name in names if name.endswith(self._ending)}
        # Last: from here on the index counts as one of this log.
        self._head, self._at = log[:_HEAD_BYTES], self._at + min(len(log), _HEAD_BYTES)

    def _news(self) -> bytes | None:
        """Return what was written since; None where the file is not the one that was followed."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                news = os.pread(fd, size - self._at, self._at) if size >= self._at else None
                # The head last: a writer may begin the file anew meanwhile.
                return news if os.pread(fd, _HEAD_BYTES, 0) == self._head else None
            finally:
                os.close(fd)
        except OSError:  # reading it anew tells what is wrong
            return None

    def _follow(self, lines: bytes) -> None:
        whole = lines[: lines.rfind(b"\n") + 1]
        for line in whole.split(b"\n"):
            name = line[1:].decode("utf-8", "replace")
            if not name.endswith(self._ending) or not _FILE_NAME.fullmatch(name):
                continue  # an empty line or a torn one
            self._stale[name] = None
            (self._open.add if line.startswith(b"+") else self._open.discard)(name)
        self._at += len(whole)

    def _look_at(self, name: str) -> None:
        data = disk.read_file(os.path.join(self._folder, name))
        (self._damaged.discard if data is None or _intact(data) else self._damaged.add)(name)
        now = self._tokens_in(name, data)
        before = self._tokens.get(name, array("q"))
        if now == before:
            return
        old, new = set(before), set(now)
        if len(old) == len(before) and len(new) == len(now):
            self._owners.remove_tokens(name, old - new)
            self._owners.add_tokens(name, new - old)
        else:  # an owner with several leases in the block
            self._owners.remove_tokens(name, before)
            self._owners.add_tokens(name, now)
        if now:
            self._tokens[name] = now
        else:
            self._tokens.pop(name, None)

    def _tokens_in(self, name: str, data: bytes | None) -> array[int]:
        earlier = self._recent.pop(name, {})
        if data is None:
            return array("q")
        lines = {line: earlier.get(line) or _tokens_in(line) for line in data.split(b"\n")}
        self._recent[name] = lines
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return array("q", [token for tokens in lines.values() for token in tokens])


def _intact(data: bytes) -> bool:
    line, _, body = data.partition(b"\n")
    try:
        return bool(json.loads(line)["crc32"] == zlib.crc32(body))
    except (ValueError, RecursionError, LookupError, TypeError):
        return False


def _tokens_in(line: bytes) -> tuple[int, ...]:
    tokens = []
    for container, ifname, _, _, uid in _LEASE.findall(line):
        tokens.append(hash((container, ifname)))
        if uid != b'""':
            tokens.append(hash((uid, ifname, 1)))
    return tuple(tokens)


def _tokens_of(owner: Owner) -> list[int]:
    container, ifname, uid = (
        json.dumps(text).encode() for text in (owner.container_id, owner.ifname, owner.pod_uid)
    )
    tokens = [hash((container, ifname))]
    return [*tokens, hash((uid, ifname, 1))] if owner.pod_uid else tokens
