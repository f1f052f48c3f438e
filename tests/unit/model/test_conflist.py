from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given

from podnet.errors import IncompatibleVersionError, InvalidConfigError
from podnet.model.conflist import is_conflist, parse_conflist, upconvert, with_folder
from podnet.model.versions import SUPPORTED
from podnet.testing import strategies_wire as wire

PLUGIN = {"type": "macvlan", "Master": "eth1"}
LIST = {"name": "storage", "cniVersion": "1.0.0", "plugins": [PLUGIN]}


def refused(document, parse=parse_conflist):
    with pytest.raises(InvalidConfigError) as raised:
        parse(document)
    return raised.value


def test_list_is_read():
    network = parse_conflist({**LIST, "disableCheck": True, "disableGC": "TRUE"})
    assert (network.name, network.cni_version) == ("storage", "1.0.0")
    assert network.plugins == (PLUGIN,)
    assert network.disable_check
    assert network.disable_gc
    assert not network.load_only_inlined_plugins


@pytest.mark.parametrize("key", ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"])
def test_switches_that_are_none(key):
    assert refused({**LIST, key: "yes"}).mistakes == (
        (key, 'must be true or false, not the string "yes"'),
    )
    assert refused({**LIST, key: 1}).mistakes == ((key, "must be true or false, not the number 1"),)


def test_all_mistakes_are_told_at_once():
    error = refused(
        {
            "name": "a/b",
            "cniVersion": 1,
            "cniVersions": ["x", 2],
            "disableGC": [],
            "plugins": [{}, 5, {"type": "../x", "capabilities": {"mac": 1}}],
        }
    )
    assert error.msg == "error parsing configuration list"
    assert error.mistakes == (
        ("name", 'invalid characters found in network name, is "a/b"'),
        ("cniVersion", "must be a string, not the number 1"),
        ("cniVersions[0]", '"x" is not a version (major.minor.micro)'),
        ("cniVersions[1]", "must be a string, not the number 2"),
        ("disableGC", "must be true or false, not a list"),
        ("plugins[1]", "must be an object, not the number 5"),
        ("plugins[0].type", "missing 'type'"),
        (
            "plugins[2].type",
            'plugin type must be a file name, without path separators, is "../x"',
        ),
        ("plugins[2].capabilities.mac", "must be true or false, not the number 1"),
    )


@pytest.mark.parametrize(
    ("single", "several", "chosen"),
    [
        ("", ..., "0.1.0"),
        ("0.4.0", ..., "0.4.0"),
        ("0.4.0", [], "0.4.0"),
        ("0.4.0", ["0.3.1", "1.0.0"], "1.0.0"),
        ("1.1.0", ["0.3.1", "1.0.0"], "1.1.0"),
        ("", ["0.3.1", "9.0.0"], "0.3.1"),
        ("9.0.0", ["0.3.1"], "0.3.1"),
        ("0.4.0", ["0.5.0", "0.10.0"], "0.4.0"),
    ],
)
def test_highest_supported_version_is_chosen(single, several, chosen):
    document = {**LIST, "cniVersion": single, "cniVersions": several}
    if several is ...:
        del document["cniVersions"]
    assert parse_conflist(document).cni_version == chosen


@pytest.mark.parametrize(
    ("single", "several"), [("2.0.0", ...), ("2.0.0", ["3.0.0"]), ("", ["9.9"])]
)
def test_no_supported_version(single, several):
    document = {**LIST, "cniVersion": single, "cniVersions": several}
    if several is ...:
        del document["cniVersions"]
    with pytest.raises(IncompatibleVersionError):
        parse_conflist(document)


def test_plugins_may_come_from_the_folder():
    bare = {"name": "storage", "cniVersion": "1.0.0"}
    network = parse_conflist(bare)
    assert network.plugins == ()
    assert with_folder(network, [PLUGIN]).plugins == (PLUGIN,)
    assert with_folder(parse_conflist(LIST), [{"type": "sbr"}]).plugins == (PLUGIN, {"type": "sbr"})
    with pytest.raises(InvalidConfigError, match="no plugin configs found"):
        with_folder(network, [])
    with pytest.raises(InvalidConfigError, match=r"storage\[1\].type: missing 'type'"):
        with_folder(network, [PLUGIN, {}])


def test_only_inlined_plugins_are_loaded_where_the_list_says_so():
    network = parse_conflist({**LIST, "loadOnlyInlinedPlugins": True})
    assert with_folder(network, [{"type": "sbr"}, {}]).plugins == (PLUGIN,)
    bare = {"name": "storage", "loadOnlyInlinedPlugins": True}
    assert refused(bare).mistakes == (
        ("plugins", "is required, for loadOnlyInlinedPlugins is true"),
    )


def test_empty_list_of_plugins_is_a_mistake():
    assert refused({**LIST, "plugins": []}).mistakes == (("plugins", "no plugins in list"),)
    assert refused({**LIST, "plugins": {}}).mistakes == (
        ("plugins", "must be a list, not an object"),
    )


def test_single_configuration_becomes_a_list_of_one():
    single = {"name": "storage", "type": "macvlan", "X": 1}
    network = upconvert(single)
    assert (network.name, network.cni_version, network.plugins) == ("storage", "0.1.0", (single,))
    assert parse_conflist(network.document).plugins == (single,)
    assert not is_conflist(single)
    assert is_conflist(network.document)
    assert [path for path, _ in refused({}, upconvert).mistakes] == ["name", "type"]


@given(wire.network_configs())
def test_plugins_pass_through_a_list_untouched(plugin):
    document = {"name": plugin["name"], "cniVersion": plugin["cniVersion"], "plugins": [plugin]}
    assert parse_conflist(document).plugins == (plugin,)
    assert upconvert(plugin).plugins == (plugin,)


@given(wire.documents, wire.documents)
def test_anything_is_a_list_or_refused(name, plugins):
    with suppress(InvalidConfigError, IncompatibleVersionError):
        network = parse_conflist({"name": name, "plugins": plugins, "cniVersions": plugins})
        assert network.name == name
        assert network.cni_version in SUPPORTED
