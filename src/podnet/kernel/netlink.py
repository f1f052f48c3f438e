"""A netlink socket of one namespace: many requests in one send, every answer collected.

The kernel works through the messages of one ``sendmsg`` in order, answers each, and goes on after
a failure (net/netlink/af_netlink.c, ``netlink_rcv_skb``). One socket serves a namespace for good,
where the peers open one for every request.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING

from attrs import field, frozen

from podnet.errors import DeadlineError, KernelError

if TYPE_CHECKING:
    from collections.abc import Sequence

# include/uapi/linux/netlink.h
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x200, 0x400
_NLM_F_DUMP_INTR, _NLM_F_CAPPED, _NLM_F_ACK_TLVS, _NLM_F_DUMP = 0x10, 0x100, 0x200, 0x300
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12

_SIOCGIFINDEX = 0x8933  # include/uapi/linux/sockios.h
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since 5.14
_IFREQ = struct.Struct("=16si20x")

_BUFFER = 1 << 18
MAX_BATCH = 64
"""Messages in one send. Each acknowledgement takes about 1 KiB of the receive buffer, which is
208 KiB unless the machine says otherwise; what does not fit is lost (ENOBUFS)."""

_DUMP_TRIES = 5


@frozen
class Message:
    """One request: its type, its flags besides REQUEST and ACK, and its body."""

    type: int
    flags: int
    body: bytes


@frozen
class Answer:
    """What the kernel said to one request.

    Attributes:
        errno: 0 for success.
        text: the kernel's own explanation (NETLINK_EXT_ACK); often empty.
        replies: (type, body with header) of the messages that came before the acknowledgement.
    """

    errno: int
    text: str = ""
    replies: tuple[tuple[int, bytes], ...] = field(default=())


class NetlinkSocket:
    """A NETLINK_ROUTE socket in the namespace of the thread that opens it. Threads may share it.

    Attributes:
        sends: system calls that sent requests so far.
    """

    def __init__(self, timeout: float = 30.0) -> None:
        """Open it; ``timeout`` is the seconds to wait for each answer.

        Raises:
            KernelError: it cannot be opened.
        """
        self.sends = 0
        self._sequence = 0
        self._lock = threading.Lock()
        self._buffer = bytearray(_BUFFER)
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
        except OSError as error:
            raise KernelError("cannot open a netlink socket", error.strerror or "") from error
        self._socket.settimeout(timeout)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # kernels before 4.2, 4.12 and 4.20; answers only tell less
                continue

    def close(self) -> None:
        """Close it; may be called again."""
        self._socket.close()

    def cookie(self) -> int:
        """Return the number of the socket's namespace, which no other gets until the next boot.

        0 on kernels that do not tell.
        """
        try:
            cookie = self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
        return int.from_bytes(cookie, sys.byteorder)

    def index(self, name: str) -> int:
        """Return the index of the link of that name; 0 if there is none.

        An ioctl answers this without a netlink message, on a netlink socket as on any other.

        Raises:
            KernelError: the kernel cannot tell.
        """
        # surrogateescape: a link may have any bytes for a name, and so may CNI_IFNAME.
        request = _IFREQ.pack(os.fsencode(name), 0)
        try:
            found = _IFREQ.unpack(fcntl.ioctl(self._socket, _SIOCGIFINDEX, request))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise KernelError(f"cannot look up link {name}", error.strerror or "") from error
        return int(found[1])

    def request(self, messages: Sequence[Message]) -> list[Answer]:
        """Send all messages at once and return the kernel's answers in their order.

        Raises:
            DeadlineError: an answer did not come in time.
            KernelError: the socket failed, or answers were lost; what was done is unknown.
        """
        with self._lock:
            answers: list[Answer] = []
            for start in range(0, len(messages), MAX_BATCH):
                answers += self._exchange(messages[start : start + MAX_BATCH])
            return answers

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """Return all objects that a dump request lists, as (type, body with header).

        Raises:
            DeadlineError, KernelError: as ``request``; also where the kernel refuses, or the
                objects kept changing under five attempts.
        """
        with self._lock:
            for _ in range(_DUMP_TRIES):
                answer, whole = self._dump_once(message)
                if answer.errno:
                    raise KernelError("netlink dump refused", _reason(answer))
                if whole:
                    return list(answer.replies)
        raise KernelError("netlink dump failed", "objects kept changing while being listed")

    def _exchange(self, messages: Sequence[Message]) -> list[Answer]:
        first = self._sequence + 1
        self._send(messages, NLM_F_REQUEST | NLM_F_ACK)
        replies: list[list[tuple[int, bytes]]] = [[] for _ in messages]
        answers: dict[int, Answer] = {}
        while len(answers) < len(messages):
            for kind, flags, sequence, data in self._receive():
                at = sequence - first
                if not 0 <= at < len(messages):  # a late answer to a request that timed out
                    continue
                if kind == _NLMSG_ERROR:
                    answers[at] = _acknowledged(flags, data, tuple(replies[at]))
                else:
                    replies[at].append((kind, data))
        return [answers[at] for at in range(len(messages))]

    def _dump_once(self, message: Message) -> tuple[Answer, bool]:
        self._send([message], NLM_F_REQUEST | _NLM_F_DUMP)
        found: list[tuple[int, bytes]] = []
        whole = True
        while True:
            for kind, flags, sequence, data in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _NLM_F_DUMP_INTR
                if kind == _NLMSG_ERROR:
                    return _acknowledged(flags, data, ()), True
                if kind == _NLMSG_DONE:
                    done = _ERRNO.unpack_from(data, _HEADER.size)[0] if len(data) >= 20 else 0
                    return Answer(-done, "", tuple(found)), whole
                found.append((kind, data))

    def _send(self, messages: Sequence[Message], flags: int) -> None:
        parts = []
        for message in messages:
            self._sequence += 1
            length = _HEADER.size + len(message.body)
            header = (length, message.type, flags | message.flags, self._sequence, 0)
            parts.append(_HEADER.pack(*header) + message.body + b"\0" * (-length % 4))
        self.sends += 1
        try:
            self._socket.send(b"".join(parts))
        except TimeoutError:
            raise DeadlineError("the kernel took no netlink request in time") from None
        except OSError as error:
            raise KernelError("cannot send to the kernel", error.strerror or "") from error

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        try:
            size = self._socket.recv_into(self._buffer)
        except TimeoutError:
            raise DeadlineError("the kernel did not answer a netlink request in time") from None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise KernelError(
                    "answers of the kernel were lost", "receive buffer too small (ENOBUFS)"
                ) from error
            raise KernelError("cannot receive from the kernel", error.strerror or "") from error
        messages = []
        offset = 0
        while offset + _HEADER.size <= size:
            length, kind, flags, sequence, _ = _HEADER.unpack_from(self._buffer, offset)
            if not _HEADER.size <= length <= size - offset:
                raise KernelError("answer of the kernel is cut off")
            messages.append((kind, flags, sequence, bytes(self._buffer[offset : offset + length])))
            offset += (length + 3) & ~3
        return messages


def _acknowledged(flags: int, data: bytes, replies: tuple[tuple[int, bytes], ...]) -> Answer:
    number = -_ERRNO.unpack_from(data, _HEADER.size)[0]
    return Answer(number, _explanation(flags, data), replies)


def _explanation(flags: int, data: bytes) -> str:
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    offset = _HEADER.size + _ERRNO.size
    # The refused request follows: its header alone if capped, else all of it.
    length = int(_HEADER.unpack_from(data, offset)[0])
    offset += _HEADER.size if flags & _NLM_F_CAPPED else (length + 3) & ~3
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size:
            break
        if kind == _NLMSGERR_ATTR_MSG:
            text = data[offset + _ATTRIBUTE.size : offset + size]
            return text.rstrip(b"\0").decode(errors="replace")
        offset += (size + 3) & ~3
    return ""


def _reason(answer: Answer) -> str:
    return answer.text or os.strerror(answer.errno)
