from __future__ import annotations

import hashlib
import json
import os
import sys
from types import SimpleNamespace

import pytest

from podnet.cli import sandbox
from podnet.cli.demo import SCENARIO, Guest, _manifests, _settings, picture
from podnet.cli.inventory import Seen, left_behind
from podnet.cli.main import main
from podnet.engine.settings import load

# The scenario's two files, byte for byte.
GOLDEN = {
    "nad.yaml": "5a97de3be3a18211238df9b5eda65c48ae43ad01b5230d64952a991733b83e70",
    "pod.yaml": "e38daf805d2d5ecaaf672b446cb15e5f99383447f24e953d885653b7de00f556",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_scenario_is_shipped_unchanged(name):
    with open(os.path.join(SCENARIO, name), "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == GOLDEN[name]


def test_the_default_network_is_a_configuration_list():
    with open(os.path.join(SCENARIO, "default.conflist")) as file:
        document = json.load(file)
    assert [plugin["type"] for plugin in document["plugins"]] == ["ptp"]


def test_the_twin_differs_in_its_own_name_only(tmp_path):
    yaml = pytest.importorskip("yaml")
    nad, pod, twin = _manifests(str(tmp_path))
    assert os.path.dirname(nad) == os.path.dirname(pod) == SCENARIO
    documents = []
    for path in (pod, twin):
        with open(path) as file:
            documents.append(yaml.safe_load(file))
    assert documents[1]["metadata"].pop("name") == "test-webhook-2"
    assert documents[0]["metadata"].pop("name") == "test-webhook"
    assert documents[0] == documents[1]


def test_the_machines_configuration_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("PODNET_STATE_DIR", "/elsewhere")
    monkeypatch.setenv("PODNET_STORE", "file:/elsewhere")
    settings = _settings(str(tmp_path))
    assert settings.state_dir.startswith(str(tmp_path))
    assert settings.store.startswith(f"file:{tmp_path}")


def test_a_network_of_the_pods_own_namespace_is_shown_by_its_short_name():
    networks = [
        SimpleNamespace(name="default/storage", interface="eth1"),
        SimpleNamespace(name="other/storage", interface="eth2"),
    ]
    one = Guest(
        pod="default/a",
        netns="/n",
        attached=SimpleNamespace(networks=networks),
        interfaces=(),
    )
    assert [one.short(name) for name in ("eth1", "eth2", "lo")] == ["storage", "other/storage", ""]


def guest(pod, address):
    seen = Seen(
        name="eth1",
        kind="macvlan",
        mac="02:00:00:00:00:01",
        mtu=1500,
        state="up",
        addresses=(address, "fe80::1/64"),
    )
    return Guest(pod=pod, netns="/n", attached=None, interfaces=(seen,))


def test_the_picture_shows_who_hangs_where():
    drawn = picture(
        [guest("default/a", "192.168.60.20/24"), guest("default/b", "192.168.60.21/24")]
    )
    assert drawn.splitlines() == [
        "uplink 192.168.60.1 ── node eth1 ┬─ macvlan ── a eth1 192.168.60.20",
        "                                 └─ macvlan ── b eth1 192.168.60.21",
    ]


def test_addresses_that_nobody_assigned_are_left_out():
    (seen,) = guest("default/a", "192.168.60.20/24").interfaces
    assert seen.addresses == ("192.168.60.20/24", "fe80::1/64")
    assert seen.assigned == ("192.168.60.20/24",)


def test_an_interface_that_is_missing_is_shown_as_missing():
    lonely = Guest(pod="default/a", netns="/n", attached=None, interfaces=())
    assert lonely.address == ""
    assert picture([lonely]).endswith("── node eth1 ── missing ── a eth1 ")


def test_the_childs_status_is_passed_on(capfd):
    assert sandbox.in_child(lambda: 3) == 3

    def killed():
        os.kill(os.getpid(), 9)
        return 0

    def broken():
        raise RuntimeError("a fault of podnet's")

    def interrupted():
        raise KeyboardInterrupt

    assert sandbox.in_child(killed) == 137
    assert sandbox.in_child(interrupted) == 130
    assert sandbox.in_child(broken) == 1
    assert "a fault of podnet's" in capfd.readouterr().err


@pytest.fixture
def settings(tmp_path):
    config = tmp_path / "podnet.conf"
    config.write_text("{}")
    return load({"PODNET_CONFIG": str(config)}, state_dir=str(tmp_path / "state"), node="n")


def test_furniture_is_not_left_behind(settings, node, tmp_path):
    (tmp_path / "state" / "locks").mkdir(parents=True)
    (tmp_path / "state" / "locks" / "sandbox").touch()
    (tmp_path / "state" / "journal" / "sandbox").mkdir(parents=True)
    assert list(left_behind(settings, node)) == []


def test_records_leases_and_files_are_left_behind(settings, node, attached, tmp_path):
    import podnet

    (tmp_path / "state" / "journal").mkdir(parents=True)
    (tmp_path / "state" / "journal" / "x.json").touch()
    node.answer = (attached(container_id="c1"),)
    with podnet.open_ipam(settings.store) as ipam:
        pool = podnet.Pool("storage", "192.168.60.0/24", first="192.168.60.20")
        lease = ipam.allocate(pool, owner=podnet.Owner("c1", "eth1"))
        found = list(left_behind(settings, node))
        assert found == [
            "record of container c1",
            "lease of 192.168.60.20/24 by c1 (eth1)",
            f"file {tmp_path}/state/journal/x.json",
        ]
        ipam.release(lease.owner)
    assert not any(thing.startswith("lease") for thing in left_behind(settings, node))


def test_the_demo_says_at_once_that_pyyaml_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setattr("podnet.cli.demo.in_child", lambda _work: 0)
    assert main(["demo"]) == 1
    shown = capsys.readouterr()
    assert "PyYAML is not installed: install podnet with its extra 'cli'" in shown.err
    assert json.loads(shown.out)["code"] == 6
