from __future__ import annotations

import struct
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.cli.ping import checksum, is_reply, ping, request


def reply(ident: int, *, code: int = 0, kind: int = 0, header: int = 20) -> bytes:
    payload = request(ident, 1)[8:]
    bare = struct.pack("!BBHHH", kind, code, 0, ident, 1) + payload
    icmp = struct.pack("!BBHHH", kind, code, checksum(bare), ident, 1) + payload
    return bytes([0x40 | header // 4]) + bytes(header - 1) + icmp


def test_checksum_of_rfc_1071s_example():
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2


@given(st.binary(max_size=64).filter(lambda data: len(data) % 2 == 0))
def test_data_with_its_checksum_sums_to_zero(data):
    assert checksum(data + checksum(data).to_bytes(2)) == 0


def test_a_request_is_an_echo_with_a_right_checksum():
    packet = request(0x1234, 7)
    assert packet[:2] == b"\x08\x00"
    assert packet[4:8] == b"\x12\x34\x00\x07"
    assert checksum(packet) == 0


@pytest.mark.parametrize("header", [20, 24, 60])
def test_the_answer_is_found_behind_ip_options(header):
    assert is_reply(reply(5, header=header), 5)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        reply(5)[:30],
        reply(6),
        reply(5, kind=3),
        reply(5, kind=8),
        reply(5, code=1),
        reply(5)[:-1] + b"!",
        reply(5)[:22] + b"\0\0" + reply(5)[24:],
    ],
)
def test_other_packets_are_no_answer(packet):
    assert not is_reply(packet, 5)


@given(st.binary(max_size=80))
def test_no_packet_breaks_it(packet):
    is_reply(packet, 5)


def test_where_no_socket_can_be_had_the_ping_says_so():
    @contextmanager
    def locked():
        raise PermissionError(1, "Operation not permitted")
        yield

    seen = ping(locked, "192.0.2.1", "eth1")
    assert seen.milliseconds is None
    assert seen.problem == "no socket: Operation not permitted"
