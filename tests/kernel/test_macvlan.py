from __future__ import annotations

import os

import pytest
from attrs import evolve

from podnet.errors import (
    CheckFailedError,
    InterfaceExistsError,
    InvalidConfigError,
    InvalidNetnsError,
    KernelError,
    LinkNotFoundError,
    NetnsMissingError,
    NotAvailableError,
    NotNetnsError,
)
from podnet.kernel import apply as applying
from podnet.kernel.netlink import Answer
from podnet.kernel.sandbox import Kernel
from podnet.model.ops import AddAddress, AddRoute, CreateLink, LinkName, Place, RouteKey, SetLink
from podnet.model.result import IP, Result, Route
from podnet.testing.namespaces import ip
from podnet.testing.plugin_room import Room

pytestmark = pytest.mark.kernel

ANSWER = Result(
    ips=(IP("10.1.0.5/24", "10.1.0.1"), IP("fd00::5/64", "fd00::1")),
    routes=(
        Route("0.0.0.0/0"),
        Route("::/0"),
        Route("192.168.0.0/16", "10.1.0.9", mtu=1300, advmss=1200, priority=7, table=5000),
    ),
)
STATIC = {"ipam": {"type": "static"}}
L2 = {"type": "macvlan", "master": "up0"}
L3 = {**L2, **STATIC}


@pytest.fixture
def room(tmp_path, kernel):
    return Room(tmp_path, kernel, ANSWER)


def kind_of(link):
    return link["linkinfo"]["info_kind"], link["linkinfo"]["info_data"]["mode"]


def test_layer2(room, pod):
    call = room.call("ADD", pod.path, L2)
    result = room.run(call)
    link = pod.link("eth1")
    assert kind_of(link) == ("macvlan", "bridge")
    assert "UP" in link["flags"]
    assert (result.interfaces[0].mac, result.interfaces[0].sandbox) == (link["address"], pod.path)
    assert pod.addresses("eth1") == []
    room.again(call, "CHECK", result)
    room.again(call, "DEL", result)
    assert pod.links() == ["lo"]
    assert [each["ifname"] for each in ip("link", "show")] == ["lo", "far0", "up0"]


def test_layer3(room, pod):
    call = room.call("ADD", pod.path, L3)
    result = room.run(call)
    assert pod.addresses("eth1") == ["10.1.0.5/24", "fd00::5/64"]
    assert pod.ip("-4", "route", "show", "default")[0]["gateway"] == "10.1.0.1"
    assert pod.ip("-6", "route", "show", "default")[0]["gateway"] == "fd00::1"
    (route,) = pod.ip("route", "show", "table", "5000")
    assert (route["gateway"], route["metric"]) == ("10.1.0.9", 7)
    assert {"mtu": 1300, "advmss": 1200} in route["metrics"]
    for key, value in {
        "net/ipv4/conf/eth1/arp_notify": "1",
        "net/ipv6/conf/eth1/ndisc_notify": "1",
        "net/ipv6/conf/eth1/keep_addr_on_down": "1",
        "net/ipv6/conf/eth1/disable_ipv6": "0",
        "net/ipv6/conf/eth1/accept_dad": "0",
    }.items():
        assert pod.sysctl(key) == value
    room.again(call, "CHECK", result)
    room.again(call, "DEL", result)
    assert pod.links() == ["lo"]
    room.again(call, "DEL", result)


def test_detection_is_waited_for_where_it_is_asked_for(room, pod):
    room.run(room.call("ADD", pod.path, {**L3, "enabledad": True}))
    shown = pod.ip("-6", "address", "show", "dev", "eth1")[0]["addr_info"]
    assert not any("tentative" in each for each in shown if each["local"] == "fd00::5")
    assert pod.sysctl("net/ipv6/conf/eth1/accept_dad") == "1"


def test_a_duplicate_ends_add_and_leaves_nothing(room, pods):
    config = {**L3, "enabledad": True}
    first, second = pods(), pods()
    room.run(room.call("ADD", first.path, config, container_id="first"))
    with pytest.raises(KernelError, match="another host uses fd00::5/64"):
        room.run(room.call("ADD", second.path, config, container_id="second"))
    assert second.links() == ["lo"]
    assert [record.container_id for record in room.records()] == ["first"]


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
@pytest.mark.parametrize("inside", [False, True])
def test_modes_in_and_outside_of_the_container(room, pod, mode, inside):
    if inside:
        pod.ip("link", "add", "up0", "type", "veth", "peer", "name", "far0")
        pod.ip("link", "set", "up0", "up")
    before = pod.links()
    call = room.call("ADD", pod.path, {**L3, "mode": mode, "linkInContainer": inside})
    result = room.run(call)
    link = pod.link("eth1")
    assert kind_of(link) == ("macvlan", mode)
    assert result.interfaces[0].mac == link["address"]
    assert link.get("link") == ("up0" if inside else None)
    room.again(call, "CHECK", result)
    room.again(call, "DEL")
    assert pod.links() == before


