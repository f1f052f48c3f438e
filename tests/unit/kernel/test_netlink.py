"""The transport against a kernel made of bytes."""

from __future__ import annotations

import errno
import struct
from collections import deque

import pytest

from podnet.errors import DeadlineError, KernelError
from podnet.kernel.netlink import Message, NetlinkSocket

NLMSG_ERROR, NLMSG_DONE = 2, 3
CAPPED, TLVS, DUMP_INTR = 0x100, 0x200, 0x10
GET = Message(18, 0, b"body")


def message(kind, sequence, body=b"", flags=0):
    data = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return data + b"\0" * (-len(data) % 4)


def ack(sequence, number=0, text=b"", capped=True):
    request = struct.pack("=IHHII", 16 if capped else 20, 18, 0, sequence, 0)
    body = struct.pack("=i", -number) + request + (b"" if capped else b"body")
    if text:
        attribute = struct.pack("=HH", 4 + len(text) + 1, 1) + text + b"\0"
        other = struct.pack("=HHI", 8, 2, 7)
        body += other + attribute
    return message(NLMSG_ERROR, sequence, body, (CAPPED if capped else 0) | (TLVS if text else 0))


class Wire:
    """Stands for the socket: says what the test has it say."""

    def __init__(self, *said):
        self.said = deque(said)
        self.sent = []

    def send(self, data):
        self.sent.append(data)

    def recv_into(self, buffer):
        if not self.said:
            raise TimeoutError
        said = self.said.popleft()
        if isinstance(said, OSError):
            raise said
        buffer[: len(said)] = said
        return len(said)

    def close(self):
        pass


@pytest.fixture
def socket_saying():
    made = []

    def make(*said):
        netlink = NetlinkSocket(timeout=1)
        netlink.close()
        netlink._socket = Wire(*said)
        made.append(netlink)
        return netlink

    return make


def test_one_send_and_every_answer_in_order(socket_saying):
    netlink = socket_saying(
        message(16, 1, b"link") + ack(1), ack(2, errno.EEXIST) + ack(3, errno.EINVAL, b"why")
    )
    answers = netlink.request([GET, GET, GET])
    assert [answer.errno for answer in answers] == [0, errno.EEXIST, errno.EINVAL]
    assert answers[0].replies[0][0] == 16
    assert answers[2].text == "why"
    assert netlink.sends == len(netlink._socket.sent) == 1


def test_explanations_of_kernels_that_repeat_the_request(socket_saying):
    netlink = socket_saying(ack(1, errno.EINVAL, b"why", capped=False))
    assert netlink.request([GET])[0].text == "why"


def test_late_answers_are_passed_over(socket_saying):
    netlink = socket_saying()
    with pytest.raises(DeadlineError):
        netlink.request([GET])
    netlink._socket.said.extend([ack(1, errno.EPERM), ack(2)])
    assert netlink.request([GET])[0].errno == 0


@pytest.mark.parametrize(
    "said", [OSError(errno.ENOBUFS, "x"), OSError(errno.EBADF, "x"), b"\x08\0\0\0" * 5]
)
def test_lost_or_broken_answers(socket_saying, said):
    with pytest.raises(KernelError):
        socket_saying(said).request([GET])


def test_large_batches_go_in_parts(socket_saying):
    netlink = socket_saying(*(ack(number) for number in range(1, 131)))
    assert len(netlink.request([GET] * 130)) == 130
    assert netlink.sends == 3


def test_dump(socket_saying):
    done = message(NLMSG_DONE, 1, struct.pack("=i", 0))
    netlink = socket_saying(message(16, 1, b"a") + message(16, 1, b"b"), done)
    assert len(netlink.dump(GET)) == 2


def test_dump_is_repeated_while_objects_change(socket_saying):
    def interrupted(sequence):
        return message(16, sequence, b"a", DUMP_INTR) + message(NLMSG_DONE, sequence)

    netlink = socket_saying(interrupted(1), message(16, 2, b"b") + message(NLMSG_DONE, 2))
    assert [data[16:17] for _, data in netlink.dump(GET)] == [b"b"]
    netlink = socket_saying(*(interrupted(number) for number in range(1, 9)))
    with pytest.raises(KernelError, match="dump failed"):
        netlink.dump(GET)


@pytest.mark.parametrize(
    "said",
    [ack(1, errno.EPERM), message(NLMSG_DONE, 1, struct.pack("=i", -errno.EPERM))],
    ids=["error", "done"],
)
def test_refused_dump(socket_saying, said):
    with pytest.raises(KernelError, match="refused"):
        socket_saying(said).dump(GET)
