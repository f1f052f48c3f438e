"""The verbs on a fake kernel: transaction, kill at every step, ownership, CHECK, GC, STATUS."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from podnet.errors import (
    CheckFailedError,
    DelegateError,
    InterfaceExistsError,
    InvalidConfigError,
    InvalidNetnsError,
    KernelError,
    LinkNotFoundError,
    NotAvailableError,
    PodnetError,
    PoolExhaustedError,
    RecordError,
    TryAgainLaterError,
    UnsupportedFieldError,
)
from podnet.model.conf import valid_attachments
from podnet.model.ops import (
    AddAddress,
    AddRoute,
    DeleteLink,
    DeleteRoute,
    LinkName,
    Place,
    RouteKey,
    SetLink,
)
from podnet.model.result import DNS, IP, Interface, Result, Route
from podnet.testing.driver_contract import MASTER, SANDBOX, machine
from podnet.testing.fake_kernel import HOST_PATH
from podnet.testing.plugin_room import Room

ANSWER = Result(
    ips=(IP("10.1.0.5/24", "10.1.0.1"), IP("fd00::5/64", "fd00::1")),
    routes=(Route("0.0.0.0/0"), Route("192.168.0.0/16", "10.1.0.9")),
)
STATIC = {"ipam": {"type": "static"}}
MACVLAN = {"type": "macvlan", "master": MASTER, **STATIC}
PTP = {"type": "ptp", **STATIC}
L2 = {"type": "macvlan", "master": MASTER}
BOTH = pytest.mark.parametrize("config", [MACVLAN, PTP], ids=["macvlan", "ptp"])


class Killed(BaseException):
    """What a test raises where a process would be killed."""


@pytest.fixture
def kernel():
    return machine()


@pytest.fixture
def room(tmp_path, kernel):
    return Room(tmp_path, kernel, ANSWER)


def untouched(room):
    assert room.house._kernel.every_link() == machine().every_link()
    assert room.records() == []
    assert room.ipam.held == set()


@BOTH
def test_add_then_check_then_del(room, config):
    call = room.call("ADD", SANDBOX, config)
    result = room.run(call)
    assert room.records()[0].stage == "done"
    room.again(call, "CHECK", result)
    room.again(call, "DEL", result)
    untouched(room)
    room.again(call, "DEL", result)
    untouched(room)


def test_results(room):
    macvlan = room.run(room.call("ADD", SANDBOX, MACVLAN))
    assert macvlan.interfaces == (
        Interface("eth1", room.records()[0].body["links"][0]["mac"], SANDBOX),
    )
    assert [ip.interface for ip in macvlan.ips] == [0, 0]
    assert macvlan.routes == ANSWER.routes
    ptp = room.run(room.call("ADD", SANDBOX, PTP, ifname="eth2"))
    assert [each.sandbox for each in ptp.interfaces] == ["", SANDBOX]
    assert ptp.interfaces[1].name == "eth2"
    assert [ip.interface for ip in ptp.ips] == [1, 1]


@pytest.mark.parametrize(
    ("config", "ipam", "expected"),
    [
        (MACVLAN, ["a"], []),
        ({**MACVLAN, "dns": {"nameservers": ["b"]}}, ["a"], ["b"]),
        (PTP, ["a"], ["a"]),
        ({**PTP, "dns": {"nameservers": ["b"]}}, ["a"], ["b"]),
        ({**PTP, "dns": {"search": []}}, ["a"], []),
        ({**PTP, "dns": {}}, ["a"], ["a"]),
    ],
)
def test_resolver_settings(tmp_path, kernel, config, ipam, expected):
    answer = evolve(ANSWER, dns=DNS(nameservers=ipam))
    room = Room(tmp_path, kernel, answer)
    result = room.run(room.call("ADD", SANDBOX, config))
    assert list(result.dns.nameservers) == expected


def test_existing_interface_is_refused_before_ipam_and_left_alone(room, kernel):
    kernel.add_link(kernel.sandboxes[SANDBOX], "eth1", kind="macvlan", mac="0a:00:00:00:00:99")
    before = kernel.every_link()
    call = room.call("ADD", SANDBOX, MACVLAN)
    with pytest.raises(InterfaceExistsError):
        room.run(call)
    assert room.ipam.calls == []
    assert kernel.every_link() == before
    assert room.records() == []
    room.again(call, "DEL")
    assert kernel.every_link() == before


# Whose MAC address the interface gets is not podnet's choice.
GIVEN_MAC = pytest.mark.parametrize(
    "extra",
    [
        {"mac": "02:00:00:00:00:77"},
        {"runtimeConfig": {"mac": "02:00:00:00:00:77"}},
        {"args": {"cni": {"mac": "02:00:00:00:00:77"}}},
        {"mode": "passthru"},
    ],
    ids=["mac", "runtime", "args", "passthru"],
)


def add_twin(kernel, extra, **facts):
    """Put somebody else's link in the sandbox that the configuration describes exactly."""
    mac = kernel.node.links[MASTER].mac if "mode" in extra else "02:00:00:00:00:77"
    space = kernel.sandboxes[SANDBOX]
    return kernel.add_link(space, "eth1", kind="macvlan", mac=mac, **facts)


