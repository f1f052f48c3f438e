"""Keys as names and labels, blocks as objects, owners as digests: pure functions."""

from __future__ import annotations

import json
import re

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError, StoreError
from podnet.model.block import block_key
from podnet.model.lease import Owner
from podnet.model.urls import kubeconfig_url, seconds
from podnet.stores import crd, crd_form, crd_names, crd_object, crd_owners
from podnet.stores.crd_names import label_value, object_name
from podnet.testing import blocks, owners
from podnet.testing.kube.naming import is_label_value, name_mistakes
from podnet.testing.kube.patches import merge
from podnet.testing.store_contract import ODD_KEYS

KEYS = st.one_of(
    st.sampled_from(ODD_KEYS),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=600),
    st.builds(
        block_key,
        st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True)
        | st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=300),
        st.just(4),
        st.integers(0, (1 << 23) - 1),
    ),
    st.builds(block_key, st.sampled_from("ab"), st.just(6), st.integers(0, (1 << 119) - 1)),
)


class TestNames:
    @pytest.mark.parametrize(
        ("domain", "version", "index", "name"),
        [
            ("storage", 4, 0x60541E, "storage-192.168.60.0-23"),
            ("a.b-c", 4, 0, "a.b-c-0.0.0.0-23"),
            ("lab", 6, 0xFD << 111, "lab-fd00.0.0.0.0.0.0.0-119"),
        ],
    )
    def test_blocks_are_called_after_domain_and_addresses(self, domain, version, index, name):
        assert object_name(block_key(domain, version, index)) == name

    @pytest.mark.parametrize("key", ["a", "a/b", "Ä/4/000000", "a--b/4/000000", "x" * 600])
    def test_other_keys_have_a_digest(self, key):
        assert re.fullmatch("key-[0-9a-f]{40}", object_name(key))

    @given(key=KEYS)
    def test_names_are_valid(self, key):
        assert name_mistakes(object_name(key), label=False) == []

    @given(one=KEYS, two=KEYS)
    def test_names_differ(self, one, two):
        assume(one != two)
        assert object_name(one) != object_name(two)

    @given(one=KEYS, two=KEYS)
    def test_labels_are_valid_and_differ(self, one, two):
        assert is_label_value(label_value(one))
        assert label_value(one)
        assert (label_value(one) == label_value(two)) == (one == two)

    @given(key=KEYS, data=st.data())
    def test_a_prefix_selects_its_keys(self, key, data):
        prefix = key[: data.draw(st.integers(0, len(key)))]
        selector = crd_names.selector(prefix)
        assert selector in ("", f"ipam.podnet.dev/domain={crd_names.domain_label(key)}")
        assert bool(selector) == ("/" in prefix)


class TestTimes:
    @pytest.mark.parametrize(
        ("when", "text"),
        [
            (0.0, "1970-01-01T00:00:00Z"),
            (1.7e9, "2023-11-14T22:13:20Z"),
            (1.7e9 + 1 / 7, "2023-11-14T22:13:20.142857Z"),
            (1e11, "5138-11-16T09:46:40Z"),
            (1e-7, "1970-01-01T00:00:00.0000001Z"),
            (-1.5, "-1.5"),
            (1e300, "1e+300"),
        ],
    )
    def test_they_are_written_for_people(self, when, text):
        assert crd_form.time_text(when) == text

    @given(when=st.floats(allow_nan=False, allow_infinity=False))
    def test_no_digit_is_lost(self, when):
        assert crd_form.read_time(crd_form.time_text(when), "x") == when

    @settings(max_examples=300)
    @given(when=st.floats(1e9, 3e9))
    def test_no_digit_of_todays_times_is_lost(self, when):
        assert crd_form.read_time(crd_form.time_text(when), "x") == when


def document(planned):
    """What the API server would answer with: the body through JSON, and its own metadata."""
    body = json.loads(json.dumps(planned.body))
    meta = {"uid": "u", "resourceVersion": "5", "generation": 1}
    return {**body, "metadata": {**body["metadata"], **meta}}


def mixed(old, new):
    """A block in the place of the old one with most of its leases, and the new one's."""
    leases = dict(list(old.leases.items())[1:])
    for n, lease in new.leases.items():
        ip = evolve(lease.ip, version=old.version, value=old.first + n)
        leases[n] = evolve(lease, domain=old.domain, ip=ip, length=min(lease.length, 32))
    top = max([new.sequence, *(lease.sequence for lease in leases.values())])
    freed = {n: when for n, when in {**old.freed, **new.freed}.items() if n not in leases}
    return evolve(old, leases=leases, freed=freed, sequence=top, holder="node", recalled=True)


