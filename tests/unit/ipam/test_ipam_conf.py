from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.errors import InvalidConfigError
from podnet.ipam.conf import read_want
from podnet.ipam.want import IpamWant, describe, share_out
from podnet.model.addresses import parse_address
from podnet.model.conf import network_config
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool
from podnet.model.result import DNS, IP, Route

SCENARIO = {
    "type": "whereabouts",
    "range": "192.168.60.0/24",
    "range_start": "192.168.60.20",
    "range_end": "192.168.60.50",
    "gateway": "192.168.60.1",
}


def want_of(ipam, cni_args=None, cni_version="1.0.0", **rest):
    document = {"cniVersion": cni_version, "name": "net", "type": "macvlan", "ipam": ipam, **rest}
    return read_want(str(ipam.get("type")), network_config(document), cni_args or {})


def mistakes_of(ipam, cni_args=None, **rest):
    with pytest.raises(InvalidConfigError) as raised:
        want_of(ipam, cni_args, **rest)
    return dict(raised.value.mistakes)


def test_the_scenario():
    (pool,) = want_of(SCENARIO).pools
    assert pool == Pool(
        "192.168.60.0/24",
        "192.168.60.0/24",
        first="192.168.60.20",
        last="192.168.60.50",
        gateway="192.168.60.1",
        domain="whereabouts",
        edges="inner",
        picker="lowest",
    )


def test_keys_match_without_regard_to_case():
    assert want_of(
        {key.upper(): value for key, value in SCENARIO.items()} | {"type": "whereabouts"}
    ) == want_of(SCENARIO)


def test_keys_that_steer_whereabouts_pass():
    steering = {
        "kubernetes": {"kubeconfig": "/x"},
        "log_file": "/tmp/x",
        "log_level": "debug",
        "leader_lease_duration": 1500,
        "configuration_path": "/x",
        "node_slice_size": "/26",
        "sleep_for_race": 1,
        "datastore": "kubernetes",
        "etcd_host": "x",
        "something": {"else": []},
    }
    assert want_of(SCENARIO | steering) == want_of(SCENARIO)


@pytest.mark.parametrize(
    ("keys", "domains"),
    [
        ({}, ("whereabouts",)),
        ({"network_name": "red"}, ("whereabouts:red",)),
        ({"enable_overlapping_ranges": False}, ("whereabouts:192.168.60.0/24",)),
        (
            {"network_name": "red", "enable_overlapping_ranges": False},
            ("whereabouts:red:192.168.60.0/24",),
        ),
    ],
)
def test_collision_domains(keys, domains):
    assert want_of(SCENARIO | keys).domains == domains


def test_range_comes_before_ip_ranges():
    want = want_of(SCENARIO | {"ipRanges": [{"range": "fd00::/64"}, {"range": "10.0.0.0/8"}]})
    assert [pool.name for pool in want.pools] == ["192.168.60.0/24", "fd00::/64", "10.0.0.0/8"]


def test_exclude_belongs_to_its_own_range():
    want = want_of(
        SCENARIO
        | {
            "exclude": ["192.168.60.24/30", "192.168.60.40"],
            "ipRanges": [
                {"range": "10.0.0.0/8", "exclude": ["10.0.0.0/9"]},
                {"range": "fd00::/64"},
            ],
        }
    )
    assert [[str(x) for x in pool.exclude] for pool in want.pools] == [
        ["192.168.60.24/30", "192.168.60.40"],
        ["10.0.0.0/9"],
        [],
    ]


def test_gateway_goes_to_its_family():
    want = want_of(SCENARIO | {"ipRanges": [{"range": "fd00::/64"}]})
    assert [str(pool.gateway) for pool in want.pools] == ["192.168.60.1", "None"]


def test_gateway_is_not_handed_out():
    from podnet.ipam.space import intervals

    (pool,) = want_of({"type": "whereabouts", "range": "10.0.0.0/29", "gateway": "10.0.0.1"}).pools
    assert intervals(pool)[0][0] == parse_address("10.0.0.2").value