@GIVEN_MAC
def test_an_existing_twin_survives_a_refused_add(room, kernel, extra):
    add_twin(kernel, extra)
    before = kernel.every_link()
    call = room.call("ADD", SANDBOX, {**MACVLAN, **extra})
    with pytest.raises(InterfaceExistsError, match="left alone"):
        room.run(call)
    assert (kernel.every_link(), room.records(), room.ipam.calls) == (before, [], [])


@GIVEN_MAC
def test_a_twin_that_comes_in_between_survives(tmp_path, kernel, extra):
    """Looked for in vain, it is there when the kernel is asked to create."""

    def step(name):
        if name == "create-link":
            add_twin(kernel, extra)

    room = Room(tmp_path, kernel, ANSWER, step=step)
    with pytest.raises(InterfaceExistsError):
        room.run(room.call("ADD", SANDBOX, {**MACVLAN, **extra}))
    assert (SANDBOX, "eth1") in kernel.every_link()
    assert room.records() == []


@pytest.mark.parametrize("extra", [{}, {"mode": "passthru"}])
def test_what_another_podnet_made_in_between_survives(tmp_path, kernel, extra):
    """With a state folder of its own it chooses the same MAC address and index."""

    def step(name):
        if name == "create-link":
            (record,) = room.records()
            (link,) = record.body["links"]
            index = {"index": link["index"]} if link["index"] else {}
            fact = kernel.add_link(space, "eth1", kind="macvlan", mac=link["mac"])
            space.links["eth1"] = evolve(fact, **index)

    space = kernel.sandboxes[SANDBOX]
    room = Room(tmp_path, kernel, ANSWER, step=step)
    with pytest.raises(InterfaceExistsError):
        room.run(room.call("ADD", SANDBOX, {**MACVLAN, **extra}))
    assert (SANDBOX, "eth1") in kernel.every_link()
    assert room.records() == []


@GIVEN_MAC
@pytest.mark.parametrize("verb", ["DEL", "GC", "ADD"])
def test_a_twin_survives_what_follows_a_kill_before_creation(tmp_path, kernel, extra, verb):
    def step(name):
        if name == "create-link":
            raise Killed

    call = Room(tmp_path, kernel, ANSWER).call("ADD", SANDBOX, {**MACVLAN, **extra})
    with pytest.raises(Killed):
        Room(tmp_path, kernel, ANSWER, step=step).run(call)
    add_twin(kernel, extra)
    room = Room(tmp_path, kernel, ANSWER)
    if verb == "ADD":
        with pytest.raises(InterfaceExistsError):
            room.run(call)
    else:
        again = evolve(call, verb=verb)
        config = {**call.config, "cni.dev/valid-attachments": []}
        room.run(evolve(again, config=config, container_id="") if verb == "GC" else again)
    assert (SANDBOX, "eth1") in kernel.every_link()
    assert room.records() == []


@GIVEN_MAC
def test_kill_at_every_step_with_a_given_mac(tmp_path, extra):
    config = {**MACVLAN, **extra}
    for room in kill_points(tmp_path, config, lambda r: r.run(r.call("ADD", SANDBOX, config))):
        room.run(room.call("DEL", SANDBOX, config))
        untouched(room)


