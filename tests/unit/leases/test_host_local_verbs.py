from __future__ import annotations

import json
import os

import pytest
from attrs import evolve

import podnet
from podnet.engine import registry
from podnet.engine.house import House
from podnet.engine.ipam_delegate import ipam_type
from podnet.engine.settings import Settings, absolute_store
from podnet.engine.verbs import perform
from podnet.errors import (
    AddressUnavailableError,
    CheckFailedError,
    DelegateError,
    InvalidConfigError,
    IOFailureError,
    NotAvailableError,
    PluginNotFoundError,
    PoolExhaustedError,
    StoreError,
)
from podnet.model.attachment import Call
from podnet.model.result import DNS, Route
from podnet.testing.fake_kernel import FakeKernel

ONE = [[{"subnet": "10.1.2.0/29"}]]
DUAL = [*ONE, [{"subnet": "2001:db8::/125"}]]


class Site:
    """A house, and a dataDir that is not the house's."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "networks"
        self.steps = []
        settings = Settings(
            state_dir=str(folder / "state"), store=f"file:{folder}/leases", node="node-1"
        )
        self.house = House(settings, kernel=FakeKernel(), step=self.steps.append)

    def call(self, verb, container="c1", ranges=ONE, ifname="eth0", args="", **config):
        ipam = {"type": "host-local", "dataDir": str(self.data), "ranges": ranges}
        ipam |= config.pop("ipam", {})
        document = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam, **config}
        return Call(
            plugin="bridge",
            verb=verb,
            container_id=container,
            ifname=ifname,
            args=args,
            config=document,
        )

    def do(self, verb, container="c1", ranges=ONE, **rest):
        return perform(self.house, self.call(verb, container, ranges, **rest), name="host-local")

    def add(self, container="c1", ranges=ONE, **rest):
        return [ip.address for ip in self.do("ADD", container, ranges, **rest).ips]

    def gc(self, *alive, **rest):
        pairs = [{"containerID": each, "ifname": "eth0"} for each in alive]
        self.do("GC", "", **{"cni.dev/valid-attachments": pairs}, **rest)

    def write(self, name, content, network="net"):
        (self.data / network).mkdir(parents=True, exist_ok=True)
        (self.data / network / name).write_bytes(content)

    def files(self, network="net"):
        """Return the addresses that have files, with what these say."""
        return {
            each.name: each.read_bytes().decode(errors="replace")
            for each in (self.data / network).glob("*")
            if each.name != "lock" and not each.name.startswith("last_reserved_ip")
        }


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    with site.house:
        yield site


def told(*addresses):
    return {"cniVersion": "1.1.0", "ips": [{"address": each} for each in addresses]}


def test_add_and_delete(site):
    result = site.do("ADD", ranges=DUAL)
    assert [(ip.address, ip.gateway) for ip in result.ips] == [
        ("10.1.2.2/29", "10.1.2.1"),
        ("2001:db8::2/125", "2001:db8::1"),
    ]
    assert site.do("ADD", ranges=DUAL) == result
    assert site.files() == {"10.1.2.2": "c1\r\neth0", "2001:db8::2": "c1\r\neth0"}
    site.do("DEL", ranges=DUAL)
    site.do("DEL", ranges=DUAL)
    assert site.files() == {}
    assert site.steps == ["ipam-allocate"] * 2 + ["ipam-release"] * 2


def test_the_house_s_store_has_none_of_it(site):
    site.add()
    assert not (site.folder / "leases").exists()
    assert list(site.house._stores) == [f"host-local:{site.data}"]
    site.add("c2", ipam={"dataDir": str(site.folder / "other")})
    assert sorted(os.listdir(site.folder / "other")) == [".podnet", "net"]
    site.do("DEL", "c2")
    assert (site.folder / "other/net/10.1.2.2").exists()


def test_networks_are_folders(site):
    assert site.add(name="a") == site.add(name="b") == ["10.1.2.2/29"]
    site.do("DEL", name="a")
    assert site.files("a") == {}
    assert site.files("b") == {"10.1.2.2": "c1\r\neth0"}


@pytest.mark.parametrize("name", ["../x", "..", ".podnet", "a/b", "", "-a", "a\0", "ä"])
def test_names_that_are_no_network_s_are_refused(site, name):
    for verb in ("ADD", "DEL", "CHECK", "GC", "STATUS"):
        with pytest.raises(InvalidConfigError):
            site.do(verb, name=name, **{"cni.dev/valid-attachments": []})
    assert not site.data.exists()


def test_all_mistakes_at_once(site):
    bad = [
        [],
        [{}, {"subnet": "10.0.0.1/24"}, {"subnet": "10.0.0.0/31"}, {"subnet": 5}],
        [{"subnet": "10.0.0.0/24"}, {"subnet": "2001:db8::/64"}],
        [
            {
                "subnet": "10.3.0.0/24",
                "rangeStart": "10.4.0.0",
                "rangeEnd": "x",
                "gateway": "fe80::1",
            }
        ],
        [{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.9", "rangeEnd": "10.5.0.8"}],
        [{"subnet": "10.6.0.0/24", "rangeEnd": "10.7.0.8"}],
        [{"subnet": "10.8.0.0/24", "gateway": "fe80::1"}],
        [{"subnet": "::ffff:10.8.0.0/120"}],
        "nonsense",
        ["nonsense"],
        [{"subnet": "10.0.0.0/25"}],
    ]
    with pytest.raises(InvalidConfigError) as raised:
        site.do(
            "ADD",
            ranges=bad,
            ipam={"dataDir": "relative", "resolvConf": "etc/resolv.conf", "routes": [{"dst": "x"}]},
            runtimeConfig={"ips": ["no"], "ipRanges": [[{"subnet": "10.9.0.0/30"}], 7]},
        )
    found = {}
    for path, what in raised.value.mistakes:
        found.setdefault(path, []).append(what)
    expected = {
        "runtimeConfig.ipRanges[1]": ["must be a list, not the number 7"],
        "ipam.ranges[0]": ["empty range set"],
        "ipam.ranges[1][0].subnet": ["is required"],
        "ipam.ranges[1][1].subnet": [
            "Network has host bits set. For a subnet mask of length 24 the network address is "
            "10.0.0.0"
        ],
        "ipam.ranges[1][2].subnet": ["Network 10.0.0.0/31 too small to allocate from"],
        "ipam.ranges[1][3].subnet": ["must be a string, not the number 5"],
        "ipam.ranges[2]": ["mixed address families"],
        "ipam.ranges[3][0].rangeEnd": ["'x' is not an IP address"],
        "ipam.ranges[4][0].rangeStart": ["RangeStart 10.5.0.9 not in network 10.5.0.0/24"],
        "ipam.ranges[5][0].rangeEnd": ["RangeEnd 10.7.0.8 not in network 10.6.0.0/24"],
        "ipam.ranges[6][0].gateway": ["fe80::1 is not of the family of 10.8.0.0/24"],
        "ipam.ranges[8]": ['must be a list, not the string "nonsense"'],
        "ipam.ranges[9][0]": ['must be an object, not the string "nonsense"'],
        "ipam.ranges": ["range set 4 overlaps with 12"],
        "ipam.dataDir": ['must be an absolute path, not "relative"'],
        "ipam.resolvConf": ['must be an absolute path, not "etc/resolv.conf"'],
        "runtimeConfig.ips": ["'no' is not an IP address"],
    }
    assert found.pop("ipam.routes[0].dst")
    assert "is IPv4 written as IPv6" in found.pop("ipam.ranges[7][0].subnet")[0]
    assert found == expected
    assert not site.data.exists()


@pytest.mark.parametrize(
    ("config", "sets"),
    [
        ({}, ["10.1.2.0/29"]),
        ({"ipam": {"subnet": "10.5.0.0/24"}}, ["10.5.0.0/24", "10.1.2.0/29"]),
        (
            {
                "ipam": {"SUBNET": "10.5.0.0/24", "rangestart": "10.5.0.9"},
                "runtimeConfig": {"ipRanges": [[{"subnet": "10.6.0.0/24"}]]},
            },
            ["10.6.0.0/24", "10.5.0.0/24", "10.1.2.0/29"],
        ),
    ],
)
def test_order_of_range_sets(site, config, sets):
    from podnet.ipam.conf import read_want
    from podnet.model.conf import network_config

    want = read_want("host-local", network_config(site.call("ADD", **config).config), {})
    assert [str(pool.network) for pools in want.sets for pool in pools] == sets
    assert [pools[0].name for pools in want.sets] == [str(n) for n in range(len(sets))]


def test_routes_are_told_and_dns_is_the_resolver_s(site):
    resolver = site.folder / "real.conf"
    resolver.write_text(
        "# by hand\n;nameserver 9.9.9.9\nnameserver 10.0.0.53 extra\nnameserver fd00::53\r\n"
        "domain old.example\ndomain example.com more\n search a.example b.example\n"
        "options ndots:2\noptions rotate\nsortlist 1.2.3.4\nnameserver\n"
    )
    link = site.folder / "resolv.conf"
    link.symlink_to(resolver)
    ipam = {"resolvConf": str(link), "routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "unread"}}
    result = site.do("ADD", ipam=ipam)
    assert result.routes == (Route("0.0.0.0/0"),)
    assert result.dns == DNS(
        nameservers=["10.0.0.53", "fd00::53"],
        domain="example.com",
        search=["a.example", "b.example"],
        options=["ndots:2", "rotate"],
    )


@pytest.mark.parametrize("kind", ["missing", "fifo", "folder"])
def test_resolver_that_cannot_be_read_takes_no_address(site, kind):
    path = site.folder / "resolv.conf"
    {"missing": lambda p: None, "fifo": os.mkfifo, "folder": os.mkdir}[kind](path)
    ipam = {"resolvConf": str(path)}
    with pytest.raises(IOFailureError, match=r"resolvConf .*resolv\.conf"):
        site.do("ADD", ipam=ipam)
    with pytest.raises(IOFailureError):
        site.house.plugin("host-local").validate(site.call("ADD", ipam=ipam))
    with pytest.raises(NotAvailableError):
        site.do("STATUS", ipam=ipam)
    assert not site.data.exists()
    site.add()
    site.do("DEL", ipam=ipam)
    assert site.files() == {}


def test_requested_addresses_of_all_sources(site):
    ips = {
        "args": "IP=10.1.2.4/29",
        "runtimeConfig": {"ips": ["2001:db8::5/125", "10.1.2.4"]},
    }
    assert site.add(ranges=DUAL, **ips) == ["10.1.2.4/29", "2001:db8::5/125"]
    with pytest.raises(AddressUnavailableError, match="held") as raised:
        site.add("c2", ranges=DUAL, **ips)
    assert "c1 (eth0)" in raised.value.details
    with pytest.raises(AddressUnavailableError, match="in no pool that is left"):
        site.add("c2", **ips)
    with pytest.raises(AddressUnavailableError, match="is the gateway"):
        site.add("c2", args="IP=10.1.2.1")
    assert set(site.files().values()) == {"c1\r\neth0"}


def test_exhausted_set_is_named_with_its_holders_and_nothing_is_kept(site):
    ranges = [*ONE, [{"subnet": "10.9.0.0/30"}]]
    site.write("10.9.0.2", b"x\r\neth0")
    with pytest.raises(PoolExhaustedError) as raised:
        site.add(ranges=ranges)
    assert raised.value.msg == (
        "failed to allocate for range 1: no IP addresses available in range set: 10.9.0.1-10.9.0.2"
    )
    assert "10.9.0.2 by x (eth0)" in raised.value.details
    assert list(site.files()) == ["10.9.0.2"]


def test_an_empty_file_keeps_its_address_is_told_and_ends_with_gc(site):
    site.write("10.9.0.2", b"")
    with pytest.raises(PoolExhaustedError, match=r"10\.9\.0\.2 by \(empty file\)"):
        site.add(ranges=[[{"subnet": "10.9.0.0/30"}]])
    site.gc("c1")
    assert site.add(ranges=[[{"subnet": "10.9.0.0/30"}]]) == ["10.9.0.2/30"]


def test_delete_takes_the_old_form_only_where_nothing_else_is(site):
    site.write("10.1.2.5", b"c1")
    site.add("c1")
    site.do("DEL", "c1")
    assert site.files() == {"10.1.2.5": "c1"}
    site.do("DEL", "c1", ifname="eth7")
    assert site.files() == {}


def test_delete_takes_every_address_whatever_the_configuration_is_now(site):
    site.add(ranges=DUAL)
    for changed in ([[{"subnet": "192.168.0.0/24"}]], [[{"subnet": "nonsense"}]], 5):
        site.add("other", ranges=DUAL)
        site.do("DEL", "other", ranges=changed)
        assert set(site.files().values()) == {"c1\r\neth0"}
    for broken in ({"dataDir": "relative"}, {"dataDir": 5}):
        site.do("DEL", ipam=broken)
    assert len(site.files()) == 2


def test_delete_makes_nothing(site):
    site.do("DEL")
    site.gc()
    assert not site.data.exists()


def test_check_compares(site):
    result = told(*site.add(ranges=DUAL))
    site.do("CHECK", ranges=DUAL, prevResult=result)
    with pytest.raises(CheckFailedError, match="Failed to find address added by container c2"):
        site.do("CHECK", "c2", ranges=DUAL, prevResult=result)
    with pytest.raises(CheckFailedError, match="Required prevResult missing"):
        site.do("CHECK", ranges=DUAL)
    (site.data / "net/2001:db8::2").unlink()
    other = told("10.1.2.5/29", "2001:db8::2/125")
    with pytest.raises(CheckFailedError) as raised:
        site.do("CHECK", ranges=DUAL, prevResult=other)
    assert raised.value.details == (
        "c1 (eth0) holds no address of range set 1; 10.1.2.2 is leased but not in prevResult"
    )


def test_check_of_what_host_local_gave(site):
    site.write("10.1.2.5", b"c1\r\neth0")
    site.do("CHECK", prevResult=told("10.1.2.5/29"))
    site.write("10.1.2.6", b"old")
    site.do("CHECK", "old", prevResult=told("10.1.2.6/29"))
    with pytest.raises(CheckFailedError, match="holds no address of range set 1"):
        site.do("CHECK", ranges=DUAL, prevResult=told("10.1.2.5/29"))


class TestGc:
    @pytest.fixture(autouse=True)
    def held(self, site):
        site.add("ours-live")
        site.add("ours-dead")
        site.add("ours-live", name="other")
        for n, content in enumerate(
            (b"theirs-live\r\neth0", b"theirs-dead\r\neth0", b"old-live", b"old-dead", b"")
        ):
            site.write(f"10.7.0.{n}", content)
        for n, content in enumerate((b"lf-live\neth0", b"\xff", b"a/b\r\neth0")):
            site.write(f"10.8.0.{n}", content)
        self.strange = {f"10.8.0.{n}" for n in range(3)}

    def left(self, site):
        assert self.strange <= site.files().keys(), "what cannot be understood stays"
        return {name for name in site.files() if name not in self.strange}

    def test_frees_what_no_attachment_holds(self, site):
        before = site.files("other")
        site.gc("ours-live", "theirs-live", "old-live")
        assert self.left(site) == {"10.1.2.2", "10.7.0.0", "10.7.0.2"}
        assert site.files("other") == before

    def test_where_podnet_is_the_runtime_frees_only_podnet_s(self, site):
        """Others' attachments are not podnet's to judge: its list tells only of its own."""
        call = Call(plugin="podnet", verb="GC")
        with site.house.exclusive("sandbox", call):
            site.gc("ours-live")
        assert self.left(site) == {"10.1.2.2", *(f"10.7.0.{n}" for n in range(5))}

    def test_without_a_list_frees_nothing(self, site):
        before = site.files()
        site.do("GC", "")
        site.gc(ipam={"dataDir": "relative"})
        assert site.files() == before

    def test_with_a_wrong_entry_frees_nothing(self, site):
        before = site.files()
        with pytest.raises(InvalidConfigError):
            site.do("GC", "", **{"cni.dev/valid-attachments": [{"containerID": "c1"}]})
        assert site.files() == before

    def test_is_of_this_node_s_name_for_what_podnet_gave(self, site):
        """A dataDir that nodes share by mistake loses nobody's addresses."""
        site.house = House(evolve(site.house.settings, node="node-2"), kernel=FakeKernel())
        site.gc()
        assert self.left(site) == {"10.1.2.2", "10.1.2.3"}


