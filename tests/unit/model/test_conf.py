from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import IncompatibleVersionError, InvalidConfigError
from podnet.model.conf import (
    inject,
    network_config,
    salvage_config,
    takes_prev_result,
    valid_attachments,
)
from podnet.model.result import DNS, IP
from podnet.testing import strategies_wire as wire

CONFIG = {"cniVersion": "1.0.0", "name": "storage", "type": "macvlan"}


def test_reserved_keys_are_read():
    document = {
        **CONFIG,
        "args": {"cni": {"ips": ["10.0.0.2"]}},
        "capabilities": {"mac": True, "ips": False},
        "runtimeConfig": {"mac": "02:00:00:00:00:01"},
        "ipam": {"type": "whereabouts"},
        "dns": {"search": ["a"]},
        "prevResult": {"ips": [{"address": "10.0.0.2/24"}]},
        "master": "eth1",
    }
    config = network_config(document)
    assert (config.name, config.cni_version, config.type) == ("storage", "1.0.0", "macvlan")
    assert config.args == {"cni": {"ips": ["10.0.0.2"]}}
    assert config.capabilities == {"mac": True, "ips": False}
    assert config.runtime_config == {"mac": "02:00:00:00:00:01"}
    assert config.ipam == {"type": "whereabouts"}
    assert config.dns == DNS(search=("a",))
    assert config.prev_result is not None
    assert config.prev_result.ips == (IP("10.0.0.2/24"),)
    assert config.document is document


def test_absent_keys_are_empty():
    config = network_config({"name": "a", "type": "b", "ipam": None, "cniVersion": None})
    assert config.cni_version == "0.1.0"
    assert config.prev_result is None
    assert (config.args, config.ipam, config.capabilities) == ({}, {}, {})


@given(wire.network_configs())
def test_valid_configurations_are_taken(document):
    assert network_config(document).document == document


def test_salvage_keeps_what_is_good_and_tells_the_rest():
    document = {**CONFIG, "ipam": {"type": "static"}, "dns": 1, "prevResult": {"ips": 1}}
    config = salvage_config(document)
    assert config.ipam == {"type": "static"}
    assert config.prev_result is None
    assert [path for path, _ in config.faults] == ["dns", "prevResult.ips"]


def test_salvage_refuses_what_no_verb_can_do_without():
    with pytest.raises(InvalidConfigError) as raised:
        salvage_config({"name": "a", "type": "../x", "dns": 1})
    assert [path for path, _ in raised.value.mistakes] == ["type", "dns"]
    with pytest.raises(IncompatibleVersionError):
        salvage_config({**CONFIG, "cniVersion": "9.9.9"})


@given(
    wire.network_configs(),
    st.none() | st.dictionaries(wire.names, wire.documents, max_size=2),
    st.dictionaries(st.sampled_from(["mac", "ips"]), wire.documents),
)
def test_inject_never_changes_other_keys(plugin, prev_result, runtime_config):
    before = repr(plugin)
    made = inject(
        plugin,
        "net",
        "1.1.0",
        prev_result=prev_result,
        runtime_config=runtime_config,
        extra={"cni.dev/x": 1},
    )
    assert repr(plugin) == before
    injected = {"cniVersion": "1.1.0", "name": "net", "cni.dev/x": 1}
    assert made.items() >= injected.items()
    own = {*injected, "capabilities", "runtimeConfig", "prevResult"}
    assert {k: v for k, v in made.items() if k not in own} == {
        k: v for k, v in plugin.items() if k not in own
    }
    assert "capabilities" not in made
    assert made.get("prevResult") == prev_result


@pytest.mark.parametrize(
    ("capabilities", "given", "own", "expected"),
    [
        ({"mac": True, "ips": False}, {"mac": "m", "ips": [], "dns": {}}, None, {"mac": "m"}),
        ({"mac": False}, {"mac": "m"}, None, None),
        ({"mac": 1}, {"mac": "m"}, None, None),
        (None, {"mac": "m"}, None, None),
        ({"mac": True}, {}, None, None),
        ({"mac": True}, {"mac": "m"}, {"ips": []}, {"mac": "m"}),
        ({"mac": True}, {}, {"ips": []}, {"ips": []}),
    ],
)
def test_runtime_config_is_what_the_plugin_asked_for(capabilities, given, own, expected):
    plugin = {"type": "macvlan", "capabilities": capabilities}
    if own is not None:
        plugin["runtimeConfig"] = own
    made = inject(plugin, "net", "1.1.0", runtime_config=given)
    assert made.get("runtimeConfig") == expected


def test_inject_leaves_no_second_spelling_of_a_key():
    made = inject({"Name": "a", "TYPE": "b", "CniVersion": "x", "Capabilities": {}}, "n", "1.0.0")
    assert made == {"TYPE": "b", "cniVersion": "1.0.0", "name": "n"}


def test_valid_attachments_prefer_the_name_of_the_key_that_stands():
    new = {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}
    old = {"cni.dev/attachments": [{"containerID": "b", "ifname": "eth0"}]}
    assert valid_attachments({**old, **new}) == (("a", "eth0"),)
    assert valid_attachments(old) == (("b", "eth0"),)


def test_no_list_of_attachments_is_not_an_empty_one():
    assert valid_attachments({"cni.dev/valid-attachments": []}) == ()
    assert valid_attachments({"cni.dev/valid-attachments": None}) is None
    assert valid_attachments({}) is None


def test_previous_result_reaches_del_from_0_4_0():
    assert not takes_prev_result("0.3.1", "DEL")
    assert takes_prev_result("0.4.0", "DEL")
    assert takes_prev_result("0.1.0", "ADD")
    assert not takes_prev_result("1.1.0", "GC")