def test_an_intent_that_proves_nothing_deletes_nothing(room, kernel, tmp_path):
    call = room.call("ADD", SANDBOX, {**MACVLAN, "mac": "02:00:00:00:00:77"})
    room.run(call)
    (file,) = (tmp_path / "journal" / "interface").iterdir()
    document = json.loads(file.read_text())
    document["stage"] = "intent"
    for key in ("chosen", "index"):
        del document["body"]["links"][0][key]
    file.write_text(json.dumps(document))
    room.again(call, "DEL")
    assert (SANDBOX, "eth1") in kernel.every_link()


def rename(space, old, new):
    space.links[new] = space.links.pop(old)
    space.addresses[new] = space.addresses.pop(old, [])


@pytest.mark.parametrize("extra", [{}, {"mac": "02:00:00:00:00:77"}, {"mode": "passthru"}])
@pytest.mark.parametrize("another", [False, True])
def test_del_finds_its_link_under_another_name(room, kernel, extra, another):
    call = room.call("ADD", SANDBOX, {**MACVLAN, **extra})
    room.run(call)
    space = kernel.sandboxes[SANDBOX]
    rename(space, "eth1", "foo")
    if another:
        kernel.add_link(space, "eth1", kind="macvlan")
    room.again(call, "DEL")
    assert "foo" not in space.links
    assert ("eth1" in space.links) is another
    assert (room.records(), room.ipam.held) == ([], set())


def test_del_finds_a_pair_under_another_name(room, kernel):
    call = room.call("ADD", SANDBOX, PTP)
    room.run(call)
    space = kernel.sandboxes[SANDBOX]
    space.ends["foo"] = space.ends.pop("eth1")
    (outer,) = [name for name in kernel.node.links if name.startswith("veth")]
    kernel.node.ends[outer] = (space, "foo")
    rename(space, "eth1", "foo")
    room.again(call, "DEL")
    untouched(room)


def test_del_tells_of_a_link_that_may_be_its_own(room, kernel, tmp_path):
    """A record without proof, as an earlier podnet may have written it."""
    call = room.call("ADD", SANDBOX, {**MACVLAN, "mac": "02:00:00:00:00:77"})
    room.run(call)
    (file,) = (tmp_path / "journal" / "interface").iterdir()
    document = json.loads(file.read_text())
    document["body"]["links"][0]["index"] = 0
    file.write_text(json.dumps(document))
    space = kernel.sandboxes[SANDBOX]
    rename(space, "eth1", "foo")
    with pytest.raises(RecordError, match="foo"):
        room.again(call, "DEL")
    assert "foo" in space.links
    assert room.ipam.held == {("c1", "eth1")}
    rename(space, "foo", "eth1")
    room.again(call, "DEL")
    untouched(room)


def test_links_that_a_record_does_not_tell_are_known_again(room, tmp_path):
    call = room.call("ADD", SANDBOX, {**MACVLAN, "mode": "passthru"})
    room.run(call)
    (file,) = (tmp_path / "journal" / "interface").iterdir()
    document = json.loads(file.read_text())
    document["body"]["links"] = [{}]
    file.write_text(json.dumps(document))
    with pytest.raises(RecordError, match="does not tell its links"):
        room.again(call, "DEL")
    untouched(room)


@pytest.mark.parametrize("error", [KernelError("no right"), TryAgainLaterError("too many files")])
@pytest.mark.parametrize("config", [MACVLAN, PTP, {"type": "loopback"}])
def test_del_of_a_sandbox_that_cannot_be_opened_keeps_everything(
    room, kernel, monkeypatch, config, error
):
    call = room.call("ADD", SANDBOX, config)
    room.run(call)
    before = kernel.every_link(), room.records(), set(room.ipam.held)

    def refuse(*_args, **_kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "open", refuse)
        with pytest.raises(type(error)):
            room.again(call, "DEL")
    assert (kernel.every_link(), room.records(), room.ipam.held) == before
    room.again(call, "DEL")
    untouched(room)


