from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import DecodingError
from podnet.model.wire import MAX_DEPTH, load_json, print_json
from podnet.testing import strategies_wire as wire

objects = st.dictionaries(wire.texts, wire.documents, max_size=4)


@given(
    st.one_of(
        st.binary(max_size=60), wire.stdin_bytes(), objects.map(lambda d: json.dumps(d).encode())
    )
)
def test_what_is_read_can_be_printed_and_read_again(data):
    with suppress(DecodingError):
        document = load_json(data, "thing")
        for indent in (4, None):
            printed = print_json(document, indent=indent)
            assert json.loads(printed) == document


@given(objects)
def test_documents_without_surrogates_come_back_equal(document):
    if any(0xD800 <= ord(each) <= 0xDFFF for each in json.dumps(document, ensure_ascii=False)):
        return
    assert load_json(print_json(document), "thing") == document


def test_go_escapes_are_printed():
    assert print_json({"a<b": "&\u2028\u2029>é\x7f\n\x00"}, indent=None) == (
        '{"a\\u003cb":"\\u0026\\u2028\\u2029\\u003eé\x7f\\n\\u0000"}'.encode()
    )


def test_surrogates_become_replacement_characters():
    assert load_json(b'{"\\ud800":["\\uDfff"],"\\ud83d\\ude00":1}', "thing") == {
        "\ufffd": ["\ufffd"],
        "\U0001f600": 1,
    }
    assert print_json({"a": "\udcff"}, indent=None) == '{"a":"\ufffd"}'.encode()


def test_large_integers_survive():
    assert load_json(b'{"a":%d}' % 10**40, "thing") == {"a": 10**40}
    with pytest.raises(DecodingError, match="limit"):
        load_json(b'{"a":' + b"9" * 5000 + b"}", "thing")


def test_depth_is_limited_exactly():
    def nested(depth: int) -> bytes:
        return b'{"a":' * depth + b"1" + b"}" * depth

    assert load_json(nested(MAX_DEPTH - 1), "thing")
    with pytest.raises(DecodingError, match="nested deeper"):
        load_json(nested(MAX_DEPTH), "thing")


def test_numbers_that_are_no_json_are_not_printed():
    with pytest.raises(ValueError, match="JSON"):
        print_json({"a": math.inf})
