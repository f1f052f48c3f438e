from __future__ import annotations

import re

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError, InvalidEnvironmentError
from podnet.interface import macvlan, ptp
from podnet.interface.identity import chosen_mac, host_name, parse_owned
from podnet.model.attachment import Call
from podnet.model.names import ifname_fault

PARTS = st.lists(st.text(max_size=8), min_size=1, max_size=4)


def call(cni_args="", **config):
    document = {"name": "net", "type": "macvlan", **config}
    return Call(
        plugin="macvlan",
        verb="ADD",
        container_id="c1",
        ifname="eth1",
        args=cni_args,
        config=document,
    )


@given(PARTS)
def test_chosen_macs_are_local_and_unicast(parts):
    mac = chosen_mac(*parts)
    assert re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", mac)
    assert int(mac[:2], 16) & 3 == 2


@given(PARTS, PARTS)
def test_chosen_names_differ_where_the_parts_do(one, two):
    if one != two and "\0" not in "".join(one + two):
        assert chosen_mac(*one) != chosen_mac(*two)
        assert host_name(*one) != host_name(*two)
    assert not ifname_fault(host_name(*one))


def test_all_mistakes_at_once_each_with_its_path():
    wrong = call(
        mode="source",
        mtu=-1,
        mac="zz",
        bcqueuelen="10",
        linkInContainer="yes",
        master=5,
        ipam={"type": "../../bin/sh"},
        runtimeConfig={"mac": "01:00:00:00:00:01"},
        args={"cni": {"mac": "00:00:00:00:00:00"}},
        dns={"nameservers": "x"},
        enabledad=1,
    )
    with pytest.raises(InvalidConfigError) as caught:
        macvlan.read(wrong)
    assert sorted(path for path, _ in caught.value.mistakes) == [
        "args.cni.mac",
        "bcqueuelen",
        "dns.nameservers",
        "enabledad",
        "ipam.type",
        "linkInContainer",
        "mac",
        "master",
        "mode",
        "mtu",
        "runtimeConfig.mac",
    ]


def test_keys_match_as_in_go():
    want = macvlan.read(call(MASTER="eth9", Mtu=1400, LinkInContainer=True, IPAM={"Type": "x"}))
    assert (want.master, want.mtu, want.place.value, want.ipam) == ("eth9", 1400, "sandbox", "x")


@pytest.mark.parametrize(
    "args", ["MAC=zz", "MAC=01:00:00:00:00:01", "MAC=0a:00:00:00:00:00:00:00", "X=1", "MAC"]
)
def test_wrong_cni_args(args):
    with pytest.raises(InvalidEnvironmentError):
        macvlan.read(call(cni_args=args))


def test_ptp_reads_no_cni_args_and_needs_ipam():
    assert ptp.read(call(cni_args="X=1", ipam={"type": "static"})).ipam == "static"
    with pytest.raises(InvalidConfigError) as caught:
        ptp.read(call(mtu=True))
    assert sorted(path for path, _ in caught.value.mistakes) == ["ipam.type", "mtu"]


@given(st.sampled_from(["macvlan", "veth"]), st.text(max_size=15))
def test_owned_links_survive_the_journal(kind, name):
    document = {"place": "sandbox", "name": name, "kind": kind, "mac": ""}
    full = {**document, "chosen": True, "index": 7}
    assert parse_owned(full).document() == full
    assert parse_owned(document).document() == {**document, "chosen": False, "index": 0}


@pytest.mark.parametrize("wrong", [{"index": "7"}, {"chosen": 1}, {"name": 5}, {"place": "moon"}])
def test_links_of_a_damaged_record_are_refused(wrong):
    document = {"place": "host", "name": "a", "kind": "veth", "mac": "", **wrong}
    with pytest.raises((TypeError, ValueError)):
        parse_owned(document)


def test_an_index_is_chosen_where_the_mac_address_is_not():
    assert macvlan.read(call()).index == 0
    indexes = {
        macvlan.read(call(mac="02:00:00:00:00:77")).index,
        macvlan.read(call(mode="passthru")).index,
    }
    (index,) = indexes
    assert 1 << 20 <= index < 1 << 30
    other = evolve(call(mode="passthru"), container_id="other")
    assert macvlan.read(other).index != index