@BOTH
def test_second_add_is_refused_and_the_first_survives(room, kernel, config):
    call = room.call("ADD", SANDBOX, config)
    result = room.run(call)
    before = kernel.every_link()
    with pytest.raises(InterfaceExistsError):
        room.run(call)
    assert kernel.every_link() == before
    assert room.ipam.held == {("c1", "eth1")}
    room.again(call, "CHECK", result)


@BOTH
def test_add_after_the_sandbox_was_replaced(room, kernel, config):
    room.run(room.call("ADD", SANDBOX, config))
    kernel.end_sandbox(SANDBOX)
    fresh = kernel.add_sandbox(SANDBOX)
    kernel.add_link(fresh, MASTER)
    call = room.call("ADD", SANDBOX, config)
    room.run(call)
    room.again(call, "DEL")
    untouched(room)


@BOTH
def test_a_failure_of_any_op_undoes_everything(tmp_path, config):
    for number in range(100):
        kernel = machine()
        seen = iter(range(1000))
        failure = KernelError(f"op {number} refused")

        def fail(op, seen=seen, number=number, failure=failure):
            return failure if next(seen) == number else None

        kernel.fail = fail
        room = Room(tmp_path, kernel, ANSWER)
        try:
            room.run(room.call("ADD", SANDBOX, config))
        except KernelError as error:
            told = error
        else:
            assert number > 5
            return
        assert told is failure
        untouched(room)
    pytest.fail("ADD has more than a hundred ops")


@BOTH
def test_ipam_failure_undoes_and_keeps_the_code(tmp_path, kernel, config):
    room = Room(tmp_path, kernel, PoolExhaustedError("pool is full"))
    with pytest.raises(DelegateError, match="pool is full") as caught:
        room.run(room.call("ADD", SANDBOX, config))
    assert caught.value.code == PoolExhaustedError.code
    assert kernel.every_link() == machine().every_link()
    # IPAM's DEL failed like its ADD: the record stays for the runtime's DEL.
    assert len(room.records()) == 1
    room.ipam.answer = ANSWER
    room.run(room.call("DEL", SANDBOX, config))
    untouched(room)


@pytest.mark.parametrize(
    ("config", "answer", "error"),
    [
        (MACVLAN, Result(), DelegateError),
        (PTP, Result(), DelegateError),
        (PTP, Result(ips=(IP("10.1.0.5/24"),)), InvalidConfigError),
        (PTP, Result(ips=(IP("10.1.0.5/24", "fd00::1"),)), InvalidConfigError),
        ({**L2, "cniVersion": "0.2.0"}, None, InvalidConfigError),
        ({**MACVLAN, "mtu": 1501}, ANSWER, InvalidConfigError),
        ({**MACVLAN, "master": "none"}, ANSWER, LinkNotFoundError),
        ({**MACVLAN, "mode": "source", "mtu": -1}, ANSWER, InvalidConfigError),
        ({**PTP, "ipMasq": True}, ANSWER, UnsupportedFieldError),
        ({"type": "ptp"}, ANSWER, InvalidConfigError),
    ],
)
def test_refusals_leave_nothing(tmp_path, kernel, config, answer, error):
    room = Room(tmp_path, kernel, answer)
    with pytest.raises(error):
        room.run(room.call("ADD", SANDBOX, config))
    untouched(room)


def kill_points(tmp_path, config, run):
    """Yield rooms in which ``run`` was killed at its first, second … step, until it is not."""
    for number in range(100):
        kernel = machine()
        seen = iter(range(1000))

        def step(_name, seen=seen, number=number):
            if next(seen) == number:
                raise Killed

        state = tmp_path / str(number)
        room = Room(state, kernel, ANSWER, step=step)
        try:
            run(room)
        except Killed:
            after = Room(state, kernel, ANSWER)
            after.ipam.held = room.ipam.held
            yield after
        else:
            assert number >= 3
            return
    pytest.fail("more than a hundred steps")


@BOTH
def test_kill_at_every_step_of_add_then_del(tmp_path, config):
    for room in kill_points(tmp_path, config, lambda r: r.run(r.call("ADD", SANDBOX, config))):
        room.run(room.call("DEL", SANDBOX, config))
        untouched(room)


