from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.network import conflist, find_on_disk, resolve
from podnet.errors import (
    DecodingError,
    IncompatibleVersionError,
    InvalidConfigError,
    NetworkNotFoundError,
    PodnetError,
)
from podnet.testing.source_contract import network_object
from podnet.testing.strategies_wire import damaged, network_configs


def definition(config: str | None, name: str = "storage") -> bytes:
    return json.dumps(network_object("default", name, config)).encode()


def disk(**files: object) -> list[tuple[str, bytes]]:
    """Files by name with ``__`` for the dot; bytes as they are, else as JSON."""
    return [
        (name.replace("__", "."), each if isinstance(each, bytes) else json.dumps(each).encode())
        for name, each in files.items()
    ]


def network(name: str, note: str = "") -> dict[str, object]:
    return {"name": name, "cniVersion": "1.0.0", "plugins": [{"type": "ptp", "note": note}]}


def single(name: str, note: str = "") -> dict[str, object]:
    return {"name": name, "cniVersion": "0.4.0", "type": "ptp", "note": note}


def test_one_plugin_becomes_a_list_of_one() -> None:
    found = resolve(definition('{"cniVersion":"0.3.1","type":"macvlan","x":1}'), "d", "storage")
    assert (found.name, found.cni_version) == ("storage", "0.3.1")
    assert [plugin["type"] for plugin in found.plugins] == ["macvlan"]
    assert found.plugins[0]["x"] == 1


@pytest.mark.parametrize("own", ['"name": "",', '"Name": null,', ""])
def test_the_name_is_injected_where_missing(own: str) -> None:
    text = f'{{{own} "cniVersion": "1.0.0", "plugins": [{{"type": "ptp"}}]}}'
    assert resolve(definition(text), "default", "storage").name == "storage"


def test_an_own_name_stays() -> None:
    text = '{"NAME": "own", "cniVersion": "1.0.0", "type": "ptp"}'
    assert resolve(definition(text), "default", "storage").name == "own"


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_without_config_the_files_of_that_name_count(empty: str | None) -> None:
    files = disk(b__conflist=network("other"), c__conflist=network("storage", "c"))
    assert resolve(definition(empty), "d", "storage", lambda: files).plugins[0]["note"] == "c"


def test_lists_go_before_single_plugins_whatever_their_file_names() -> None:
    files = disk(
        a__conf=single("storage", "conf"),
        z__conflist=network("storage", "late"),
        y__conflist=network("storage", "early"),
        b__json=single("storage", "json"),
    )
    assert find_on_disk("storage", files).plugins[0]["note"] == "early"
    singles = [each for each in files if not each[0].endswith("list")]
    assert find_on_disk("storage", singles).plugins[0]["note"] == "conf"


def test_a_broken_file_does_not_hide_another() -> None:
    files = disk(a__conflist=b"{half", b__conflist=network("storage", "b"), c__conf=b"\xff")
    assert find_on_disk("storage", files).plugins[0]["note"] == "b"
    with pytest.raises(NetworkNotFoundError) as caught:
        find_on_disk("missing", files)
    assert "a.conflist" in caught.value.details
    assert "c.conf" in caught.value.details


def test_mistakes_in_the_file_of_that_name_are_told() -> None:
    files = disk(a__conflist={"name": "storage", "plugins": [{"type": "../x"}]})
    with pytest.raises(InvalidConfigError, match=r"a\.conflist"):
        find_on_disk("storage", files)


def test_no_files_no_network() -> None:
    with pytest.raises(NetworkNotFoundError) as caught:
        resolve(definition(None), "default", "storage", lambda: disk(a__conflist=b"{half"))
    assert caught.value.msg == (
        "network definition default/storage has no spec.config, "
        "and no file of the CNI configuration folder has the name storage"
    )
    assert "a.conflist" in caught.value.details


def test_a_name_that_nothing_has() -> None:
    with pytest.raises(NetworkNotFoundError) as caught:
        find_on_disk("nope", disk(a__conflist=network("other")))
    assert str(caught.value) == (
        "no network is named nope: neither a network definition nor a file of the CNI "
        "configuration folder has the name"
    )


@pytest.mark.parametrize(
    ("text", "error", "where"),
    [
        ("{", DecodingError, ""),
        ("[]", DecodingError, ""),
        ("{}", InvalidConfigError, "type"),
        ('{"type": "a/b"}', InvalidConfigError, "type"),
        ('{"type": "ptp", "name": "a/b"}', InvalidConfigError, "name"),
        ('{"type": "ptp", "cniVersion": "9.0.0"}', IncompatibleVersionError, ""),
        ('{"plugins": []}', InvalidConfigError, "plugins"),
        ('{"plugins": [7]}', InvalidConfigError, "plugins[0]"),
        ('{"plugins": [{"type": "a"}, {}]}', InvalidConfigError, "plugins[1].type"),
        ('{"type": "ptp", "args": []}', InvalidConfigError, "plugins[0].args"),
        ('{"type": "ptp", "Args": {"cni": "x"}}', InvalidConfigError, "plugins[0].args.cni"),
        ('{"type": "multus"}', InvalidConfigError, "plugins[0].type"),
        ('{"plugins": [{"type": "podnet"}]}', InvalidConfigError, "plugins[0].type"),
    ],
)
def test_mistakes_of_the_configuration(text: str, error: type[PodnetError], where: str) -> None:
    with pytest.raises(error) as caught:
        resolve(definition(text), "default", "storage")
    if isinstance(caught.value, InvalidConfigError):
        assert where in dict(caught.value.mistakes)
        assert "default/storage" in caught.value.msg


@pytest.mark.parametrize(
    "object_", [b"", b"[]", b'{"spec": []}', b'{"spec": {"config": {}}}', b'{"spec": 7}']
)
def test_mistakes_of_the_object(object_: bytes) -> None:
    with pytest.raises((DecodingError, InvalidConfigError)):
        resolve(object_, "default", "storage")


def test_an_object_without_spec_is_on_disk() -> None:
    assert resolve(b"{}", "d", "storage", lambda: disk(a__conf=single("storage"))).name == "storage"


@given(network_configs().flatmap(lambda config: st.one_of(st.just(config), damaged(config))))
def test_any_configuration_is_a_network_or_an_error(document: dict[str, object]) -> None:
    try:
        found = conflist(document, "storage", "here")
    except PodnetError:
        return
    assert found.plugins
    assert found.name