def test_leading_zeros_are_decimal():
    ipam = {
        "type": "whereabouts",
        "range": "010.000.00.0/24",
        "range_start": "10.0.0.010",
        "exclude": ["10.0.0.011"],
        "gateway": "010.0.0.1",
    }
    (pool,) = want_of(ipam).pools
    assert (str(pool.network), str(pool.first)) == ("10.0.0.0/24", "10.0.0.10")
    assert (str(pool.exclude[0]), str(pool.gateway)) == ("10.0.0.11", "10.0.0.1")


def test_ends_in_the_range_win():
    both = {"range": "192.168.60.5-192.168.60.9/24"}
    (pool,) = want_of(SCENARIO | both).pools
    assert (str(pool.first), str(pool.last)) == ("192.168.60.5", "192.168.60.9")


def test_all_mistakes_at_once():
    found = mistakes_of(
        {
            "type": "whereabouts",
            "range": "10.0.0.0/33",
            "range_start": "x",
            "exclude": ["y", 3],
            "gateway": "z",
            "enable_overlapping_ranges": "yes",
            "network_name": 7,
            "ipRanges": [{"range_end": "10.0.0.1"}, {"range": "10.0.0.0/31"}, 5],
            "addresses": [{"address": "10.0.0.1"}, {"address": "10.0.0.1/8", "gateway": "w"}],
            "routes": [{"dst": "nowhere"}],
            "dns": {"nameservers": "1.1.1.1"},
        },
        {"IP": "10.0.0.1", "GATEWAY": "v"},
    )
    assert set(found) == {
        "ipam.gateway",
        "ipam.enable_overlapping_ranges",
        "ipam.network_name",
        "ipam.ipRanges[2]",
        "ipam.range",
        "ipam.range_start",
        "ipam.exclude[1]",
        "ipam.exclude[0]",
        "ipam.ipRanges[0].range",
        "ipam.ipRanges[1].range",
        "ipam.addresses[0].address",
        "ipam.addresses[1].gateway",
        "CNI_ARGS.IP",
        "CNI_ARGS.GATEWAY",
        "ipam.routes[0].dst",
        "ipam.dns.nameservers",
    }


@pytest.mark.parametrize(
    ("keys", "path", "what"),
    [
        ({"range_start": "10.0.0.5"}, "ipam.range_start", "10.0.0.5 is not in 192.168.60.0/24"),
        ({"range_end": "10.0.0.5"}, "ipam.range_end", "10.0.0.5 is not in 192.168.60.0/24"),
        ({"range_end": "192.168.60.19"}, "ipam.range_end", "192.168.60.19 is below first"),
        ({"range_start": "192.168.60.256"}, "ipam.range_start", "is not an IP address"),
        ({"range": "192.168.61.1-192.168.60.9/24"}, "ipam.range", "invalid range start for CIDR"),
        ({"range": "192.168.60.0"}, "ipam.range", "is not in CIDR notation"),
    ],
)
def test_what_whereabouts_drops_is_reported(keys, path, what):
    assert what in mistakes_of(SCENARIO | keys)[path]


def test_nothing_asked_for_is_a_mistake():
    assert list(mistakes_of({"type": "whereabouts"})) == ["ipam.range"]


def test_fixed_addresses_alone_are_enough():
    want = want_of({"type": "whereabouts", "addresses": [{"address": "10.0.0.1/24"}]})
    assert want == IpamWant(addresses=(IP("10.0.0.1/24"),))


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_old_results_have_room_for_one_fixed_address_of_a_family(version):
    two = [{"address": "10.0.0.1/24"}, {"address": "10.0.0.2/24"}]
    for plugin, rest in (("static", {}), ("whereabouts", {"range": "10.0.0.0/8"})):
        ipam = {"type": plugin, "addresses": two, **rest}
        found = mistakes_of(ipam, cni_version=version)
        assert "does not support more than 1 address per family" in found["ipam.addresses"]
        assert len(want_of(ipam, cni_version="0.3.0").addresses) == 2