@BOTH
def test_kill_at_every_step_of_add_then_gc(tmp_path, config):
    for room in kill_points(tmp_path, config, lambda r: r.run(r.call("ADD", SANDBOX, config))):
        gc = {**config, "cni.dev/valid-attachments": []}
        room.run(room.call("GC", "", gc, container_id="", ifname=""))
        untouched(room)


@BOTH
def test_kill_at_every_step_of_add_then_add(tmp_path, config):
    for room in kill_points(tmp_path, config, lambda r: r.run(r.call("ADD", SANDBOX, config))):
        call = room.call("ADD", SANDBOX, config)
        room.run(call)
        room.again(call, "DEL")
        untouched(room)


@BOTH
def test_kill_at_every_step_of_del_then_del(tmp_path, config):
    def run(room):
        quiet = Room(room.house.settings.state_dir, room.house.kernel, ANSWER)
        quiet.run(quiet.call("ADD", SANDBOX, config))
        room.ipam.held = quiet.ipam.held
        room.run(room.call("DEL", SANDBOX, config))

    for room in kill_points(tmp_path, config, run):
        room.run(room.call("DEL", SANDBOX, config))
        untouched(room)


@BOTH
@pytest.mark.parametrize("gone", ["missing", "replaced"])
def test_del_without_its_sandbox_releases_the_address(room, kernel, config, gone):
    call = room.call("ADD", SANDBOX, config)
    room.run(call)
    # The kernel ends a namespace asynchronously: its pair's end on the host may still be there.
    kernel.sandboxes.pop(SANDBOX)
    if gone == "replaced":
        fresh = kernel.add_sandbox(SANDBOX)
        kernel.add_link(fresh, "eth1", kind="macvlan" if config is MACVLAN else "veth")
    room.again(call, "DEL")
    assert room.ipam.held == set()
    assert room.records() == []
    if gone == "replaced":
        assert (SANDBOX, "eth1") in kernel.every_link()
    assert [name for _, name in kernel.every_link() if name.startswith("veth")] == []


def test_del_leaves_a_link_that_took_the_name(room, kernel):
    call = room.call("ADD", SANDBOX, MACVLAN)
    room.run(call)
    space = kernel.sandboxes[SANDBOX]
    with kernel.open(SANDBOX) as sandbox:
        index = space.links["eth1"].index
        link = LinkName(Place.SANDBOX, "eth1")
        sandbox.apply([DeleteLink(link=link, kind="macvlan", index=index)])
    kernel.add_link(space, "eth1", kind="dummy")
    room.again(call, "DEL")
    assert "eth1" in space.links
    assert room.ipam.held == set()
    assert room.records() == []


def test_del_finds_a_link_whose_mac_a_chained_plugin_changed(room, kernel):
    call = room.call("ADD", SANDBOX, MACVLAN)
    room.run(call)
    space = kernel.sandboxes[SANDBOX]
    space.links["eth1"] = evolve(space.links["eth1"], mac="0a:00:00:00:00:42")
    room.again(call, "DEL")
    untouched(room)


def test_del_without_record_touches_no_link_and_still_releases(room, kernel):
    kernel.add_link(kernel.sandboxes[SANDBOX], "eth1", kind="macvlan")
    room.ipam.held.add(("c1", "eth1"))
    room.run(room.call("DEL", SANDBOX, MACVLAN))
    assert "eth1" in kernel.sandboxes[SANDBOX].links
    assert room.ipam.held == set()


def test_an_address_stays_as_long_as_its_link_cannot_be_deleted(room, kernel):
    call = room.call("ADD", SANDBOX, MACVLAN)
    room.run(call)
    kernel.fail = lambda op: KernelError("busy") if isinstance(op, DeleteLink) else None
    with pytest.raises(KernelError, match="busy"):
        room.again(call, "DEL")
    assert room.ipam.held == {("c1", "eth1")}
    assert len(room.records()) == 1
    kernel.fail = None
    room.again(call, "DEL")
    untouched(room)


def test_del_uses_the_recorded_configuration(room):
    room.run(room.call("ADD", SANDBOX, MACVLAN))
    room.run(room.call("DEL", "", {"type": "macvlan", "ipam": {"type": "other"}}))
    assert [c.plugin for c in room.ipam.calls if c.verb == "DEL"] == ["static"]
    untouched(room)


