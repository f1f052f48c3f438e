from __future__ import annotations

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.delegation.chain import Adding
from podnet.delegation.plan import Attachment, Sandbox, Standing
from podnet.delegation.sweep import Checking, Collecting, Deleting, Reporting
from podnet.errors import (
    DeadlineError,
    DelegateError,
    InvalidConfigError,
    InvalidEnvironmentError,
    PluginNotFoundError,
    PodnetError,
    UnknownContainerError,
)
from podnet.model.attachment import Call, Done
from podnet.model.conflist import parse_conflist
from podnet.model.result import parse_result
from podnet.testing.strategies_delegation import attachment_lists, failures, successes

SANDBOX = Sandbox(container_id="c1", netns="/run/netns/c1", path=("/opt/cni/bin",), timeout=9.0)


def attachment(*types: str, version: str = "1.0.0", name: str = "n", **keys: object) -> Attachment:
    config = parse_conflist(
        {"cniVersion": version, "name": name, "plugins": [{"type": each} for each in types], **keys}
    )
    return Attachment(network=f"default/{name}", config=config, ifname="net1", args="A=b")


def place(call: Call) -> tuple[str, str]:
    return call.ifname, call.plugin


def drive(machine: Adding, *outcomes: Done | PodnetError) -> list[Call]:
    calls = []
    for outcome in outcomes:
        call = machine.next()
        assert call is not None
        calls.append(call)
        machine.feed(outcome)
    assert machine.next() is None
    return calls


@given(attachment_lists(), st.data())
def test_any_step_may_fail(attachments: tuple[Attachment, ...], data: st.DataObject) -> None:
    """Against a flat model: what was added, in order, and what must then be called."""
    order = [(a.ifname, f"p{i}") for a in attachments for i in range(len(a.config.plugins))]
    fail_at = data.draw(st.one_of(st.none(), st.integers(0, max(len(order) - 1, 0))), "fail at")
    machine = Adding(attachments, SANDBOX)
    added: list[tuple[str, str]] = []
    deleted: list[tuple[str, str]] = []
    expected: list[tuple[str, str]] = []
    failed_undo: set[str] = set()
    previous: dict[str, object] = {}
    while call := machine.next():
        assert machine.next() == call
        assert (call.container_id, call.netns, call.timeout) == ("c1", "/run/netns/c1", 9.0)
        assert call.config["name"] == f"network-{call.config['note']}"
        if call.verb == "ADD":
            assert place(call) == order[len(added)]
            assert not deleted
            assert call.config.get("prevResult") == previous.get(call.ifname)
            if len(added) == fail_at:
                outcome = data.draw(failures(call), "failure")
                ran = [] if isinstance(outcome, PluginNotFoundError) else [place(call)]
                expected = [*ran, *reversed(added)]
            else:
                outcome = data.draw(successes(call), "success")
                assert isinstance(outcome, Done)
                previous[call.ifname] = json.loads(outcome.stdout)
                added.append(place(call))
        else:
            assert call.verb == "DEL"
            deleted.append(place(call))
            old = call.config["cniVersion"] in ("0.2.0", "0.3.1")
            assert call.config.get("prevResult") == (None if old else previous.get(call.ifname))
            outcome = data.draw(st.one_of(successes(call), failures(call)), "of undoing")
            if isinstance(outcome, PodnetError) or outcome.exit_code:
                failed_undo.add(call.ifname)
        machine.feed(outcome)
    assert machine.next() is None
    with pytest.raises(RuntimeError):
        machine.feed(Done(0))
    assert deleted == expected
    if order and fail_at is not None:
        assert added == order[:fail_at]
        assert machine.failure is not None
        assert machine.made == ()
        assert machine.results == (None,) * len(attachments)
        assert {each.ifname for each in machine.unclean} == failed_undo
        assert ("undoing" in machine.failure.details) == bool(failed_undo)
        ifname, plugin = order[fail_at]
        name = next(a.config.name for a in attachments if a.ifname == ifname)
        assert machine.failure.msg.startswith(f'plugin type="{plugin}" name="{name}" failed (add)')
    else:
        assert added == order
        assert machine.failure is None
        assert [each.attachment for each in machine.made] == list(attachments)
        for standing, result in zip(machine.made, machine.results, strict=True):
            assert standing.document == previous[standing.attachment.ifname]
            version = standing.attachment.config.cni_version
            assert result == standing.result == parse_result(standing.document, version)