def test_another_type_is_refused():
    document = {"cniVersion": "1.0.0", "name": "n", "type": "t", "ipam": {"type": "dhcp"}}
    with pytest.raises(InvalidConfigError, match="only interested in networks whose IPAM type"):
        read_want("static", network_config(document), {})


def test_missing_ipam():
    with pytest.raises(InvalidConfigError, match="IPAM config missing 'ipam' key"):
        read_want("static", network_config({"cniVersion": "1.0.0", "name": "n", "type": "t"}), {})


NATIVE = {
    "type": "podnet-ipam",
    "pools": [
        {
            "name": "storage",
            "network": "192.168.60.0/24",
            "first": "192.168.60.20",
            "last": "192.168.60.50",
            "exclude": ["192.168.60.30-192.168.60.33"],
            "reserved": ["192.168.60.40"],
            "gateway": "192.168.60.1",
        },
        {"network": "2001:db8::/64", "domain": "six", "edges": "all"},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "192.168.60.1"}],
    "dns": {"nameservers": ["192.168.60.1"]},
}


def test_native_pools_have_the_vocabulary_of_pool():
    want = want_of(NATIVE)
    assert want.pools == (
        Pool(
            "storage",
            "192.168.60.0/24",
            first="192.168.60.20",
            last="192.168.60.50",
            exclude=["192.168.60.30-192.168.60.33"],
            reserved=["192.168.60.40"],
            gateway="192.168.60.1",
        ),
        Pool("2001:db8::/64", "2001:db8::/64", domain="six", edges="all"),
    )
    assert want.routes == (Route("0.0.0.0/0", "192.168.60.1"),)
    assert want.dns == DNS(nameservers=["192.168.60.1"])


@pytest.mark.parametrize(
    ("sources", "requested"),
    [
        ({}, []),
        ({"args": {"IP": "192.168.60.21/24"}}, ["192.168.60.21"]),
        ({"args": {"IP": "192.168.60.21, 2001:db8::5"}}, ["192.168.60.21", "2001:db8::5"]),
        (
            {"args": {"IP": "192.168.60.21"}, "cni": ["192.168.60.22/24", ""]},
            ["192.168.60.22"],
        ),
        (
            {"args": {"IP": "1.1.1.1"}, "cni": ["2.2.2.2"], "runtime": ["2001:db8::9/64"]},
            ["2001:db8::9"],
        ),
    ],
)
def test_requested_addresses(sources, requested):
    rest = {
        "args": {"cni": {"ips": sources.get("cni", [])}},
        "runtimeConfig": {"ips": sources.get("runtime", [])},
    }
    want = want_of(NATIVE, sources.get("args"), **rest)
    assert [str(ip) for ip in want.requested] == requested


def test_native_mistakes():
    found = mistakes_of(
        {
            "type": "podnet-ipam",
            "pools": [
                {"network": "10.0.0.0/24", "first": "10.1.0.0", "edges": "odd"},
                {"name": "b"},
                {"name": "c", "network": "10.0.0.0/24", "exclude": ["fd00::1"], "reserved": ["?"]},
                {"name": "d", "network": "10.0.0.0/30"},
                {"name": "d", "network": "10.0.0.0/29"},
                {"name": "e", "network": "10.0.0.0/30", "edges": "inner", "first": "10.0.0.3"},
            ],
        },
        runtimeConfig={"ips": ["no"]},
    )
    assert set(found) == {
        "ipam.pools[0].edges",
        "ipam.pools[0].first",
        "ipam.pools[1].network",
        "ipam.pools[2].exclude",
        "ipam.pools[2].reserved[0]",
        "ipam.pools[5].network",
        "ipam.pools",
        "runtimeConfig.ips",
    }
    assert list(mistakes_of({"type": "podnet-ipam"})) == ["ipam.pools"]