def test_passthru_has_the_masters_address_and_hears_everything(room, pod):
    room.run(room.call("ADD", pod.path, {**L2, "mode": "passthru"}))
    (master,) = ip("link", "show", "dev", "up0")
    assert pod.link("eth1")["address"] == master["address"]
    assert master["promiscuity"] == 1


def test_keys(room, pod):
    keys = {"mtu": 1400, "bcqueuelen": 50, "mac": "0A:00:00:00:00:07"}
    call = room.call("ADD", pod.path, {**L3, **keys})
    result = room.run(call)
    link = pod.link("eth1")
    assert (link["mtu"], link["address"]) == (1400, "0a:00:00:00:00:07")
    assert link["linkinfo"]["info_data"]["bcqueuelen"] == 50
    room.again(call, "CHECK", result)


@pytest.mark.parametrize(
    ("args", "config", "mac"),
    [
        ("MAC=0a:00:00:00:00:02", {"mac": "0a:00:00:00:00:01"}, "0a:00:00:00:00:02"),
        (
            "MAC=0a:00:00:00:00:02;IgnoreUnknown=1;K8S_POD_NAME=x",
            {"runtimeConfig": {"mac": "0a:00:00:00:00:03"}},
            "0a:00:00:00:00:03",
        ),
        (
            "",
            {
                "runtimeConfig": {"mac": "0a:00:00:00:00:03"},
                "args": {"cni": {"mac": "0a:00:00:00:00:04"}},
            },
            "0a:00:00:00:00:04",
        ),
    ],
)
def test_mac_sources(room, pod, args, config, mac):
    result = room.run(room.call("ADD", pod.path, {**L2, **config}, args=args))
    assert pod.link("eth1")["address"] == result.interfaces[0].mac == mac


def test_chosen_mac_is_the_same_again_and_differs_between_nodes(room, pods, tmp_path, kernel):
    one, two = pods(), pods()
    call = room.call("ADD", one.path, L2)
    first = room.run(call).interfaces[0].mac
    room.again(call, "DEL")
    assert room.run(call).interfaces[0].mac == first
    other = Room(tmp_path / "other", kernel)
    other.house.settings = evolve(other.house.settings, node="node-2")
    assert other.run(other.call("ADD", two.path, L2)).interfaces[0].mac != first


def test_default_master(room, pod):
    call = room.call("ADD", pod.path, {"type": "macvlan", **STATIC})
    result = room.run(call)
    assert kind_of(pod.link("eth1"))[0] == "macvlan"
    # CHECK and DEL mean the master of back then.
    ip("route", "del", "default")
    room.again(call, "CHECK", result)
    room.again(call, "DEL", result)
    with pytest.raises(LinkNotFoundError, match="no default route interface found"):
        room.run(call)
    with pytest.raises(NotAvailableError):
        room.run(room.call("STATUS", "", {"type": "macvlan"}, container_id="", ifname=""))


def test_existing_interface_is_refused_and_left_alone(room, pod):
    pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "peer0")
    before = pod.ip("link", "show")
    call = room.call("ADD", pod.path, L3)
    with pytest.raises(InterfaceExistsError):
        room.run(call)
    room.again(call, "DEL")
    assert pod.ip("link", "show") == before
    assert room.records() == []


def test_a_link_of_the_host_may_have_the_same_name(room, pod):
    ip("link", "add", "eth1", "type", "veth", "peer", "name", "peer0")
    room.run(room.call("ADD", pod.path, L3))
    assert kind_of(pod.link("eth1"))[0] == "macvlan"


