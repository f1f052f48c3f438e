"""Whose link it is: what podnet deletes, and what it leaves to others."""

from __future__ import annotations

import errno
import os

import pytest
from attrs import evolve

from podnet.errors import InterfaceExistsError, KernelError, PodnetError, TryAgainLaterError
from podnet.kernel import libc, netns
from podnet.kernel import sandbox as sandboxes
from podnet.model.conf import with_valid_attachments
from podnet.model.result import IP, Result
from podnet.testing.namespaces import ip
from podnet.testing.plugin_room import Room

pytestmark = pytest.mark.kernel

ANSWER = Result(ips=(IP("10.1.0.5/24", "10.1.0.1"),))
MAC = "02:00:00:00:00:77"
MACVLAN = {"type": "macvlan", "master": "up0", "ipam": {"type": "static"}}
WAYS = pytest.mark.parametrize(
    "extra", [{}, {"mac": MAC}, {"mode": "passthru"}], ids=["own", "mac", "passthru"]
)
GIVEN_MAC = pytest.mark.parametrize(
    "extra",
    [{"mac": MAC}, {"runtimeConfig": {"mac": MAC}}, {"mode": "passthru"}],
    ids=["mac", "runtime", "passthru"],
)


class Killed(BaseException):
    """What a test raises where a process would be killed."""


@pytest.fixture
def room(tmp_path, kernel):
    return Room(tmp_path, kernel, ANSWER)


def add_twin(pod, extra):
    """Make the link that the configuration describes, as any other program may."""
    mac = [] if "mode" in extra else ["address", MAC]
    mode = extra.get("mode", "bridge")
    ip("link", "add", "twin0", "link", "up0", *mac, "type", "macvlan", "mode", mode)
    ip("link", "set", "twin0", "netns", pod.path)
    pod.ip("link", "set", "twin0", "name", "eth1")


@GIVEN_MAC
def test_a_refused_add_leaves_a_twin_alone(room, pod, extra):
    add_twin(pod, extra)
    before = pod.link("eth1")
    call = room.call("ADD", pod.path, {**MACVLAN, **extra})
    with pytest.raises(InterfaceExistsError, match="left alone"):
        room.run(call)
    room.again(call, "DEL")
    assert pod.link("eth1") == before
    assert room.records() == []


def test_a_fixed_mac_that_another_container_has(room, pod):
    call = room.call("ADD", pod.path, {**MACVLAN, "mac": MAC})
    room.run(call)
    with pytest.raises(InterfaceExistsError):
        room.run(evolve(call, container_id="c2"))
    assert pod.link("eth1")["address"] == MAC
    assert [record.container_id for record in room.records()] == ["c1"]


@GIVEN_MAC
@pytest.mark.parametrize("killed", [False, True])
def test_a_twin_that_comes_in_between_is_left_alone(tmp_path, kernel, pod, extra, killed):
    def step(name):
        if name == "create-link":
            add_twin(pod, extra)
            if killed:
                raise Killed

    room = Room(tmp_path, kernel, ANSWER, step=step)
    call = room.call("ADD", pod.path, {**MACVLAN, **extra})
    # A second link beside one in passthru mode is refused whatever its name is.
    with pytest.raises(Killed if killed else PodnetError):
        room.run(call)
    room.again(call, "DEL")
    assert pod.links() == ["eth1", "lo"]
    assert room.records() == []


@GIVEN_MAC
def test_a_link_has_the_index_that_its_record_tells(room, pod, extra):
    call = room.call("ADD", pod.path, {**MACVLAN, **extra})
    result = room.run(call)
    (record,) = room.records()
    assert pod.link("eth1")["ifindex"] == record.body["links"][0]["index"] > 1 << 20
    room.again(call, "CHECK", result)


@GIVEN_MAC
def test_kill_anywhere_then_del(tmp_path, kernel, pods, extra):
    for number in range(100):
        pod = pods()
        seen = iter(range(1000))

        def step(_name, seen=seen, number=number):
            if next(seen) == number:
                raise Killed

        room = Room(tmp_path, kernel, ANSWER, step=step)
        call = room.call("ADD", pod.path, {**MACVLAN, **extra})
        try:
            room.run(call)
        except Killed:
            after = Room(tmp_path, kernel, ANSWER)
            after.again(call, "DEL")
            assert pod.links() == ["lo"]
            assert after.records() == []
            pod.end()
        else:
            assert number > 5
            return


@WAYS
@pytest.mark.parametrize("tuned", [False, True])
def test_a_renamed_link_is_deleted_under_its_new_name(room, pod, extra, tuned):
    call = room.call("ADD", pod.path, {**MACVLAN, **extra})
    room.run(call)
    pod.ip("link", "set", "eth1", "down")
    pod.ip("link", "set", "eth1", "name", "foo")
    if tuned:
        pod.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    room.again(call, "DEL")
    assert pod.links() == (["eth1", "eth2", "lo"] if tuned else ["lo"])
    assert (room.records(), room.ipam.held) == ([], set())


@pytest.mark.parametrize(
    ("number", "error"), [(errno.EMFILE, TryAgainLaterError), (errno.EACCES, KernelError)]
)
@pytest.mark.parametrize("kind", ["macvlan", "ptp"])
def test_a_sandbox_that_cannot_be_opened_is_not_gone(room, pod, monkeypatch, kind, number, error):
    call = room.call("ADD", pod.path, {**MACVLAN, "type": kind})
    room.run(call)
    real = os.open

    def refuse(path, *arguments, **options):
        if path == pod.path:
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(netns.os, "open", refuse)
        with pytest.raises(error, match="cannot open"):
            room.again(call, "DEL")
        gc = with_valid_attachments(call.config, [])
        with pytest.raises(error, match="cannot open"):
            room.run(evolve(call, verb="GC", config=gc))
    assert (pod.links(), len(room.records())) == (["eth1", "lo"], 1)
    assert room.ipam.held == {("c1", "eth1")}
    room.again(call, "DEL")
    assert (pod.links(), room.records(), room.ipam.held) == (["lo"], [], set())


@pytest.mark.parametrize("config", [MACVLAN, {"type": "loopback"}], ids=["macvlan", "loopback"])
def test_a_sandbox_that_cannot_be_entered_is_not_gone(room, pod, monkeypatch, config):
    call = room.call("ADD", pod.path, config)
    room.run(call)

    def refuse(_fd):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(libc, "setns", refuse)
        with pytest.raises(KernelError, match="cannot enter"):
            room.again(call, "DEL")
    assert len(room.records()) == (config is MACVLAN)
    room.again(call, "DEL")
    assert room.records() == []


def test_the_same_namespace_numbers_after_a_reboot_are_another_sandbox(room, pod, monkeypatch):
    call = room.call("ADD", pod.path, MACVLAN)
    room.run(call)
    monkeypatch.setattr(sandboxes.netns, "boot", lambda: "another")
    room.again(call, "DEL")
    assert pod.links() == ["eth1", "lo"]
    assert (room.records(), room.ipam.held) == ([], set())