class TestObjects:
    @given(block=blocks())
    def test_what_is_created_is_read(self, block):
        found = document(crd_object.first(block.key, block))
        assert crd_object.decode(block.key, found, None).block == block

    @given(old=blocks(), new=blocks(), hold=st.booleans())
    def test_a_patch_makes_the_new_of_the_old(self, old, new, hold):
        """Also where nothing is common, and where most leases stay."""
        if hold:
            new = mixed(old, new)
        key = "any/key"
        found = document(crd_object.first(key, old))
        base = crd_object.decode(key, found, None)
        planned = crd_object.change(base, new)
        patched = merge(found, json.loads(json.dumps(planned.body)))
        assert crd_object.decode(key, patched, None).block == new
        assert crd_object.decode(key, patched, base).block == new
        known = planned.wrote(patched["metadata"])
        assert known.block == new
        again = crd_object.change(known, old)
        assert crd_object.decode(key, merge(patched, again.body), None).block == old

    @given(block=blocks())
    def test_metadata_tells_every_owner(self, block):
        found = document(crd_object.first(block.key, block))
        marks = crd_owners.read(found["metadata"])
        for lease in block.leases.values():
            assert crd_owners.has(marks, crd_owners.marks(lease.owner))
        stale = {**found["metadata"], "generation": 2}
        assert crd_owners.read(stale) is None

    def test_writes_are_counted_and_remembered(self):
        writes = crd_object.Writes()
        ids = []
        for _ in range(40):
            writes = crd_object.Writes.read(
                {"annotations": {crd_object.WRITES: str(writes.next())}}
            )
            ids.insert(0, writes.ids[0])
        assert writes.count == 40
        assert writes.ids == tuple(ids[:32])
        for text in ("", "x", "1 zz", "-1"):
            assert crd_object.Writes.read({"annotations": {crd_object.WRITES: text}}).count == 0

    @pytest.mark.parametrize("value", [None, [], "text", {"spec": None}, {"spec": {"key": "k"}}])
    def test_what_is_no_block_is_damaged(self, value):
        found = value if isinstance(value, dict) else {"spec": value}
        with pytest.raises(StoreError, match="is damaged"):
            crd_object.decode("k", {"metadata": {"name": "n"}, **found}, None)


class TestIndex:
    @settings(max_examples=60)
    @given(
        steps=st.lists(
            st.tuples(st.integers(0, 4), st.lists(st.integers(0, 12), max_size=8)), max_size=25
        )
    )
    def test_it_agrees_with_a_dictionary(self, steps):
        # Numbers that make digests stand across the borders of records, too.
        digests = [bytes([n % 3, n % 2, n % 3, n % 5]) for n in range(13)]
        index, model = crd_owners.Index(), {}
        for number, which in steps:
            new = b"".join(digests[n] for n in which)
            index.replace(number, model.get(number, b""), new)
            model[number] = new
            for digest in digests:
                wanted = {
                    n
                    for n, marks in model.items()
                    if digest in [marks[at : at + 4] for at in range(0, len(marks), 4)]
                }
                assert index.blocks(digest) == wanted
                assert {n for n, m in model.items() if crd_owners.has(m, digest)} == wanted

    @given(one=owners(), two=owners())
    def test_marks_tell_who_is_the_same(self, one, two):
        container = (one.container_id, one.ifname) == (two.container_id, two.ifname)
        pod = bool(one.pod_uid) and (one.pod_uid, one.ifname) == (two.pod_uid, two.ifname)
        if container or pod:
            assert crd_owners.has(crd_owners.marks(one), crd_owners.marks(two))

    def test_parts_of_names_do_not_run_into_each_other(self):
        one, two = Owner("ab", "c"), Owner("a", "bc")
        assert not crd_owners.has(crd_owners.marks(one), crd_owners.marks(two))


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "parts"),
        [
            ("kubernetes:", ("", "", 10.0)),
            ("kubernetes:/etc/kube", ("/etc/kube", "", 10.0)),
            ("kubernetes:///etc/kube", ("/etc/kube", "", 10.0)),
            ("kubernetes:?context=a&timeout=2.5", ("", "a", 2.5)),
            ("kubernetes:/a?context=b=c", ("/a", "b=c", 10.0)),
        ],
    )
    def test_parts(self, url, parts):
        path, options = kubeconfig_url(url, "kubernetes", context="", timeout="10")
        assert (path, options["context"], seconds(url, options["timeout"])) == parts

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("kube:", "is not kubernetes:"),
            ("kubernetes", "is not kubernetes:"),
            ("kubernetes://host/path", "names the host 'host'"),
            ("kubernetes:?token=x", "option 'token'"),
            ("kubernetes:?timeout=0", "timeout"),
            ("kubernetes:?timeout=soon", "timeout"),
            ("kubernetes:?timeout=inf", "timeout"),
        ],
    )
    def test_mistakes(self, url, why):
        with pytest.raises(InvalidConfigError, match=why):
            crd.open(url)

    def test_a_missing_extra_is_told(self, monkeypatch):
        import sys

        for name in list(sys.modules):
            if name.startswith(("podnet.cluster", "podnet.stores.crd_store")):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "httpx2", None)
        with pytest.raises(InvalidConfigError, match="extra 'kubernetes'"):
            crd.open("kubernetes:")

    def test_the_registry_knows_it(self, tmp_path):
        from podnet.engine.registry import open_store
        from podnet.engine.settings import absolute_store

        with pytest.raises(InvalidConfigError, match="not found"):
            open_store(f"kubernetes:{tmp_path}/nothing")
        assert absolute_store("kubernetes:") == "kubernetes:"
        assert absolute_store("kubernetes:?context=a") == "kubernetes:?context=a"
        assert absolute_store("kubernetes:/a?context=b") == "kubernetes:/a?context=b"
        assert absolute_store("kubernetes:x?timeout=1").endswith("/x?timeout=1")
        assert absolute_store("kubernetes:x").startswith("kubernetes:/")
