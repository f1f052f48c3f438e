from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError, InvalidEnvironmentError, UnknownContainerError
from podnet.model import names
from podnet.model.cniargs import load_args, parse_cni_args
from podnet.model.versions import (
    SUPPORTED,
    allows,
    at_least,
    check_verb,
    parse_version,
    reconcile,
    requires_address,
)
from podnet.testing import strategies_wire as wire

any_text = st.one_of(wire.texts, wire.tricks, wire.names, st.text("ab=;", max_size=9))


@given(any_text)
@example("a\n")
@example("a\u0660")
def test_container_ids_and_network_names(text):
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    good = bool(text) and set(text) <= allowed and text[0] not in "_.-"
    assert (names.container_id_fault(text) == "") is good
    assert (names.network_name_fault(text) == "") is good


@given(any_text)
def test_interface_names_are_what_the_kernel_takes(text):
    length = len(text.encode(errors="surrogateescape")) if _encodes(text) else None
    bad = any(each in "/:%\0" or each.isspace() for each in text) or text in ("", ".", "..")
    if length is not None:
        assert (names.ifname_fault(text) == "") is (not bad and length <= 15)
    elif bad:
        assert names.ifname_fault(text)


def _encodes(text):
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


@given(any_text)
def test_plugin_types_never_leave_a_folder(text):
    if not names.plugin_type_fault(text):
        assert "/" not in text
        assert text not in ("", ".", "..")


def test_checks_raise_the_class_that_fits():
    with pytest.raises(UnknownContainerError, match="missing containerID"):
        names.check_container_id("")
    with pytest.raises(InvalidEnvironmentError):
        names.check_container_id("../x")
    with pytest.raises(InvalidConfigError, match="missing network name"):
        names.check_network_name("")
    with pytest.raises(InvalidConfigError, match="name: is 'a/b'"):
        names.check_network_name("a/b")
    with pytest.raises(InvalidEnvironmentError):
        names.check_ifname("")
    names.check_container_id("web-0")
    names.check_network_name("storage")
    names.check_ifname("eth1")


def test_arguments_are_pairs_in_order():
    assert parse_cni_args("") == ()
    assert parse_cni_args("B=1;A=;B=2") == (("B", "1"), ("A", ""), ("B", "2"))


def test_arguments_are_loaded_by_name_with_case():
    assert load_args("IP=10.0.0.2;IP=10.0.0.3", {"IP", "MAC"}) == {"IP": "10.0.0.3"}
    assert load_args("ip=x;IgnoreUnknown=TRUE;K8S_POD_NAME=a", {"IP"}) == {}
    with pytest.raises(InvalidEnvironmentError, match=r'unknown args \["ip=x" "B=1"\]'):
        load_args("ip=x;IP=10.0.0.2;B=1", {"IP"})
    with pytest.raises(InvalidEnvironmentError, match=r'unknown args \["B=1"\]'):
        load_args("B=1;IgnoreUnknown=0", {"IP"})
    with pytest.raises(InvalidEnvironmentError, match="not a boolean"):
        load_args("IgnoreUnknown=yes", {"IP"})


@given(any_text)
def test_any_arguments_are_pairs_or_refused(text):
    if text and any(part.count("=") != 1 for part in text.split(";")):
        with pytest.raises(InvalidEnvironmentError, match="invalid pair"):
            parse_cni_args(text)
    else:
        assert ";".join(f"{key}={value}" for key, value in parse_cni_args(text)) == text


def test_versions_are_in_order():
    assert sorted(SUPPORTED, key=parse_version) == list(SUPPORTED)
    assert at_least("0.4.0", "0.4.0")
    assert not at_least("0.3.1", "0.4.0")
    assert parse_version("1.1") == (1, 1, 0)
    for text in ("", "1.x", "1.2.3.4", "-1", "1..2", "٣"):
        with pytest.raises(ValueError, match="is not a version"):
            parse_version(text)


def test_verbs_of_each_version():
    table = {
        v: "".join(verb[0] for verb in ("CHECK", "GC", "STATUS") if allows(v, verb))
        for v in SUPPORTED
    }
    assert table == {
        **dict.fromkeys(SUPPORTED[:4], ""),
        "0.4.0": "C",
        "1.0.0": "C",
        "1.1.0": "CGS",
    }
    for version in SUPPORTED:
        check_verb(version, "ADD")
        check_verb(version, "DEL")
        assert reconcile(version) == version
        assert requires_address(version) == version.startswith(("0.1", "0.2"))
    assert reconcile("") == "0.1.0"