def test_unreadable_record_is_told_once_and_recovered_from(room, kernel, tmp_path):
    call = room.call("ADD", SANDBOX, MACVLAN)
    room.run(call)
    (file,) = (tmp_path / "journal" / "interface").iterdir()
    file.write_text("{")
    with pytest.raises(RecordError):
        room.run(call)
    with pytest.raises(RecordError, match="unreadable"):
        room.again(call, "DEL")
    untouched(room)
    room.again(call, "DEL")


def test_dhcp_releases_before_its_link_goes(tmp_path, kernel):
    seen = []
    room = Room(tmp_path, kernel, ANSWER, step=seen.append)
    call = room.call("ADD", SANDBOX, {**MACVLAN, "ipam": {"type": "dhcp"}})
    room.run(call)
    assert seen.index("create-link") < seen.index("ipam.add")
    room.again(call, "DEL")
    assert seen.index("ipam.del") < seen.index("delete-link")
    untouched(room)


def link_op(name, **change):
    return SetLink(link=LinkName(Place.SANDBOX, name), **change)


CHECKED = {
    "down": (link_op("eth1", up=False), "set eth1 (sandbox) up"),
    "mac": (link_op("eth1", mac="0a:00:00:00:00:42"), "mac"),
    "mode": (link_op("eth1", kind="macvlan", options=(("mode", 1),)), "mode 4"),
    "route": (
        DeleteRoute(key=RouteKey(link=LinkName(Place.SANDBOX, "eth1"), dst="192.168.0.0/16")),
        "add route 192.168.0.0/16",
    ),
}


@pytest.mark.parametrize("name", CHECKED)
def test_check_tells_what_differs(room, kernel, name):
    call = room.call("ADD", SANDBOX, MACVLAN)
    result = room.run(call)
    op, told = CHECKED[name]
    with kernel.open(SANDBOX) as sandbox:
        sandbox.apply([op])
    with pytest.raises(CheckFailedError) as caught:
        room.again(call, "CHECK", result)
    assert told in caught.value.details
    assert len(room.records()) == 1


def test_check_lists_every_difference_at_once(room, kernel):
    call = room.call("ADD", SANDBOX, MACVLAN)
    result = room.run(call)
    space = kernel.sandboxes[SANDBOX]
    space.addresses["eth1"] = []
    space.routes = []
    with pytest.raises(CheckFailedError) as caught:
        room.again(call, "CHECK", result)
    assert "10.1.0.5/24" in caught.value.details
    assert "fd00::5/64" in caught.value.details
    assert "192.168.0.0/16" in caught.value.details


def test_check_compares_a_routes_metrics(tmp_path, kernel):
    route = Route("192.168.0.0/16", "10.1.0.9", mtu=1400, advmss=1300)
    room = Room(tmp_path, kernel, evolve(ANSWER, routes=(route,)))
    call = room.call("ADD", SANDBOX, MACVLAN)
    result = room.run(call)
    room.again(call, "CHECK", result)
    space = kernel.sandboxes[SANDBOX]
    space.routes = [evolve(each, mtu=0) for each in space.routes]
    with pytest.raises(CheckFailedError, match="add route 192"):
        room.again(call, "CHECK", result)


def test_check_allows_what_chained_plugins_do(room, kernel):
    call = room.call("ADD", SANDBOX, MACVLAN)
    result = room.run(call)
    space = kernel.sandboxes[SANDBOX]
    # sbr and vrf: routes in another table. tuning: MTU, and the MAC address with its result.
    space.routes = [evolve(route, table=100) for route in space.routes]
    space.links["eth1"] = evolve(space.links["eth1"], mtu=1280, mac="0a:00:00:00:00:42")
    (ours,) = result.interfaces
    room.again(call, "CHECK", evolve(result, interfaces=(evolve(ours, mac="0A:00:00:00:00:42"),)))