def test_status(site):
    site.do("STATUS", ranges=DUAL)
    assert not site.data.exists()
    for n in range(5):
        site.add(f"c{n}", ranges=DUAL)
    (site.data / "net/2001:db8::3").unlink()
    with pytest.raises(NotAvailableError) as raised:
        site.do("STATUS", ranges=DUAL)
    assert raised.value.msg == (
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.6"
    )
    site.do("STATUS", ranges=[[*ONE[0], {"subnet": "10.1.3.0/29"}]])


def test_status_of_a_broken_folder(site):
    site.data.write_bytes(b"")
    with pytest.raises(NotAvailableError, match="networks is no folder"):
        site.do("STATUS")
    with pytest.raises(StoreError):
        site.add()


def test_status_of_a_damaged_sidecar(site):
    site.add()
    (path,) = (site.data / ".podnet/net").iterdir()
    path.write_bytes(b"")
    with pytest.raises(NotAvailableError, match="is damaged"):
        site.do("STATUS")


def test_validate_takes_and_makes_nothing(site):
    plugin = site.house.plugin("host-local")
    plugin.validate(site.call("ADD"))
    with pytest.raises(InvalidConfigError):
        plugin.validate(site.call("ADD", ranges=[]))
    assert not site.data.exists()


def test_default_data_dir_is_host_local_s(site):
    site.house.plugin("host-local").validate(site.call("ADD", ipam={"dataDir": ""}))
    from podnet.ipam.host_local import data_dir
    from podnet.model.conf import network_config

    config = network_config(site.call("ADD", ipam={"dataDir": None}).config)
    assert data_dir(config) == "/var/lib/cni/networks"