@given(attachment_lists(), st.data())
def test_deletion_attempts_all(attachments: tuple[Attachment, ...], data: st.DataObject) -> None:
    document = {"cniVersion": "x", "ips": []}
    standings = [
        Standing(attachment=each, document=data.draw(st.sampled_from([document, None])))
        for each in attachments
    ]
    machine = Deleting(standings, evolve(SANDBOX, netns=""))
    seen, failed = [], []
    while call := machine.next():
        seen.append(place(call))
        assert call.verb == "DEL"
        assert call.netns == ""
        outcome = data.draw(st.one_of(successes(call), failures(call)))
        if isinstance(outcome, PodnetError) or outcome.exit_code:
            failed.append(place(call))
        machine.feed(outcome)
    order = [(a.ifname, f"p{i}") for a in attachments for i in range(len(a.config.plugins))]
    assert seen == order[::-1]
    assert (machine.failure is not None) == bool(failed)
    if machine.failure:
        assert machine.failure.msg.startswith(f'plugin type="{failed[0][1]}"')
        assert machine.failure.details.count("failed (delete)") == len(failed) - 1
    assert [each.ifname for each in machine.failed] == list(dict.fromkeys(i for i, _ in failed))


def test_a_chain_threads_its_results_and_capabilities() -> None:
    config = parse_conflist(
        {
            "cniVersion": "0.4.0",
            "name": "n",
            "plugins": [
                {"type": "macvlan", "capabilities": {"mac": True}, "x-unknown": {"a": 1}},
                {"type": "tuning", "capabilities": {"mac": False, "ips": True}},
            ],
        }
    )
    plan = Attachment(
        network="default/n", config=config, ifname="net1", runtime_config={"mac": "m", "dns": {}}
    )
    first = b'{"cniVersion": "0.4.0", "interfaces": [{"name": "net1", "x": 1}], "x-more": 2}'
    machine = Adding([plan], SANDBOX)
    calls = drive(machine, Done(0, first), Done(0, b"{}"))
    assert calls[0].config == {
        "type": "macvlan",
        "x-unknown": {"a": 1},
        "cniVersion": "0.4.0",
        "name": "n",
        "runtimeConfig": {"mac": "m"},
    }
    assert calls[1].config["prevResult"] == json.loads(first)
    assert "runtimeConfig" not in calls[1].config
    assert machine.made[0].document == {"cniVersion": "0.4.0"}


@pytest.mark.parametrize(
    ("stdout", "document"),
    [
        (b"{}", {"cniVersion": "0.3.1"}),
        (b"null\n", {"cniVersion": "0.3.1"}),
        (b'{"cniVersion": ""}', {"cniVersion": "0.3.1"}),
        (b'{"CNIVersion": null}', {"cniVersion": "0.3.1"}),
        (b'{"cniVersion": "0.4.0", "dns": {}}', {"cniVersion": "0.3.1", "dns": {}}),
        (
            b'{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}',
            {
                "cniVersion": "0.3.1",
                "ips": [{"version": "4", "address": "10.0.0.2/24"}],
                "dns": {},
            },
        ),
        (
            b'{"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}}',
            {
                "cniVersion": "0.3.1",
                "ips": [{"version": "4", "address": "10.0.0.2/24"}],
                "dns": {},
            },
        ),
    ],
)
def test_results_come_in_the_configurations_version(
    stdout: bytes, document: dict[str, object]
) -> None:
    machine = Adding([attachment("p", version="0.3.1")], SANDBOX)
    drive(machine, Done(0, stdout))
    assert machine.made[0].document == document


@pytest.mark.parametrize(
    ("outcome", "code", "message", "details"),
    [
        (Done(1, b'{"code": 11, "msg": "later", "details": "d"}'), 11, "failed (add): later", "d"),
        (Done(1, b'{"CODE": 7, "Msg": "m"}'), 7, "failed (add): m", ""),
        (Done(1, b'{"code": 0, "msg": "m"}'), 999, "failed (add): m", ""),
        (Done(1, b'{"code": -4}'), 999, "failed (add): exit status 1", ""),
        (Done(1, b'{"code": "x"}'), 999, "error parsing its diagnostic message", "exit status 1"),
        (Done(3), 999, "netplugin failed with no error message: exit status 3", ""),
        (Done(2, b"\n", b"boom\n"), 999, "netplugin failed: 'boom': exit status 2", ""),
        (Done(-9), 999, "no error message: signal 9", ""),
        (
            Done(1, b"Segfault"),
            999,
            "error parsing its diagnostic message 'Segfault'",
            "unmarshall",
        ),
        (Done(0), 999, "error unmarshall result", ""),
        (Done(0, b"[]"), 999, "error unmarshall result", ""),
        (Done(0, b'{"cniVersion": "2.0.0"}'), 999, "invalid result", "cniVersion"),
        (Done(0, b'{"ips": [{"address": "x"}]}'), 999, "invalid result", "ips[0].address"),
        (DeadlineError("late"), 11, "failed (add): late", ""),
        (PluginNotFoundError("none"), 108, "failed (add): none", ""),
        (DelegateError("odd", "d", 140), 140, "failed (add): odd", "d"),
    ],
)
def test_failures_tell_what_the_plugin_told(
    outcome: Done | PodnetError, code: int, message: str, details: str
) -> None:
    machine = Adding([attachment("p")], SANDBOX)
    machine.feed(outcome)
    failure = machine.failure
    assert failure is not None
    assert failure.code == code
    assert message in failure.msg
    assert failure.msg.startswith('plugin type="p" name="n" ')
    assert details in failure.details
    if isinstance(outcome, PodnetError):
        assert failure.fault is outcome.fault
        assert failure.__cause__ is outcome


