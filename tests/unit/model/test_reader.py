from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError
from podnet.model.reader import Reader
from podnet.testing import strategies_wire as wire

GETTERS = {
    "string": lambda reader, key: reader.string(key),
    "integer": lambda reader, key: reader.integer(key, minimum=0, maximum=9),
    "boolean": lambda reader, key: reader.boolean(key),
    "texts": lambda reader, key: reader.boolean(key, texts=True),
    "section": lambda reader, key: reader.section(key),
    "sections": lambda reader, key: reader.sections(key),
    "strings": lambda reader, key: reader.strings(key),
    "addresses": lambda reader, key: reader.addresses(key),
    "prefixes": lambda reader, key: reader.prefixes(key),
    "address": lambda reader, key: reader.address(key),
    "prefix": lambda reader, key: reader.prefix(key),
    "mac": lambda reader, key: reader.mac(key),
    "choice": lambda reader, key: reader.choice(key, ("a", "b")),
}
WRONG = {
    "string": 5,
    "integer": True,
    "boolean": 1,
    "texts": "yes",
    "section": [],
    "sections": {},
    "strings": [1],
    "addresses": ["x"],
    "prefixes": ["10.0.0.1"],
    "address": "10.0.0.256",
    "prefix": "10.0.0.1",
    "mac": "02:00",
    "choice": "c",
}


@given(st.sets(st.sampled_from(sorted(WRONG)), min_size=1))
def test_every_mistake_is_reported_and_nothing_else(kinds):
    document = {f"k{kind}": WRONG[kind] for kind in kinds}
    reader = Reader({"deep": [{"er": document}]})
    inner = reader.sections("deep")[0].section("er")
    for kind, get in GETTERS.items():
        get(inner, f"k{kind}")
    with pytest.raises(InvalidConfigError) as raised:
        reader.finish()
    paths = {path.partition("[0].er.k")[2].partition("[")[0] for path, _ in raised.value.mistakes}
    assert paths == kinds
    assert len(raised.value.mistakes) == len(kinds)


@given(wire.documents, st.sampled_from(sorted(GETTERS)))
def test_no_value_makes_a_getter_fail(value, kind):
    reader = Reader({"key": value})
    found = GETTERS[kind](reader, "key")
    absent = GETTERS[kind](Reader({}), "key")
    assert type(found) is type(absent) or absent is None
    if value is None:
        assert reader.mistakes == []


def test_values_are_read():
    reader = Reader(
        {
            "s": "x",
            "i": 9,
            "b": True,
            "t": "FALSE",
            "a": "FD00::1",
            "p": "10.0.0.5/8",
            "m": "02-00-5E-00-00-01",
            "l": ["x", "y"],
            "c": "b",
            "as": ["10.0.0.1"],
        }
    )
    assert reader.string("s") == "x"
    assert reader.integer("i", minimum=0, maximum=9) == 9
    assert reader.boolean("b") is True
    assert reader.boolean("t", True, texts=True) is False
    assert str(reader.address("a")) == "fd00::1"
    assert str(reader.prefix("p")) == "10.0.0.5/8"
    assert reader.mac("m") == "02:00:5e:00:00:01"
    assert reader.strings("l") == ("x", "y")
    assert reader.choice("c", ("a", "b")) == "b"
    assert [str(each) for each in reader.addresses("as")] == ["10.0.0.1"]
    reader.finish()


def test_defaults_stand_for_absent_null_and_wrong_values():
    for document in ({}, {"k": None}, {"k": []}):
        reader = Reader(document)
        assert reader.string("k", "d") == "d"
        assert reader.string("k", None) is None
        assert reader.integer("k", 7) == 7
        assert reader.integer("k", None) is None
        assert reader.boolean("k", True) is True
        assert reader.boolean("k", None) is None


def test_keys_match_without_regard_to_case_and_the_exact_one_wins():
    assert Reader({"MTU": 1, "mtu": 2}).integer("mtu") == 2
    assert Reader({"mtu": 2, "MTU": 1}).integer("mtu") == 2
    assert Reader({"MTU": 1, "Mtu": 3}).integer("mtu") == 3
    assert "rangeStart" in Reader({"RANGESTART": "x"})
    assert "range" not in Reader({"range": None})


@pytest.mark.parametrize("value", ["", None, ...])
def test_required_texts(value):
    reader = Reader({} if value is ... else {"k": value}, "top")
    reader.string("k", required=True)
    assert reader.mistakes == [("top.k", "is required")]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (-1, "must be at least 0, not -1"),
        (10, "must be at most 9, not 10"),
        (1.0, "must be a whole number, not the number 1.0"),
        ("1", 'must be a whole number, not the string "1"'),
    ],
)
def test_integers_out_of_bounds(value, what):
    reader = Reader({"k": value})
    reader.integer("k", minimum=0, maximum=9)
    assert reader.mistakes == [("k", what)]


def test_messages_stay_short_whatever_the_value():
    reader = Reader({"k": "x" * 1000, "l": ["x" * 1000], "i": 10**5000})
    reader.choice("k", ("a",))
    reader.addresses("l")
    reader.prefix("k")
    reader.integer("i", maximum=9)
    assert len(reader.mistakes) == 4
    assert all(len(what) < 250 for _, what in reader.mistakes)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("02:00:5E:00:00:01", "02:00:5e:00:00:01"),
        ("02-00-5e-00-00-01", "02:00:5e:00:00:01"),
        ("0200.5e00.0001", "02:00:5e:00:00:01"),
        ("02:00:5e:00:00:00:00:01", "02:00:5e:00:00:00:00:01"),
        (":".join(["0a"] * 20), ":".join(["0a"] * 20)),
        ("02:00:5e:00:00", None),
        ("02:00:5e:00:00:1", None),
        ("02:00:5e:00:0:001", None),
        ("02:00:5e:00:00:0g", None),
        ("02:00-5e:00:00:01", None),
        ("02005e000001", None),
        ("02:00:5e:00:00:+1", None),
    ],
)
def test_hardware_addresses_are_those_of_go(text, canonical):
    reader = Reader({"mac": text})
    assert reader.mac("mac") == (canonical or "")
    assert bool(reader.mistakes) is (canonical is None)
