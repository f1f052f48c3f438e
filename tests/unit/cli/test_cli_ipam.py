"""``podnet ipam`` where something is wrong: with a store, its URL, or what was asked for."""

from __future__ import annotations

import json
import os

import pytest

from podnet.errors import StoreError
from podnet.stores.file import FileStore

MISSING = ["file:{}/typo", "host-local:{}/typo", "sqlite:///{}/typo.db", "sqlite:{}/typo.db"]
READING = [
    ["show"],
    ["leases"],
    ["release", "10.0.0.1", "--yes"],
    ["reserve", "10.0.0.1", "--domain", "a", "--remove"],
    ["reconcile"],
    ["reconcile", "--dead-node", "other", "--yes"],
]


@pytest.mark.parametrize("url", MISSING)
@pytest.mark.parametrize("verb", READING, ids=" ".join)
def test_who_looks_into_a_store_that_is_not_there_is_told(ipam, tmp_path, verb, url):
    if url.startswith("sqlite"):
        pytest.importorskip("sqlalchemy")
    status, out, _ = ipam(*verb, "--store", url.format(tmp_path))
    assert status == 1
    assert "does not exist: nothing is at" in json.loads(out)["msg"]
    assert not list(tmp_path.glob("typo*"))


def test_a_node_that_has_no_leases_yet_is_none_of_these(ipam):
    assert ipam("leases")[:2] == (0, '{\n  "leases": []\n}\n')


def test_reserving_makes_the_store(ipam, tmp_path):
    words = ["reserve", "10.0.0.1", "--domain", "a", "--store", f"file:{tmp_path}/new"]
    assert ipam(*words, "--reason", "printers")[0] == 0
    assert ipam(*words, "--remove")[0] == 0


def test_a_list_that_breaks_off_is_no_document(ipam, leases, monkeypatch):
    load, keys = FileStore.load, FileStore.keys
    gone = []

    def leaving(self, key):
        if key.startswith("b/"):
            gone.append(key)
            raise StoreError("the store went away")
        return load(self, key)

    def left(self, prefix):
        if gone:
            raise StoreError("the store went away")
        return keys(self, prefix)

    monkeypatch.setattr(FileStore, "load", leaving)
    monkeypatch.setattr(FileStore, "keys", left)
    status, out, err = ipam("leases")
    assert status == 1
    assert out.count("10.0.0.") == 2
    assert '"code"' not in out
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(out)
    assert err.startswith("podnet: error: ")


@pytest.mark.parametrize("options", [[], ["--sort", "pod"]])
def test_an_error_before_the_list_is_one(ipam, leases, monkeypatch, options):
    def broken(self, prefix):
        raise StoreError("the store went away")

    monkeypatch.setattr(FileStore, "keys", broken)
    status, out, _ = ipam("leases", *options)
    assert status == 1
    assert json.loads(out)["code"] == 106


@pytest.mark.parametrize("options", [[], ["--sort", "pod"]])
def test_a_damaged_block_hides_no_other(ipam, leases, state, options):
    (block,) = (state / "leases" / "b").glob("*.block")
    block.write_text('{"broken')
    for verb in (["leases", *options], ["show"]):
        status, out, err = ipam(*verb)
        told = json.loads(out)
        assert status == 1
        assert [each["where"][0] for each in told["faults"]] == ["b"]
        assert err.startswith("podnet: error: ")
        (shown,) = [told[each] for each in ("leases", "pools") if each in told]
        assert {each["domain"] for each in shown} == {"a"}
    assert ipam("leases", "--domain", "a")[0] == 0


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--yes"]])
@pytest.mark.parametrize(
    ("name", "says"), [("here", "is this node"), ("", "which node"), (" ", "which node")]
)
def test_a_node_that_cannot_be_dead(ipam, leases, name, says, options):
    status, out, _ = ipam("reconcile", "--dead-node", name, *options)
    assert status == 2
    assert says in json.loads(out)["msg"]


def test_what_has_no_record_is_released_when_asked_for(ipam, leases, monkeypatch):
    from podnet.engine.reconcile_node import NodeWitness

    monkeypatch.setattr(NodeWitness, "_paths", lambda self, missed: iter(()))
    status, out, _ = ipam("reconcile", "--grace", "0")
    assert status == 0
    assert {each["verdict"] for each in json.loads(out)["findings"]} == {"unrecorded"}
    words = ["reconcile", "--grace", "0", "--without-record"]
    status, out, _ = ipam(*words)
    assert status == 2
    assert json.loads(out)["msg"] == "release 4 leases: not a terminal"
    status, out, _ = ipam(*words, "--yes")
    assert status == 0
    assert {each["verdict"] for each in json.loads(out)["findings"]} == {"released"}
    assert json.loads(ipam("leases")[1]) == {"leases": []}


@pytest.mark.parametrize("options", [["--all"], ["--all", "--dry-run"], ["--domain", "a"]])
def test_a_move_from_where_nothing_is(ipam, tmp_path, options):
    status, out, _ = ipam("migrate", f"file:{tmp_path}/typo", f"file:{tmp_path}/new", *options)
    assert status == 1
    assert "does not exist" in json.loads(out)["msg"]
    assert not os.path.exists(tmp_path / "typo")
    assert not os.path.exists(tmp_path / "new")


@pytest.mark.parametrize("url", ["memory:", "memory:name"])
def test_nothing_is_moved_to_what_ends_with_the_process(ipam, leases, url):
    for urls in ((leases, url), (url, leases)):
        status, out, _ = ipam("migrate", *urls, "--all")
        assert status == 1
        assert "ends with the process" in json.loads(out)["msg"]
    assert len(json.loads(ipam("leases")[1])["leases"]) == 4


def test_a_move_is_cancelled(ipam, leases, tmp_path):
    from podnet.engine.migration_marks import Marks

    urls = leases, f"file:{tmp_path}/new"
    with pytest.MonkeyPatch.context() as patch:
        claim = Marks._claim_target

        def interrupted(self):
            claim(self)
            raise KeyboardInterrupt

        patch.setattr(Marks, "_claim_target", interrupted)
        assert ipam("migrate", *urls, "--domain", "a")[0] == 130
    status, out, _ = ipam("migrate", *urls, "--all", "--cancel")
    assert status == 0
    assert json.loads(out) == {
        "domains": [{"domain": "a", "cancelled": True}, {"domain": "b", "cancelled": False}]
    }
    assert ipam("migrate", *urls, "--domain", "a")[0] == 0
    status, out, _ = ipam("migrate", *urls, "--domain", "a", "--cancel")
    assert status == 1
    assert "all of it was moved" in json.loads(out)["domains"][0]["problem"]
    for other in ("--dry-run", "--merge"):
        assert ipam("migrate", *urls, "--all", "--cancel", other)[0] == 2