def test_kernels_that_look_the_name_up_on_the_host(room, pod, monkeypatch):
    """Before 6.15 a link of the host stood in the way of one that goes elsewhere."""
    netlink = room.house.kernel.host_netlink
    real, refused = netlink.request, []

    def old_kernel(messages):
        if messages[0].type == 16 and int.from_bytes(messages[0].body[4:8], "little") == 0:
            refused.append(messages[0])
            return [Answer(17)]
        return real(messages)

    monkeypatch.setattr(netlink, "request", old_kernel)
    call = room.call("ADD", pod.path, L3)
    result = room.run(call)
    assert len(refused) == 1
    assert pod.link("eth1")["ifindex"] >= 1 << 20
    room.again(call, "CHECK", result)
    room.again(call, "DEL")
    assert pod.links() == ["lo"]


def test_masters_that_will_not_do(room, pods):
    def refused(config, error, match, container="c1"):
        pod = pods()
        with pytest.raises(error, match=match) as caught:
            room.run(room.call("ADD", pod.path, config, container_id=container))
        assert pod.links() == ["lo"]
        assert [record for record in room.records() if record.container_id == container] == []
        assert (container, "eth1") not in room.ipam.held
        return caught.value

    refused({**L3, "master": "none"}, LinkNotFoundError, "master none")
    error = refused({**L3, "master": "lo"}, KernelError, "create macvlan")
    assert "EINVAL" in error.msg
    error = refused({**L3, "mtu": 1501}, InvalidConfigError, "invalid network configuration")
    assert error.mistakes == (("mtu", "invalid MTU 1501, must be [0, master MTU(1500)]"),)
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "port0", "type", "veth", "peer", "name", "port1")
    ip("link", "set", "port0", "master", "br0")
    error = refused({**L3, "master": "port0"}, KernelError, "EBUSY")
    assert "bridge or bond port" in error.details
    (uplink,) = ip("link", "show", "dev", "up0")
    error = refused({**L3, "mac": uplink["address"]}, KernelError, "EADDRINUSE")
    assert "MAC address" in error.details
    room.run(room.call("ADD", pods().path, {**L3, "mode": "passthru"}, container_id="through"))
    refused({**L3, "mode": "passthru"}, KernelError, "create macvlan")


def test_check_tells_what_differs(room, pod):
    call = room.call("ADD", pod.path, L3)
    result = room.run(call)
    pod.ip("address", "del", "10.1.0.5/24", "dev", "eth1")
    pod.ip("link", "set", "eth1", "address", "0a:00:00:00:00:01")
    with pytest.raises(CheckFailedError) as caught:
        room.again(call, "CHECK", result)
    for part in (
        f"set eth1 (sandbox) mac {result.interfaces[0].mac}",
        "add address 10.1.0.5/24 to eth1 (sandbox)",
        "add route 192.168.0.0/16 via 10.1.0.9 metric 7 table 5000",
    ):
        assert part in caught.value.details
    pod.ip("link", "del", "eth1")
    with pytest.raises(CheckFailedError, match="create macvlan eth1"):
        room.again(call, "CHECK", result)


def test_check_after_chained_plugins(room, pod):
    call = room.call("ADD", pod.path, L3)
    result = room.run(call)
    # As sbr does: routes in a table of their own.
    pod.ip("route", "add", "default", "via", "10.1.0.1", "dev", "eth1", "table", "100")
    pod.ip("route", "del", "default", "table", "main")
    # As tuning does.
    pod.ip("link", "set", "eth1", "mtu", "1400")
    room.again(call, "CHECK", result)


def test_sandbox_gone_before_del(room, pod):
    call = room.call("ADD", pod.path, L3)
    room.run(call)
    pod.end()
    room.again(call, "DEL")
    assert room.records() == []
    assert room.ipam.held == set()


def test_sandbox_replaced_before_del(room, pods):
    one = pods()
    call = room.call("ADD", one.path, L3)
    room.run(call)
    # Another namespace at the same path, as after a restart of the pod.
    two = pods()
    two.ip("link", "add", "eth1", "link", "lo", "type", "bridge")
    os.dup2(two.fd, one.fd)
    room.again(call, "DEL")
    assert two.links() == ["eth1", "lo"]
    assert room.records() == []


def test_master_gone_before_del(room, pod):
    call = room.call("ADD", pod.path, L3)
    result = room.run(call)
    ip("link", "del", "up0")
    with pytest.raises(CheckFailedError, match="does not exist"):
        room.again(call, "CHECK", result)
    room.again(call, "DEL")
    assert room.records() == []
    assert pod.links() == ["lo"]


