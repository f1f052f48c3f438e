"""Attach, check, detach and collect over a kernel of dictionaries."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_parts import Lab, macvlan, nad

import podnet
from podnet import Pod, disk
from podnet.engine.journal import Record
from podnet.engine.node import container_id_of
from podnet.errors import (
    CheckFailedError,
    Fault,
    InterfaceExistsError,
    InvalidConfigError,
    InvalidEnvironmentError,
    IOFailureError,
    KernelError,
    NetworkNotFoundError,
    PodnetError,
    PoolExhaustedError,
    RecordError,
    UnknownContainerError,
)
from podnet.model.attachment import Call, Done
from podnet.model.ops import word

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web",
        "annotations": {"k8s.v1.cni.cncf.io/networks": "storage@eth1, backup"},
    },
}
PTP = {
    "cniVersion": "1.0.0",
    "type": "ptp",
    "ipam": {"type": "whereabouts", "range": "10.9.0.0/24", "gateway": "10.9.0.1"},
}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(
        tmp_path,
        POD,
        nad("storage", macvlan()),
        nad("backup", macvlan(ipam={"type": "whereabouts", "range": "fd00::/64"})),
        nad("cluster", PTP),
        nad("bad", macvlan(master="absent")),
    )
    with made.node:
        yield made


def test_a_pod_of_the_manifests_and_back(lab: Lab) -> None:
    attached = lab.node.attach("/ns/a", pod=Pod("default", "web"), default_network="cluster")
    assert [(n.name, n.interface, n.ips, n.default) for n in attached.networks] == [
        ("cluster", "eth0", ("10.9.0.2/24",), True),
        ("default/storage", "eth1", ("192.168.60.20/24",), False),
        ("default/backup", "net2", ("fd00::1/64",), False),
    ]
    assert lab.links("/ns/a") == {"eth0", "eth1", "net2"}
    status = json.loads(attached.network_status)
    assert [entry["interface"] for entry in status] == ["eth0", "eth1", "net2"]
    assert lab.node.status() == (attached,)
    assert lab.node.check("/ns/a") == (attached,)
    assert lab.node.detach(pod=Pod("default", "web")) == (attached,)
    lab.assert_nothing_is_left()


def test_without_default_network_names_count_from_net1(lab: Lab) -> None:
    attached = lab.node.attach("/ns/a", "storage, backup")
    assert [n.interface for n in attached.networks] == ["net1", "net2"]


def test_a_second_attach_is_refused_and_the_first_survives(lab: Lab) -> None:
    first = lab.node.attach("/ns/a", "storage")
    with pytest.raises(InterfaceExistsError, match="attached already"):
        lab.node.attach("/ns/a", "storage")
    assert lab.node.check("/ns/a") == (first,)
    assert lab.links("/ns/a") == {"net1"}


@pytest.mark.parametrize(
    ("networks", "error", "text"),
    [
        ("storage, bad", PodnetError, 'plugin type="macvlan" name="bad" failed (add)'),
        ("storage, missing", NetworkNotFoundError, "network default/missing has no definition"),
        ("storage@eth1, backup@eth1", InvalidConfigError, "eth1"),
        ("storage@eth1, ../x", InvalidConfigError, ""),
        ('[{"name": "storage", "portMappings": [{"hostPort": 80, "containerPort": 80}]}]',
         InvalidConfigError, "portMappings"),
    ],
)  # fmt: skip
def test_all_or_nothing(lab: Lab, networks: str, error: type[PodnetError], text: str) -> None:
    with pytest.raises(error) as caught:
        lab.node.attach("/ns/a", networks)
    assert text in str(caught.value)
    lab.assert_nothing_is_left()


def test_a_delegates_code_survives(lab: Lab) -> None:
    with pytest.raises(PodnetError) as caught:
        lab.node.attach("/ns/a", "bad")
    assert caught.value.code == 103


def test_an_unknown_pod_is_an_error(lab: Lab) -> None:
    with pytest.raises(UnknownContainerError, match="default/nobody"):
        lab.node.attach("/ns/a", pod=Pod("default", "nobody"))


def test_detach_needs_no_manifest_no_master_and_no_namespace(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage")
    for manifest in lab.documents.iterdir():
        manifest.unlink()
    del lab.kernel.sandboxes["/ns/a"]
    assert len(lab.node.detach("/ns/a")) == 1
    assert lab.records() == []
    assert lab.leases() == []


def test_detaching_nothing_is_no_error(lab: Lab) -> None:
    assert lab.node.detach("/ns/a") == ()


def test_the_sandbox_has_to_be_named(lab: Lab) -> None:
    with pytest.raises(InvalidEnvironmentError, match="name the sandbox"):
        lab.node.detach()


def test_check_tells_every_difference(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage")
    space = lab.kernel.sandboxes["/ns/a"]
    space.addresses["net1"].clear()
    with pytest.raises(PodnetError) as caught:
        lab.node.check("/ns/a")
    assert caught.value.code == CheckFailedError.code
    assert "192.168.60.20/24" in str(caught.value)


def test_check_of_nothing_is_an_error(lab: Lab) -> None:
    with pytest.raises(UnknownContainerError, match="/ns/a"):
        lab.node.check("/ns/a")


def test_gc_takes_what_is_not_valid(lab: Lab) -> None:
    kept = lab.node.attach("/ns/a", "storage")
    gone = lab.node.attach("/ns/b", "storage")
    assert lab.node.gc([(kept.container_id, "eth0")]) == (gone,)
    assert lab.links("/ns/a") == {"net1"}
    assert lab.links("/ns/b") == set()
    assert lab.leases() == ["192.168.60.20"]
    assert lab.node.gc([]) == (kept,)
    lab.assert_nothing_is_left()


class Killed(BaseException):
    """Ends the engine like a kill does: nothing of it may run on."""


def test_an_interrupted_add_is_undone_by_the_next(tmp_path: Path) -> None:
    documents = (nad("storage", macvlan()), nad("backup", macvlan(mtu=1400)))
    steps: list[str] = []
    whole = tmp_path / "whole"
    whole.mkdir()
    Lab(whole, *documents, step=steps.append).node.attach("/ns/a", "storage, backup")
    assert len(steps) > 10

    for count in range(1, len(steps) + 1):
        left = count

        def kill(_name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        folder = tmp_path / str(count)
        folder.mkdir()
        lab = Lab(folder, *documents, step=kill)
        with pytest.raises(Killed):
            lab.node.attach("/ns/a", "storage, backup")
        other = lab.node.attach("/ns/b", "storage")
        again = lab.node.attach("/ns/a", "storage, backup")
        held = [ip for each in (other, again) for n in each.networks for ip in n.ips]
        assert len(held) == len(set(held)) == 3
        lab.node.gc([])
        lab.assert_nothing_is_left()


def test_a_record_that_cannot_be_read_is_told_and_never_success(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage")
    for record in lab.state.glob("journal/sandbox/*"):
        record.write_bytes(b"{")
    (listed, single) = lab.node.status()
    assert (listed.stage, listed.container_id) == ("unreadable", container_id_of("/ns/a"))
    assert (single.stage, single.networks[0].interface) == ("done", "net1")
    with pytest.raises(RecordError, match="unreadable"):
        lab.node.check("/ns/a")
    with pytest.raises(RecordError, match="unreadable"):
        lab.node.gc([(container_id_of("/ns/a"), "eth0")])
    assert lab.links("/ns/a") == {"net1"}
    with pytest.raises(RecordError, match=r"its interfaces were undone, and it was moved to"):
        lab.node.detach("/ns/a")
    assert lab.links("/ns/a") == set()
    assert lab.leases() == []
    assert [path.suffix for path in lab.records()] == [".unreadable"]
    assert lab.node.detach("/ns/a") == ()


def test_a_failing_delegate_is_undone_in_reverse(lab: Lab) -> None:
    refuse: list[Any] = []
    lab.kernel.fail = lambda op: refuse[0] if refuse and "fd00::" in str(op) else None
    refuse.append(KernelError("no"))
    with pytest.raises(PodnetError, match="backup"):
        lab.node.attach("/ns/a", "storage, backup")
    lab.assert_nothing_is_left()


def test_default_route_goes_over_the_attachment_that_asks(lab: Lab) -> None:
    networks = '[{"name": "storage", "default-route": ["192.168.60.1"]}]'
    lab.node.attach("/ns/b", networks, default_network="cluster")
    space = lab.kernel.sandboxes["/ns/b"]
    defaults = [(r.link.name, r.gateway) for r in space.routes if r.dst == "0.0.0.0/0"]
    assert defaults == [("net1", "192.168.60.1")]
    entry = json.loads(lab.node.status()[0].network_status)[1]
    assert entry["gateway"] == ["192.168.60.1"]
    lab.node.check("/ns/b")
    lab.node.detach("/ns/b")
    lab.assert_nothing_is_left()


def test_container_ids_of_paths_differ_and_are_valid() -> None:
    ids = {container_id_of(path) for path in ("/run/netns/a", "/x/a", "/run/netns/.", "/run/ä")}
    assert len(ids) == 4
    from podnet.model.names import container_id_fault

    assert [container_id_fault(each) for each in ids] == [""] * 4


def test_an_interface_of_the_name_is_refused_before_anything_is_done(lab: Lab) -> None:
    space = lab.kernel.sandboxes["/ns/a"]
    lab.kernel.add_link(space, "net2", kind="dummy")
    with pytest.raises(InterfaceExistsError, match="interface net2 exists already in /ns/a"):
        lab.node.attach("/ns/a", "storage, backup")
    assert lab.links("/ns/a") == {"net2"}
    assert lab.records() == []
    assert lab.leases() == []


def test_settings_that_changed_since_do_not_hide_the_leases(lab: Lab) -> None:
    """DEL needs nothing but the record: it tells the store."""
    lab.node.attach("/ns/a", "storage")
    elsewhere = f"file:{lab.folder}/elsewhere"
    with podnet.Node(store=elsewhere, state_dir=str(lab.state), kernel=lab.kernel) as other:
        other.check("/ns/a")
        other.detach("/ns/a")
    lab.assert_nothing_is_left()


def test_a_store_that_forgets_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nad("storage", macvlan()))
    lab.node._house._is_real = True  # as on a machine: interfaces outlive the process
    for url in ("memory:", "bogus:x"):
        with podnet.Node(store=url, state_dir=str(lab.state), networks=lab.documents) as node:
            node._house._kernel = lab.kernel
            with pytest.raises(InvalidConfigError, match="store"):
                node.attach("/ns/a", "storage")
    lab.assert_nothing_is_left()


def test_mistakes_of_all_networks_at_once_before_anything_is_done(tmp_path: Path) -> None:
    steps: list[str] = []
    lab = Lab(
        tmp_path,
        nad("storage", macvlan()),
        nad("one", macvlan(mode="brigde", ipam={"type": "whereabouts", "range": "10.0.0.0/33"})),
        nad("two", macvlan(mtu="big")),
        step=steps.append,
    )
    with pytest.raises(InvalidConfigError) as caught:
        lab.node.attach("/ns/a", "storage, one, two")
    assert [path for path, _ in caught.value.mistakes] == [
        "default/one: plugins[0].mode",
        "default/one: plugins[0].ipam.range",
        "default/two: plugins[0].mtu",
    ]
    assert steps == []
    lab.assert_nothing_is_left()


def test_values_of_any_spelling(lab: Lab) -> None:
    attached = lab.node.attach(Path("/ns/a"), ["storage@e1", "backup"], pod="web")
    assert attached.pod == Pod("default", "web")
    assert [n.interface for n in attached.networks] == ["e1", "net2"]
    assert lab.node.check(pod="default/web") == (attached,)
    beginning = attached.container_id[:6]
    assert lab.node.detach(container_id=beginning) == (attached,)


def test_a_beginning_that_fits_two_containers_is_refused(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage", container_id="c10")
    lab.node.attach("/ns/b", "storage", container_id="c11")
    with pytest.raises(UnknownContainerError, match="c1 is not unique: it begins c10, c11"):
        lab.node.detach(container_id="c1")


def test_nothing_to_attach_is_an_error(lab: Lab) -> None:
    with pytest.raises(InvalidConfigError, match="there is nothing to attach: no network is named"):
        lab.node.attach("/ns/a")
    assert lab.records() == []


def test_a_closed_node_says_so(lab: Lab) -> None:
    lab.node.close()
    with pytest.raises(PodnetError, match="closed"):
        lab.node.attach("/ns/a", "storage")


def test_the_very_error_of_a_built_in_is_the_cause(lab: Lab) -> None:
    for number in range(4):
        lab.kernel.add_sandbox(f"/ns/{number}")
    tiny = nad("tiny", macvlan(ipam={"type": "whereabouts", "range": "10.0.0.0/30"}))
    (lab.documents / "tiny.json").write_text(json.dumps(tiny))
    lab.node.attach("/ns/0", "tiny")
    lab.node.attach("/ns/1", "tiny")
    with pytest.raises(PodnetError) as caught:
        lab.node.attach("/ns/2", "tiny")
    assert (caught.value.code, caught.value.fault) == (100, Fault.CONFIGURATION)
    causes = []
    error: BaseException | None = caught.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__
    assert PoolExhaustedError in causes


def make_unreadable(lab: Lab, role: str = "sandbox") -> None:
    for record in lab.state.glob(f"journal/{role}/*"):
        record.write_bytes(b"{")


def test_gc_recovers_a_record_that_nobody_needs(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage")
    make_unreadable(lab)
    kept = lab.node.attach("/ns/b", "storage")
    valid = [(kept.container_id, "eth0")]
    with pytest.raises(RecordError, match="its interfaces were undone"):
        lab.node.gc(valid)
    assert (lab.links("/ns/a"), lab.links("/ns/b")) == (set(), {"net1"})
    assert lab.node.gc(valid) == ()


def test_a_sandbox_of_which_nothing_can_be_read_is_told_once_and_blocks_nothing(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage", container_id="abcdef")
    make_unreadable(lab)
    make_unreadable(lab, "interface")
    with pytest.raises(RecordError, match=r"not known, and was not undone: .*unreadable"):
        lab.node.detach(container_id="abc")
    assert {path.suffix for path in lab.records()} == {".unreadable"}
    assert lab.node.detach(container_id="abcdef") == ()
    del lab.kernel.sandboxes["/ns/a"]
    with podnet.open_ipam(f"file:{lab.state}/leases", node=os.uname().nodename) as ipam:
        assert len(ipam.sweep("storage", ())) == 1  # as the next GC does


def test_a_file_that_cannot_be_read_just_now_hides_no_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.node.attach("/ns/a", "storage", container_id="one")
    lab.node.attach("/ns/b", "storage", container_id="two")
    read = disk.read_file

    def failing(path: str) -> bytes | None:
        if "sandbox/one" in path:
            raise IOFailureError(f"cannot read {path}: Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "read_file", failing)
        assert "unreadable" in [each.stage for each in lab.node.status()]
        lab.node.check("/ns/b")
        assert len(lab.node.detach(container_id="two")) == 1
        with pytest.raises(PodnetError, match="Input/output"):
            lab.node.detach(container_id="one")
        with pytest.raises(PodnetError, match="Input/output"):
            lab.node.gc([])
    assert lab.links("/ns/a") == {"net1"}
    assert len(lab.node.detach(container_id="one")) == 1
    lab.assert_nothing_is_left()


def test_what_may_be_meant_and_cannot_be_read_is_told(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage", pod="web", container_id="c1")
    make_unreadable(lab)
    for meant in ({"netns": "/ns/a"}, {"pod": "web"}):
        with pytest.raises(RecordError, match="unreadable"):
            lab.node.detach(**meant)  # type: ignore[arg-type]  # either alone
    assert lab.node.detach(container_id="another") == ()
    assert lab.links("/ns/a") == {"net1"}


def test_a_failing_last_write_undoes_everything(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = lab.node._house.journal
    finish = journal.finish

    def full(record: Record) -> None:
        if record.role == "sandbox":
            raise IOFailureError("no space left")
        finish(record)

    monkeypatch.setattr(journal, "finish", full)
    with pytest.raises(IOFailureError, match="no space left"):
        lab.node.attach("/ns/a", "storage, backup")
    lab.assert_nothing_is_left()


def test_a_record_of_what_could_not_be_undone_is_kept(lab: Lab) -> None:
    broken = KernelError("stuck")
    lab.kernel.fail = lambda op: broken if word(op) == "delete-link" else None
    with pytest.raises(PodnetError, match='name="bad" failed'):
        lab.node.attach("/ns/a", "storage, bad")
    assert lab.links("/ns/a") == {"net1"}
    assert "intent" in [each.stage for each in lab.node.status()]
    lab.kernel.fail = None
    lab.node.detach("/ns/a")
    lab.assert_nothing_is_left()


def test_a_link_to_the_namespaces_folder_is_the_same_place(lab: Lab) -> None:
    there, alias = lab.folder / "netns", lab.folder / "alias"
    there.mkdir()
    alias.symlink_to(there)
    lab.kernel.add_sandbox(str(there / "a"))
    lab.node.attach(there / "a", "storage")
    assert len(lab.node.detach(alias / "a")) == 1
    lab.assert_nothing_is_left()


def test_a_late_detach_leaves_the_paths_new_owner_alone(lab: Lab) -> None:
    lab.node.attach("/ns/a", "storage", container_id="old")
    del lab.kernel.sandboxes["/ns/a"]
    lab.kernel.add_sandbox("/ns/a")
    lab.node.attach("/ns/a", "storage", container_id="new")
    seen: list[tuple[str, str]] = []
    run = lab.node._house.executor.run

    def listen(call: Call) -> Done:
        seen.append((call.plugin, call.netns))
        return run(call)

    lab.node._house.executor.run = listen  # type: ignore[method-assign]
    lab.node.detach(container_id="old")
    assert ("macvlan", "") in seen
    assert lab.links("/ns/a") == {"net1"}
    lab.node.check("/ns/a")


def test_undoing_has_the_time_that_adding_left(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from podnet.engine import driving, house

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(driving, "time", clock)
    monkeypatch.setattr(house, "time", clock)
    calls: list[Call] = []

    def slow(call: Call) -> Done:
        calls.append(call)
        clock.now += 70 if call.verb == "ADD" else 0
        return Done(1 if call.verb == "ADD" else 0)

    lab.node._house.executor.run = slow  # type: ignore[method-assign]
    with pytest.raises(PodnetError):
        lab.node.attach("/ns/a", "storage")
    adding, undoing = calls
    assert (adding.verb, undoing.verb) == ("ADD", "DEL")
    assert adding.timeout == pytest.approx(77)
    assert undoing.timeout == pytest.approx(40)


def test_all_networks_that_are_missing_are_told(lab: Lab) -> None:
    with pytest.raises(NetworkNotFoundError) as caught:
        lab.node.attach("/ns/a", "storage, nope, nada")
    assert "default/nope" in str(caught.value)
    assert "default/nada" in str(caught.value)
    lab.assert_nothing_is_left()