def test_check_allows_another_interface_to_have_the_default_route(room, kernel):
    call = room.call("ADD", SANDBOX, MACVLAN)
    result = room.run(call)
    eth1, other = (LinkName(Place.SANDBOX, name) for name in ("eth1", MASTER))
    with kernel.open(SANDBOX) as sandbox:
        sandbox.apply(
            [
                DeleteRoute(key=RouteKey(link=eth1, dst="0.0.0.0/0")),
                AddRoute(key=RouteKey(link=other, dst="0.0.0.0/0", gateway="172.16.0.9")),
            ]
        )
    room.again(call, "CHECK", result)


@pytest.mark.parametrize("previous", [None, Result(), Result(interfaces=(Interface("eth1"),))])
def test_check_needs_a_previous_result_with_the_interface(room, previous):
    call = room.call("CHECK", SANDBOX, MACVLAN)
    with pytest.raises((InvalidConfigError, CheckFailedError)):
        room.again(call, "CHECK", previous)


def test_check_passes_ipams_error_on(room):
    call = room.call("ADD", SANDBOX, MACVLAN)
    result = room.run(call)
    room.ipam.answer = PoolExhaustedError("lease is gone")
    with pytest.raises(DelegateError, match="lease is gone"):
        room.again(call, "CHECK", result)


def test_gc_takes_what_is_not_valid_and_nothing_of_others(room, kernel):
    room.run(room.call("ADD", SANDBOX, MACVLAN, ifname="eth1"))
    room.run(room.call("ADD", SANDBOX, MACVLAN, ifname="eth2"))
    room.run(room.call("ADD", SANDBOX, {**MACVLAN, "name": "other"}, ifname="eth3"))
    valid = [{"containerID": "c1", "ifname": "eth2"}]
    gc = room.call("GC", "", {**MACVLAN, "cni.dev/valid-attachments": valid}, container_id="")
    room.run(gc)
    assert sorted(kernel.sandboxes[SANDBOX].links) == sorted(["lo", MASTER, "eth2", "eth3"])
    assert sorted(record.ifname for record in room.records()) == ["eth2", "eth3"]
    assert room.ipam.calls[-1].verb == "GC"


def test_gc_without_the_runtimes_list_ends_nothing(room, kernel):
    room.run(room.call("ADD", SANDBOX, MACVLAN))
    room.run(room.call("GC", "", MACVLAN, container_id="", ifname=""))
    assert "eth1" in kernel.sandboxes[SANDBOX].links


def swept_for(room):
    """Return the attachments whose leases the last GC of IPAM had to keep."""
    assert room.ipam.calls[-1].verb == "GC"
    return sorted(valid_attachments(room.ipam.calls[-1].config))


def gc_call(room, *valid, **config):
    pairs = [{"containerID": each, "ifname": "eth1"} for each in valid]
    document = {**MACVLAN, **config, "cni.dev/valid-attachments": pairs}
    return room.call("GC", "", document, container_id="", ifname="")


def test_gc_of_a_runtime_spares_the_parts_of_sandboxes(room, kernel):
    """The runtime knows the sandbox, and its own interfaces of the same network."""
    with room.house.within("podnet", "c1", "eth0"):
        room.run(room.call("ADD", SANDBOX, MACVLAN))
    room.run(room.call("ADD", SANDBOX, MACVLAN, container_id="c2", ifname="eth2"))
    room.run(gc_call(room, "c3"))
    assert [record.container_id for record in room.records()] == ["c1"]
    assert sorted(kernel.sandboxes[SANDBOX].links) == ["eth1", "lo", MASTER]
    assert swept_for(room) == [("c1", "eth1"), ("c3", "eth1")]


def test_gc_of_the_sandboxes_takes_their_parts(room):
    with room.house.within("podnet", "c1", "eth0"):
        room.run(room.call("ADD", SANDBOX, MACVLAN))
    gone = room.call("GC", "", {"type": "podnet"}, container_id="", ifname="")
    with room.house.exclusive("sandbox", gone):
        room.run(gc_call(room))
    assert (room.records(), swept_for(room)) == ([], [])


