"""Requests and answers as bytes: nothing is lost, and nothing else is believed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.agent import frames
from podnet.agent.frames import Request
from podnet.cni.skel import Response
from podnet.errors import DecodingError

# What an environment can have, bytes that are not UTF-8 included; ours need no empty name.
TEXTS = st.binary(max_size=30).map(
    lambda b: b.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
NAMES = st.from_regex(r"[A-Z_]{1,12}", fullmatch=True)
REQUESTS = st.builds(
    Request,
    TEXTS,
    st.dictionaries(NAMES, TEXTS, max_size=5),
    st.binary(max_size=200),
    st.integers(0, 3_600_000).map(lambda ms: ms / 1000),
)


@given(REQUESTS)
def test_a_request_is_read_as_it_was_written(request):
    frame = frames.write_request(request)
    assert frames.request_bytes(frame[: frames.HEADER_BYTES]) == len(frame)
    assert frames.read_request(frame) == request


@given(REQUESTS, st.data())
def test_part_of_a_request_is_none(request, data):
    frame = frames.write_request(request)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(DecodingError):
        frames.read_request(frame[:cut])
    with pytest.raises(DecodingError):
        frames.read_request(frame + b"x")


@given(st.binary(min_size=frames.HEADER_BYTES, max_size=100))
def test_whatever_comes_is_read_or_refused(data):
    try:
        frames.read_request(data)
    except DecodingError:
        return
    assert data.startswith(frames.MAGIC)


def header(name=0, environment=0, stdin=0, milliseconds=0):
    return struct.pack(">4sIIII", frames.MAGIC, name, environment, stdin, milliseconds)


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("name", frames.MOST_NAME),
        ("environment", frames.MOST_ENVIRONMENT),
        ("stdin", frames.MOST_STDIN),
        ("milliseconds", 3_600_000),
    ],
)
def test_each_part_has_a_limit(field, most):
    frames.request_bytes(header(**{field: most}))
    with pytest.raises(DecodingError, match=f"at most {most} are allowed"):
        frames.request_bytes(header(**{field: most + 1}))


@pytest.mark.parametrize("text", [b"A=1", b"\0", b"=1\0", b"A\0", b"A=1\0\0"])
def test_an_environment_is_pairs(text):
    with pytest.raises(DecodingError, match="environment"):
        frames.read_request(header(environment=len(text)) + text)


def test_an_answer_has_its_lengths():
    frame = frames.write_answer(Response(3, b"out", b"notes"))
    assert frame == struct.pack(">4sIII", b"PDN1", 3, 3, 5) + b"outnotes"