def test_result_has_no_interfaces():
    want = want_of(SCENARIO | {"addresses": [{"address": "10.0.0.1/24", "gateway": "10.0.0.9"}]})
    lease = Lease(
        domain="d",
        pool="p",
        ip=parse_address("192.168.60.20"),
        length=24,
        owner=Owner("c", "eth1"),
    )
    result = describe(want, [lease])
    assert result.interfaces == ()
    assert result.ips == (
        IP("192.168.60.20/24", "192.168.60.1"),
        IP("10.0.0.1/24", "10.0.0.9"),
    )


def test_two_requested_of_one_network_go_to_two_pools():
    pools = [Pool("a", "10.0.0.0/24"), Pool("b", "10.0.0.0/24")]
    wanted = [parse_address("10.0.0.7"), parse_address("10.0.0.6")]
    assert share_out(pools, wanted) == tuple(wanted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [*SCENARIO, "exclude", "ipRanges", "routes", "dns", "addresses", "pools", "network_name"]
)
TEXTS = st.sampled_from(
    ["10.0.0.0/24", "10.0.0.5-10.0.0.9/24", "fd00::/64", "::/0", "1.2.3.4", "/"]
)
VALUES = JSON | TEXTS | st.lists(TEXTS | st.dictionaries(st.just("range"), TEXTS), max_size=3)


@given(
    st.sampled_from(["whereabouts", "podnet-ipam", "static"]),
    st.dictionaries(KEYS, VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["IP", "GATEWAY"]), st.text(max_size=9) | TEXTS),
    JSON,
)
def test_any_document_is_read_or_refused(plugin, ipam, args, runtime):
    rest = {"runtimeConfig": {"ips": runtime}, "args": {"cni": {"ips": runtime}}}
    try:
        want = want_of(ipam | {"type": plugin}, args, **rest)
    except InvalidConfigError as error:
        found = error.mistakes
    else:
        found = ()
        assert isinstance(want, IpamWant)
    assert all(path and what for path, what in found)


def test_static_mistakes_name_their_source():
    for sources, path in (
        ({"runtimeConfig": {"ips": ["x"]}, "args": {"cni": {"ips": ["y"]}}}, "runtimeConfig.ips"),
        ({"args": {"cni": {"ips": ["y"]}}}, "args.cni.ips"),
    ):
        assert list(mistakes_of({"type": "static"}, **sources)) == [path]


@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0"])
def test_old_results_have_room_for_one_pool_of_a_family(version):
    pools = [{"network": "10.0.0.0/24"}, {"network": "fd00::/64"}, {"network": "10.1.0.0/24"}]
    two = {"type": "podnet-ipam", "pools": pools[:2]}
    assert len(want_of(two, cni_version=version).sets) == 2
    three = {"type": "podnet-ipam", "pools": pools}
    assert "1 address per family" in mistakes_of(three, cni_version=version)["ipam.pools"]
    fixed = {**two, "addresses": [{"address": "10.2.0.1/24"}]}
    assert "1 address per family" in mistakes_of(fixed, cni_version=version)["ipam.pools"]


@pytest.mark.parametrize(("kind", "key"), [("podnet-ipam", "pools"), ("whereabouts", "ipRanges")])
def test_a_list_that_is_none_is_reported_once(kind, key):
    with pytest.raises(InvalidConfigError) as raised:
        want_of({"type": kind, key: "x"})
    assert raised.value.mistakes == ((f"ipam.{key}", 'must be a list, not the string "x"'),)


@pytest.mark.parametrize(("value", "rest"), [(None, 0), (0, 0), (1.5, 1.5), (60, 60)])
def test_a_cool_down_is_any_number_of_seconds(value, rest):
    pool = {"network": "10.0.0.0/24", "coolDown": value}
    assert want_of({"type": "podnet-ipam", "pools": [pool]}).pools[0].cool_down == rest


@pytest.mark.parametrize("value", [-1, 10**400, float("inf"), float("nan"), True, "1"])
def test_a_cool_down_that_is_none(value):
    pool = {"network": "10.0.0.0/24", "coolDown": value}
    assert list(mistakes_of({"type": "podnet-ipam", "pools": [pool]})) == ["ipam.pools[0].coolDown"]