def test_a_built_in_goes_before_the_executable():
    assert registry.role_of("host-local") == "ipam"
    assert registry.role_of("dhcp") == ""
    assert registry.open_store("host-local:/x").folder == "/x"
    assert absolute_store("host-local:x") == f"host-local:{os.getcwd()}/x"


class TestUnderANode:
    """podnet as the runtime: its records say where the leases are."""

    def manifest(self, data, **ipam):
        config = {
            "cniVersion": "1.0.0",
            "type": "macvlan",
            "master": "eth1",
            "ipam": {"type": "host-local", "dataDir": str(data), "ranges": DUAL, **ipam},
        }
        return {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "lan"},
            "spec": {"config": json.dumps(config)},
        }

    @pytest.fixture
    def node(self, tmp_path):
        kernel = FakeKernel()
        kernel.add_link(kernel.node, "eth1", mtu=1500, up=True)
        for name in "ab":
            kernel.add_sandbox(f"/ns/{name}")
        self.networks = tmp_path / "lan.json"
        self.networks.write_text(json.dumps(self.manifest(tmp_path / "data")))
        with podnet.Node(
            state_dir=str(tmp_path / "state"), networks=self.networks, kernel=kernel
        ) as node:
            yield node

    def test_attach_check_and_detach(self, node, tmp_path):
        (attached,) = node.attach("/ns/a", "lan", container_id="c1").networks
        assert attached.ips == ("10.1.2.2/29", "2001:db8::2/125")
        node.check("/ns/a")
        (tmp_path / "data/lan/2001:db8::2").unlink()
        with pytest.raises(DelegateError, match="holds no address of range set 1"):
            node.check("/ns/a")
        # The definition may have changed since, and gone.
        self.networks.write_text(json.dumps(self.manifest(tmp_path / "elsewhere")))
        (second,) = node.attach("/ns/b", "lan", container_id="c2").networks
        assert second.ips == attached.ips
        self.networks.write_text("[]")
        node.detach("/ns/a")
        node.detach("/ns/b")
        for each in ("data", "elsewhere"):
            assert list((tmp_path / each / "lan").glob("10.*")) == []

    def test_gc_spares_the_leases_of_other_programs(self, node, tmp_path):
        node.attach("/ns/a", "lan", container_id="dead")
        node.attach("/ns/b", "lan", container_id="live")
        (tmp_path / "data/lan/10.1.2.6").write_bytes(b"multus-1\r\nnet1")
        node.gc([("live", "eth0")])
        names = {each.name for each in (tmp_path / "data/lan").glob("10.*")}
        assert names == {"10.1.2.3", "10.1.2.6"}