def test_gc_keeps_the_addresses_of_what_it_could_not_undo_or_read(room, kernel, tmp_path):
    for container in ("busy", "lost"):
        room.run(room.call("ADD", SANDBOX, MACVLAN, container_id=container, ifname=container))
    (file,) = (tmp_path / "journal" / "interface").glob("lost*")
    file.write_text("{")
    kernel.fail = lambda _op: KernelError("busy")
    with pytest.raises(PodnetError):
        room.run(gc_call(room))
    assert swept_for(room) == [("busy", "busy"), ("lost", "lost")]


def test_gc_goes_on_after_an_error(room, kernel):
    for ifname in ("eth1", "eth2"):
        room.run(room.call("ADD", SANDBOX, MACVLAN, ifname=ifname))
    busy = iter([KernelError("busy")])
    kernel.fail = lambda _op: next(busy, None)
    gc = {**MACVLAN, "cni.dev/valid-attachments": []}
    with pytest.raises(KernelError, match="busy"):
        room.run(room.call("GC", "", gc, container_id="", ifname=""))
    assert len(room.records()) == 1


def test_status(room):
    status = {"container_id": "", "ifname": ""}
    room.run(room.call("STATUS", "", MACVLAN, **status))
    assert room.ipam.calls[-1].verb == "STATUS"
    room.run(room.call("STATUS", "", {"type": "macvlan"}, **status))
    room.run(room.call("STATUS", "", {**MACVLAN, "master": "x", "linkInContainer": True}, **status))
    with pytest.raises(NotAvailableError, match="none"):
        room.run(room.call("STATUS", "", {**MACVLAN, "master": "none"}, **status))
    room.ipam.answer = NotAvailableError("no leases")
    with pytest.raises(DelegateError) as caught:
        room.run(room.call("STATUS", "", PTP, **status))
    assert caught.value.code == 50


@pytest.mark.parametrize("path", [HOST_PATH, "/run/netns/none"])
@pytest.mark.parametrize("config", [MACVLAN, PTP, {"type": "loopback"}])
def test_add_without_a_sandbox(room, path, config):
    with pytest.raises(InvalidNetnsError) as caught:
        room.run(room.call("ADD", path, config))
    assert caught.value.code == 8
    untouched(room)


def test_loopback(room, kernel):
    call = room.call("ADD", SANDBOX, {"type": "loopback"}, ifname="lo")
    space = kernel.sandboxes[SANDBOX]
    space.addresses["lo"] = ["127.0.0.1/8", "::1/128"]
    with pytest.raises(CheckFailedError):
        room.again(call, "CHECK")
    result = room.run(call)
    assert result.interfaces == (Interface("lo", "00:00:00:00:00:00", SANDBOX),)
    assert [(ip.address, ip.interface) for ip in result.ips] == [("127.0.0.1/8", 0), ("::1/128", 0)]
    assert space.links["lo"].up
    room.again(call, "CHECK")
    room.again(call, "DEL")
    assert not space.links["lo"].up
    room.again(evolve(call, netns="/run/netns/none"), "DEL")


def test_loopback_passes_a_previous_result_through(room):
    previous = Result(interfaces=(Interface("eth0", "", SANDBOX),), ips=(IP("10.0.0.1/8"),))
    call = room.call("ADD", SANDBOX, {"type": "loopback"})
    assert room.again(call, "ADD", previous) == previous


def test_loopback_refuses_other_addresses(room, kernel):
    kernel.sandboxes[SANDBOX].addresses["lo"] = ["127.0.0.1/8", "10.0.0.1/32"]
    with pytest.raises(PodnetError, match=r"non-loopback address 10\.0\.0\.1/32"):
        room.run(room.call("ADD", SANDBOX, {"type": "loopback"}))


def test_undo_that_fails_is_told_beside_the_first_error(room, kernel):
    def fail(op):
        if isinstance(op, AddAddress):
            return KernelError("first")
        return KernelError("second") if isinstance(op, DeleteLink) else None

    kernel.fail = fail
    with pytest.raises(KernelError) as caught:
        room.run(room.call("ADD", SANDBOX, MACVLAN))
    assert caught.value.msg == "first"
    assert "undoing failed: second" in caught.value.details
    assert room.ipam.held == {("c1", "eth1")}
    kernel.fail = None
    room.run(room.call("DEL", SANDBOX, MACVLAN))
    untouched(room)
