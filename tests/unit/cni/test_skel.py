"""What the protocol does beyond the tables: undoing, tolerating, and never losing its form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.cni.skel import handle
from podnet.errors import InvalidNetnsError, PodnetError, StoreError
from podnet.model.result import IP, Result
from podnet.model.wire import load_json
from podnet.testing import strategies_wire as wire

USUAL = {
    "CNI_CONTAINERID": "web-0",
    "CNI_NETNS": "/run/netns/web-0",
    "CNI_IFNAME": "eth1",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG = {"cniVersion": "1.1.0", "name": "storage", "type": "macvlan"}


def call(verb, plugin, document=CONFIG, *, same_netns=lambda _: False, **env):
    return handle(
        {**USUAL, "CNI_COMMAND": verb, **env},
        lambda: json.dumps(document).encode(),
        plugin,
        same_netns=same_netns,
        about="podnet",
    )


def test_without_command_a_person_is_told_what_this_is():
    response = handle({}, bytes, lambda _: None, same_netns=lambda _: False, about="podnet 1")
    assert response.exit_code == 0
    assert response.stdout == b""
    assert response.stderr == (
        b"podnet 1\n"
        b"CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
    )


def test_version_reads_no_standard_input():
    def stdin():
        raise AssertionError

    env = {"CNI_COMMAND": "VERSION"}
    response = handle(env, stdin, lambda _: None, same_netns=lambda _: False, about="podnet")
    assert json.loads(response.stdout)["cniVersion"] == "1.1.0"


def test_undo_that_fails_is_told_with_the_cause():
    def plugin(call):
        if call.verb == "DEL":
            raise StoreError("store is gone")
        return Result()

    response = call("ADD", plugin, {**CONFIG, "cniVersion": "0.2.0"})
    error = json.loads(response.stdout)
    assert error["msg"] == "cannot convert: no valid IP addresses"
    assert error["details"].endswith("; DEL, to undo ADD, failed too: store is gone")


def test_plugin_that_forgets_its_result_is_undone():
    verbs = []
    response = call("ADD", lambda each: verbs.append(each.verb))
    assert verbs == ["ADD", "DEL"]
    assert json.loads(response.stdout)["msg"] == "plugin macvlan returned no result for ADD"


@pytest.mark.parametrize("verb", ["DEL", "CHECK", "GC", "STATUS"])
def test_result_of_other_verbs_is_not_printed(verb):
    document = {**CONFIG, "prevResult": {}}
    assert call(verb, lambda _: Result(ips=(IP("10.0.0.2/24"),)), document).stdout == b""


@pytest.mark.parametrize("override", ["1", "true", "TRUE", "True"])
def test_override_lets_the_own_netns_pass(override):
    response = call(
        "ADD", lambda _: Result(), same_netns=lambda _: True, CNI_NETNS_OVERRIDE=override
    )
    assert response.exit_code == 0


def test_del_goes_on_where_the_netns_is_no_netns_any_more():
    def same_netns(path):
        raise InvalidNetnsError(f"{path} is no network namespace")

    verbs = []
    response = call("DEL", lambda each: verbs.append(each.verb), same_netns=same_netns)
    assert (response.exit_code, verbs) == (0, ["DEL"])


def test_del_passes_over_what_it_does_not_need_and_says_so():
    verbs = []
    document = {**CONFIG, "prevResult": {"ips": 5}, "dns": 4}
    response = call("DEL", lambda each: verbs.append(each.verb), document, CNI_ARGS="nonsense")
    assert (response.exit_code, response.stdout, verbs) == (0, b"", ["DEL"])
    assert response.stderr == (
        b"DEL passes over dns: must be an object, not the number 4\n"
        b"DEL passes over prevResult.ips: must be a list, not the number 5\n"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_end_of_the_process_is_not_swallowed(error):
    def plugin(_):
        raise error

    with pytest.raises(error):
        call("ADD", plugin)


@pytest.mark.parametrize("raised", [PodnetError("boom"), ZeroDivisionError("boom\nboom")])
def test_traceback_is_told_only_where_it_was_asked_for(raised):
    def plugin(_):
        raise raised

    silent, debugging = call("ADD", plugin), call("ADD", plugin, PODNET_DEBUG="1")
    assert silent.stdout == debugging.stdout
    assert silent.stderr == b""
    assert b"Traceback" in debugging.stderr
    assert b"\n" not in json.loads(silent.stdout)["msg"].encode()


def judged(response) -> None:
    """The answer has the form the protocol allows, whatever was asked."""
    assert b"Traceback" not in response.stdout + response.stderr
    if response.exit_code:
        error = json.loads(response.stdout)
        assert list(error) in (["code", "msg"], ["code", "msg", "details"])
        assert 0 < error["code"] < 999, error  # 999 would be a fault of podnet's
        assert error["msg"]
    elif response.stdout:
        assert isinstance(json.loads(response.stdout), dict)


@given(wire.environments(), wire.stdin_bytes())
def test_any_environment_and_input_is_answered_in_form(environ, stdin):
    def plugin(call):
        return Result(ips=(IP("10.0.0.2/24"),)) if call.verb == "ADD" else None

    judged(handle(environ, lambda: stdin, plugin, same_netns=lambda _: False, about="podnet"))


@given(wire.network_configs().flatmap(wire.damaged), st.sampled_from(["ADD", "DEL", "CHECK", "GC"]))
def test_any_damaged_configuration_is_answered_in_form(document, verb):
    def plugin(call):
        return Result(ips=(IP("10.0.0.2/24"),)) if call.verb == "ADD" else None

    judged(call(verb, plugin, document))


@given(wire.network_configs(), wire.tricks, st.sampled_from(["CNI_CONTAINERID", "CNI_IFNAME"]))
def test_plugin_never_sees_a_name_that_leaves_its_folder(document, trick, variable):
    for verb in ("ADD", "DEL", "CHECK"):
        seen = []
        call(verb, seen.append, document, **{variable: trick})
        for each in seen:
            for name in (each.container_id, each.ifname, each.plugin):
                assert "/" not in name
                assert name not in ("", ".", "..")


@given(wire.network_configs())
def test_plugin_gets_every_key_untouched(document):
    seen = []
    call("DEL", seen.append, document)
    assert seen[0].config == load_json(json.dumps(document).encode(), "config")
