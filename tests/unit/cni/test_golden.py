"""One table of calls and answers drives the protocol, the result printer and the result parser."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from podnet.cni.skel import Response, handle
from podnet.errors import LinkNotFoundError, NotAvailableError
from podnet.model.attachment import VERBS
from podnet.model.printing import print_result
from podnet.model.result import DNS, IP, Interface, Result, Route, parse_result
from podnet.model.versions import SUPPORTED

ROWS = tomllib.loads(Path(__file__).with_name("golden.toml").read_text())["row"]
USUAL = {
    "CNI_CONTAINERID": "web-0",
    "CNI_NETNS": "/run/netns/web-0",
    "CNI_IFNAME": "eth1",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web-0",
    "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
}
MADE = {
    "full": Result(
        interfaces=(
            Interface(
                "eth1",
                "02:00:00:00:00:14",
                "/run/netns/web-0",
                mtu=1500,
                socket_path="/run/vhost.sock",
                pci_id="0000:03:00.1",
            ),
        ),
        ips=(
            IP("192.168.60.20/24", "192.168.60.1", 0),
            IP("FD00:0::20/64", "", 0),
            IP("192.168.61.20/24"),
        ),
        routes=(
            Route("0.0.0.0/0", "192.168.60.1", mtu=1400, advmss=1360, priority=7, table=0, scope=0),
        ),
        dns=DNS(nameservers=("192.168.60.53",), search=("a&b",)),
    ),
    "layer 2": Result(interfaces=(Interface("eth1"),)),
}
RAISED = {
    "refusal": LinkNotFoundError("master eth9 does not exist", "there are <lo> and eth1"),
    "unavailable": NotAvailableError("no address is free"),
    "fault": KeyError("boom\non two lines".replace("\n", " ")),
}


def answer(row) -> tuple[Response, list]:
    calls = []

    def plugin(call):
        calls.append(call)
        if row.get("made") in RAISED:
            raise RAISED[row["made"]]
        return MADE[row["made"]] if call.verb == "ADD" else None

    environ = {**USUAL, **row.get("env", {}), "CNI_COMMAND": row["verb"]}
    response = handle(
        environ, row["stdin"].encode, plugin, same_netns=lambda _: False, about="podnet"
    )
    return response, calls


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_call_is_answered_as_the_table_says(row):
    response, calls = answer(row)
    assert response.stdout.decode() == row["stdout"]
    assert response.exit_code == row["exit"]
    assert [call.verb for call in calls] == row["calls"]
    assert response.stderr == b""


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["verb"] == "ADD" and row["exit"] == 0],
    ids=lambda r: r["name"],
)
def test_printed_result_is_parsed_to_one_that_prints_the_same(row):
    version = json.loads(row["stdout"])["cniVersion"]
    result = parse_result(json.loads(row["stdout"]), version)
    assert print_result(result, version).decode() == row["stdout"]


def test_printed_result_is_taken_as_previous_result():
    for row in ROWS:
        if row["verb"] != "ADD" or row["exit"]:
            continue
        config = {**json.loads(row["stdin"]), "prevResult": json.loads(row["stdout"])}
        response, calls = answer({**row, "stdin": json.dumps(config)})
        assert response.exit_code == 0, row["name"]
        assert calls[0].config == config


def test_table_has_every_verb_in_every_version():
    names = {row["name"] for row in ROWS}
    assert {f"{verb} {version}" for verb in VERBS for version in SUPPORTED} <= names


def test_plugin_gets_the_call_as_the_runtime_made_it():
    row = next(row for row in ROWS if row["name"] == "ADD 1.1.0")
    _, (call,) = answer(row)
    assert (call.plugin, call.container_id, call.netns) == ("macvlan", "web-0", "/run/netns/web-0")
    assert (call.ifname, call.args) == ("eth1", USUAL["CNI_ARGS"])
    assert call.path == ("/opt/cni/bin", "/usr/lib/cni")
    assert call.config == json.loads(row["stdin"])


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_attachment_variables_do_not_reach_verbs_without_attachment(verb):
    row = next(row for row in ROWS if row["name"] == f"{verb} 1.1.0")
    _, (call,) = answer({**row, "env": {"CNI_CONTAINERID": "../x", "CNI_IFNAME": "a/b"}})
    assert (call.container_id, call.netns, call.ifname, call.args) == ("", "", "", "")