def test_long_output_is_clipped() -> None:
    machine = Adding([attachment("p")], SANDBOX)
    machine.feed(Done(1, b"x" * 100_000))
    assert machine.failure is not None
    assert len(machine.failure.msg) < 2000


def test_errors_of_undoing_do_not_mask_the_first() -> None:
    machine = Adding([attachment("a", "b")], SANDBOX)
    drive(
        machine,
        Done(0, b"{}"),
        Done(1, b'{"code": 100, "msg": "exhausted"}'),
        Done(1, b'{"code": 101, "msg": "one"}'),
        DeadlineError("two"),
    )
    failure = machine.failure
    assert failure is not None
    assert failure.code == 100
    assert failure.msg == 'plugin type="b" name="n" failed (add): exhausted'
    assert 'plugin type="b" name="n" failed (delete): one' in failure.details
    assert 'plugin type="a" name="n" failed (delete): two' in failure.details
    assert [each.ifname for each in machine.unclean] == ["net1"]


@pytest.mark.parametrize("machine", [Adding, Deleting, Checking])
@pytest.mark.parametrize(
    ("sandbox", "changes", "error"),
    [
        (Sandbox(container_id="../x"), {}, InvalidEnvironmentError),
        (Sandbox(container_id=""), {}, UnknownContainerError),
        (SANDBOX, {"ifname": "a/b"}, InvalidEnvironmentError),
        (SANDBOX, {"ifname": ""}, InvalidEnvironmentError),
        (SANDBOX, {"name": "../x"}, InvalidConfigError),
    ],
)
def test_every_verb_checks_what_becomes_a_path(
    machine: type, sandbox: Sandbox, changes: dict[str, str], error: type[PodnetError]
) -> None:
    plan = attachment("p")
    if "name" in changes:
        plan = evolve(plan, config=evolve(plan.config, name=changes["name"]))
    if "ifname" in changes:
        plan = evolve(plan, ifname=changes["ifname"])
    with pytest.raises(error):
        machine([plan if machine is Adding else Standing(attachment=plan)], sandbox)


def test_checking_goes_forward_and_skips_what_cannot() -> None:
    plans = [
        attachment("old", version="0.3.1"),
        attachment("off", disableCheck=True),
        attachment("a", "b", version="0.4.0"),
    ]
    document = {"cniVersion": "0.4.0"}
    machine = Checking([Standing(attachment=p, document=document) for p in plans], SANDBOX)
    seen = []
    while call := machine.next():
        seen.append(call.plugin)
        assert call.config["prevResult"] == document
        assert call.args == "A=b"
        machine.feed(Done(1, b'{"code": 105, "msg": "differs"}'))
    assert seen == ["a", "b"]
    assert [reason for _, reason in machine.skipped] == [
        "version 0.3.1 has no CHECK",
        "the network disables CHECK",
    ]
    assert machine.failure is not None
    assert machine.failure.code == 105
    assert 'type="b"' in machine.failure.details


def test_collecting_tells_the_valid_attachments() -> None:
    networks = [
        (attachment("a", "b", version="1.1.0").config, [("c1", "net1"), ("c2", "eth0")]),
        (attachment("old", version="1.0.0").config, []),
        (attachment("off", version="1.1.0", disableGC="TRUE").config, []),
        (attachment("c", version="1.1.0", name="m").config, []),
    ]
    machine = Collecting(networks, SANDBOX)
    seen = []
    while call := machine.next():
        assert (call.verb, call.container_id, call.netns, call.ifname, call.args) == (
            *("GC", "", "", ""),
            "",
        )
        assert "prevResult" not in call.config
        valid = call.config["cni.dev/valid-attachments"]
        assert call.config["cni.dev/attachments"] == valid
        seen.append((call.plugin, valid))
        machine.feed(DeadlineError("late"))
    both = [{"containerID": "c1", "ifname": "net1"}, {"containerID": "c2", "ifname": "eth0"}]
    assert seen == [("a", both), ("b", both), ("c", [])]
    assert len(machine.skipped) == 2
    assert machine.failure is not None
    assert machine.failure.code == 11


def test_reporting_asks_every_network_and_keeps_the_code() -> None:
    networks = [
        attachment("a", version="1.1.0").config,
        attachment("old", version="0.3.1").config,
        attachment("b", version="1.1.0").config,
    ]
    machine = Reporting(networks, SANDBOX)
    seen = []
    while call := machine.next():
        seen.append((call.verb, call.plugin))
        machine.feed(Done(1, b'{"code": 50, "msg": "not yet"}'))
    assert seen == [("STATUS", "a"), ("STATUS", "b")]
    assert machine.failure is not None
    assert machine.failure.code == 50


def test_nothing_to_do_is_done() -> None:
    for machine in (Adding([], SANDBOX), Deleting([], SANDBOX), Reporting([], SANDBOX)):
        assert machine.next() is None
        assert machine.failure is None