def test_paths_that_are_no_sandbox(room, pod, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    os.mkfifo(tmp_path / "fifo")
    for path, error in {
        str(plain): NotNetnsError,
        str(tmp_path): NotNetnsError,
        str(tmp_path / "fifo"): NotNetnsError,
        "/proc/self/status": NotNetnsError,
        "/proc/self/ns/mnt": NotNetnsError,
        "/proc/thread-self/ns/net": NotNetnsError,
        "/dev/null": NotNetnsError,
        "": NotNetnsError,
        "/run/netns\0x": NotNetnsError,
        str(tmp_path / "none"): NetnsMissingError,
        str(plain / "none"): NetnsMissingError,
        f"/proc/{os.getpid()}/fd/99999": NetnsMissingError,
    }.items():
        with pytest.raises(InvalidNetnsError) as caught:
            room.run(room.call("ADD", path, L3))
        assert type(caught.value) is error, path
        assert caught.value.code == 8
    assert room.records() == []
    assert room.ipam.calls == []


def test_kill_between_any_two_ops_then_del(tmp_path, kernel, pods):
    class Killed(BaseException):
        pass

    for number in range(100):
        pod = pods()
        seen = iter(range(1000))

        def step(_name, seen=seen, number=number):
            if next(seen) == number:
                raise Killed

        room = Room(tmp_path, kernel, ANSWER, step=step)
        call = room.call("ADD", pod.path, L3)
        try:
            room.run(call)
        except Killed:
            after = Room(tmp_path, kernel, ANSWER)
            after.again(call, "DEL")
            assert pod.links() == ["lo"]
            assert after.records() == []
        else:
            assert number > 10
            return


def test_batches_end_where_an_index_is_not_known_yet():
    link, other = LinkName(Place.SANDBOX, "eth1"), LinkName(Place.SANDBOX, "eth2")
    parent = LinkName(Place.HOST, "up0")
    create = CreateLink(link=link, kind="macvlan", parent=parent)
    up, address = SetLink(link=other, up=True), AddAddress(link=other, address="10.0.0.1/8")
    inner = CreateLink(link=link, kind="veth")
    assert list(applying.groups([up, address])) == [(up, address)]
    assert list(applying.groups([create, up, address])) == [(create,), (up, address)]
    later = SetLink(link=link, up=True)
    assert list(applying.groups([inner, up, later])) == [(inner, up), (later,)]


def test_the_first_refused_op_of_a_batch_is_named(kernel, pod):
    pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    link = LinkName(Place.SANDBOX, "eth1")
    bad = AddRoute(key=RouteKey(link=link, dst="10.0.0.0/8", gateway="172.31.0.1"))
    ops = [SetLink(link=link, up=True), bad, AddAddress(link=link, address="10.9.0.1/24")]
    with kernel.open(pod.path) as sandbox:
        before = kernel.sends
        with pytest.raises(KernelError, match=r"cannot add route 10\.0\.0\.0/8 via") as caught:
            sandbox.apply(ops)
        assert kernel.sends == before + 1
    # The kernel's own words (NETLINK_EXT_ACK).
    assert "Nexthop has invalid gateway" in caught.value.details


def test_batches_above_what_answers_fit_into_the_buffer(kernel, pod):
    pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    link = LinkName(Place.SANDBOX, "eth1")
    ops = [AddAddress(link=link, address=f"10.{n // 250}.{n % 250}.1/24") for n in range(1000)]
    with kernel.open(pod.path) as sandbox:
        before = kernel.sends
        sandbox.apply(ops)
        assert kernel.sends - before == 16
    assert len(pod.addresses("eth1")) == 1000


def test_the_thread_is_back_where_it_was(kernel, pod, node):
    def here():
        return os.readlink("/proc/thread-self/ns/net")

    before = here()
    with kernel.open(pod.path) as sandbox:
        with sandbox.entered(Place.SANDBOX):
            assert here() != before
        assert here() == before
        with pytest.raises(ZeroDivisionError), sandbox.entered(Place.SANDBOX):
            1 / 0  # noqa: B018
    assert here() == before


def test_nothing_stays_open(node, pod):
    def descriptors():
        return sorted(os.listdir("/proc/self/fd"))

    before = descriptors()
    with Kernel() as opened, opened.open(pod.path) as sandbox:
        sandbox.netlink(Place.SANDBOX)
    for path in ("/proc/self/ns/mnt", "/dev/null", "/none"):
        with Kernel() as opened, pytest.raises(InvalidNetnsError), opened.open(path):
            pass
    assert descriptors() == before
