"""ICMP echo from inside a network namespace, without any program's help (RFC 792)."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_ECHO_REPLY, _ECHO = 0, 8
_HEADER = struct.Struct("!BBHHH")
_PAYLOAD = b"podnet"


@frozen
class Ping:
    """What came of a ping.

    Attributes:
        target: IPv4 address.
        milliseconds: round trip time; None without an answer.
        problem: why there is none; empty with one.
    """

    target: str
    milliseconds: float | None
    problem: str = ""


def ping(
    inside: Callable[[], AbstractContextManager[object]],
    target: str,
    interface: str,
    *,
    attempts: int = 3,
    wait: float = 1.0,
) -> Ping:
    """Send echo requests out of one interface until one is answered.

    A raw socket needs CAP_NET_RAW in the user namespace that owns the network namespace, which
    its builder has; datagram ICMP would depend on ``net.ipv4.ping_group_range``.

    Args:
        inside: enters the network namespace for as long as the context lasts; the socket stays
            there when the context ends.
        target: IPv4 address.
        interface: name of the interface to send from.
        attempts: requests to send at most.
        wait: seconds to wait for each answer.
    """
    try:
        with inside():
            channel = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except OSError as error:
        return Ping(target, None, f"no socket: {error.strerror}")
    problem = "no answer"
    with channel:
        try:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        except OSError as error:
            return Ping(target, None, f"{interface}: {error.strerror}")
        ident = os.getpid() & 0xFFFF
        for sequence in range(1, attempts + 1):
            start = time.monotonic()
            try:
                channel.sendto(request(ident, sequence), (target, 0))
            except OSError as error:
                # Passing, for instance while duplicate address detection or ARP is under way.
                problem = error.strerror or str(error)
                time.sleep(wait / 10)
                continue
            if _answered(channel, target, ident, start + wait):
                return Ping(target, (time.monotonic() - start) * 1000)
            problem = "no answer"
    return Ping(target, None, problem)


def request(ident: int, sequence: int) -> bytes:
    """Return an ICMP echo request (RFC 792)."""
    bare = _HEADER.pack(_ECHO, 0, 0, ident, sequence) + _PAYLOAD
    return _HEADER.pack(_ECHO, 0, checksum(bare), ident, sequence) + _PAYLOAD


def is_reply(packet: bytes, ident: int) -> bool:
    """Tell whether an IPv4 packet is the answer to a request of ``ident``."""
    start = (packet[0] & 0x0F) * 4 if packet else 0
    icmp = packet[start:]
    if len(icmp) < _HEADER.size + len(_PAYLOAD) or checksum(icmp) != 0:
        return False
    kind, code, _, seen, _sequence = _HEADER.unpack_from(icmp)
    return (kind, code, seen) == (_ECHO_REPLY, 0, ident) and icmp[_HEADER.size :] == _PAYLOAD


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071); 0 over data that holds its right checksum."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _answered(channel: socket.socket, target: str, ident: int, deadline: float) -> bool:
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([channel], [], [], left)
        if ready:
            packet, (source, _) = channel.recvfrom(2048)
            if source == target and is_reply(packet, ident):
                return True
    return False