class TestDhcp:
    """``dhcp`` is the executable's business: a lease has to be renewed as long as a pod lives."""

    @pytest.fixture
    def bin_dir(self, site):
        folder = site.folder / "bin"
        folder.mkdir()
        script = folder / "dhcp"
        script.write_text(
            '#!/bin/sh\nread -r config\necho "$CNI_COMMAND $CNI_IFNAME $config" >> '
            f"{site.folder}/called\n"
            '[ "$CNI_COMMAND" = ADD ] || exit 0\n'
            'echo \'{"cniVersion": "1.0.0", "ips": [{"address": "10.5.0.9/24"}]}\'\n'
        )
        script.chmod(0o755)
        return folder

    def test_is_run_from_cni_path(self, site, bin_dir):
        ipam = {"type": "dhcp", "daemonSocketPath": "/run/x", "request": [{"option": "33"}]}
        for verb in ("ADD", "CHECK", "GC", "STATUS", "DEL"):
            call = site.call(verb, ipam=ipam)
            call = Call(
                plugin=ipam_type(call.config),
                verb=verb,
                container_id="c1",
                netns="/ns/a",
                ifname="eth0",
                path=(str(bin_dir),),
                config=call.config,
            )
            done = site.house.executor.run(call)
            assert done.exit_code == 0
            assert (b"10.5.0.9/24" in done.stdout) == (verb == "ADD")
        lines = (site.folder / "called").read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["ADD", "CHECK", "GC", "STATUS", "DEL"]
        assert all('"daemonSocketPath":"/run/x"' in line for line in lines)

    def test_is_not_found_where_it_is_not_installed(self, site):
        assert not site.house.executor.has("dhcp")
        with pytest.raises(PluginNotFoundError, match="dhcp"):
            site.house.executor.run(Call(plugin="dhcp", verb="ADD", path=(str(site.folder),)))
