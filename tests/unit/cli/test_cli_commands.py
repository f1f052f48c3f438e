from __future__ import annotations

import json

import pytest

from podnet.cli.main import main
from podnet.cli.options import parse_pod
from podnet.cli.output import UsageError
from podnet.errors import CheckFailedError, InvalidConfigError, UnknownContainerError
from podnet.model.attachment import Pod

WEB = Pod("default", "web-0", "uid-1")
DB = Pod("storage", "db-0")


def run(capsys, *arguments):
    code = main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_attach_takes_the_only_pod_of_the_files(node, capsys):
    node.manifests = (WEB,)
    code, out, _ = run(
        capsys,
        *("attach", "-f", "nad.yaml", "pod.yaml", "-f", "more.json", "--netns", "/run/netns/a"),
        *("--container-id", "c1", "--default-network", "cluster"),
    )
    assert code == 0
    assert node.opened[0][1] == ["nad.yaml", "pod.yaml", "more.json"]
    assert node.asked == [
        (
            "attach",
            "/run/netns/a",
            None,
            {"pod": WEB, "container_id": "c1", "default_network": "cluster"},
        )
    ]
    assert node.closed == 1
    document = json.loads(out)
    assert document["pod"] == "default/web-0"
    assert document["networks"] == [
        {
            "name": "default/macvlan-conf-1",
            "interface": "eth1",
            "type": "macvlan",
            "ips": ["192.168.60.20/24"],
            "mac": "02:00:00:00:00:01",
            "gateway": ["192.168.60.1"],
            "default": False,
        }
    ]
    assert document["networkStatus"].startswith("[{\n")


def test_attach_draws_a_table_where_asked(node, capsys):
    node.manifests = (WEB,)
    _, out, _ = run(capsys, "attach", "-f", "x", "--netns", "/n", "--output", "table")
    title, heads, row = out.splitlines()
    assert title == "default/web-0 at /n"
    assert heads.split() == ["INTERFACE", "NETWORK", "TYPE", "ADDRESSES", "MAC", "GATEWAY"]
    assert row.split() == [
        "eth1",
        "default/macvlan-conf-1",
        "macvlan",
        "192.168.60.20/24",
        "02:00:00:00:00:01",
        "192.168.60.1",
    ]


def test_attach_lists_the_pods_when_it_must_be_told(node, capsys):
    node.manifests = (DB, WEB)
    code, out, err = run(capsys, "attach", "-f", "x", "--netns", "/n")
    assert code == 2
    assert err == (
        "podnet: error: the files hold several pods; choose one with --pod: "
        "default/web-0, storage/db-0\n"
    )
    assert json.loads(out)["details"] == "default/web-0, storage/db-0"
    assert node.asked == []


@pytest.mark.parametrize("text", ["default/web-0", "web-0"])
def test_attach_takes_the_named_pod_with_its_uid(node, capsys, text):
    node.manifests = (DB, WEB)
    assert run(capsys, "attach", "-f", "x", "--netns", "/n", "--pod", text)[0] == 0
    assert node.asked[0][3]["pod"] is WEB


def test_attach_refuses_a_pod_that_is_not_there(node, capsys):
    node.manifests = (WEB,)
    code, _, err = run(capsys, "attach", "-f", "x", "--netns", "/n", "--pod", "other/web-0")
    assert code == 2
    assert "no pod other/web-0 in the files: they hold default/web-0" in err


def test_attach_without_pod_needs_networks(node, capsys):
    code, _, err = run(capsys, "attach", "-f", "x", "--netns", "/n")
    assert code == 2
    assert "no pod" in err
    assert run(capsys, "attach", "-f", "x", "--netns", "/n", "--networks", "a@eth1")[0] == 0
    assert node.asked == [
        ("attach", "/n", "a@eth1", {"pod": None, "container_id": None, "default_network": None})
    ]


@pytest.mark.parametrize("more", [(), ("--pod", "a/b")])
def test_attach_says_what_it_needs_when_nothing_names_a_network(node, capsys, more):
    code, _, err = run(capsys, "attach", "--netns", "/n", *more)
    assert code == 2
    assert err.endswith("which networks to attach: -f or --networks is needed\n")
    assert node.asked == []


def test_configured_manifests_need_no_file(node, capsys):
    node.manifests = (WEB,)
    assert run(capsys, "attach", "--netns", "/n")[0] == 0


def test_a_pod_without_selection_is_one_line(node, capsys):
    node.manifests = (WEB,)
    node.failure = InvalidConfigError("pod default/web-0", (("networks", "selects\nnothing"),))
    code, out, err = run(capsys, "attach", "-f", "x", "--netns", "/n")
    assert code == 1
    assert err == "podnet: error: pod default/web-0: networks: selects nothing\n"
    assert json.loads(out)["code"] == 7


def test_with_networks_the_named_pod_need_not_be_in_the_files(node, capsys):
    node.manifests = (DB, WEB)
    arguments = ("attach", "--netns", "/n", "--networks", "a")
    assert run(capsys, *arguments, "--pod", "x/y")[0] == 0
    assert run(capsys, *arguments)[0] == 0
    assert [asked[3]["pod"] for asked in node.asked] == [Pod("x", "y"), None]


@pytest.mark.parametrize("text", ["", "a/b/c", "/b", "a/"])
def test_what_is_no_pod_name_is_refused(text):
    with pytest.raises(UsageError):
        parse_pod(text)


@pytest.mark.parametrize("verb", ["detach", "check"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--netns", "/n"), {"netns": "/n", "container_id": None, "pod": None}),
        (("--container-id", "c"), {"netns": None, "container_id": "c", "pod": None}),
        (("--pod", "a/b"), {"netns": None, "container_id": None, "pod": Pod("a", "b")}),
    ],
)
def test_detach_and_check_take_one_target_and_no_file(
    node, capsys, attached, verb, arguments, expected
):
    node.answer = (attached(pod=WEB),)
    code, out, _ = run(capsys, verb, *arguments)
    assert code == 0
    assert node.asked == [(verb, expected)]
    assert node.opened[0][1] is None
    (one,) = json.loads(out)[{"detach": "detached", "check": "checked"}[verb]]
    assert one["pod"] == "default/web-0"


@pytest.mark.parametrize("verb", ["detach", "check"])
def test_the_mark_of_a_shortened_id_may_be_copied_along(node, capsys, verb):
    assert run(capsys, verb, "--container-id", "0123456789ab…")[0] == 0
    assert node.asked[0][1]["container_id"] == "0123456789ab"


@pytest.mark.parametrize("verb", ["detach", "check"])
def test_a_bad_pod_name_is_an_error_not_a_traceback(node, capsys, verb):
    code, _, err = run(capsys, verb, "--pod", "a/b/c")
    assert code == 2
    assert err.startswith("podnet: error: --pod 'a/b/c'")


def test_detaching_nothing_is_no_error(node, capsys):
    assert run(capsys, "detach", "--netns", "/n") == (0, '{\n  "detached": []\n}\n', "")
    code, out, _ = run(capsys, "detach", "--netns", "/n", "-o", "table")
    assert (code, out) == (0, "· nothing was attached there\n")


def test_detach_names_what_went(node, capsys, attached):
    node.answer = (attached(), attached(networks=(), netns="", container_id="c9"))
    _, out, _ = run(capsys, "detach", "--netns", "/n", "-o", "table")
    assert out.splitlines() == [
        "✓ detached /run/netns/web-0: eth1",
        "✓ detached container c9: nothing made",
    ]


@pytest.mark.parametrize(
    ("failure", "code"),
    [(CheckFailedError("eth1", "mtu 9000"), 105), (UnknownContainerError("x"), 3)],
)
def test_check_exits_1_with_the_differences(node, capsys, failure, code):
    node.failure = failure
    status, out, err = run(capsys, "check", "--netns", "/n")
    assert status == 1
    assert json.loads(out)["code"] == code
    assert err == f"podnet: error: {failure}\n"
    assert node.closed == 1


def test_status_lists_each_interface_and_names_the_pod_once(node, capsys, attached, network):
    node.answer = (
        attached(pod=WEB, networks=(network(interface="eth0", type="ptp"), network())),
        attached(stage="intent", networks=(), container_id="c2"),
    )
    _, out, _ = run(capsys, "status", "-o", "table")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:4] == ["default/web-0", "web-0-0123456789ab", "attached", "eth0"]
    assert lines[2][:4] == ["-", "-", "-", "eth1"]
    assert lines[3][:3] == ["-", "c2", "unfinished"]
    _, out, _ = run(capsys, "status")
    assert [a["stage"] for a in json.loads(out)["attachments"]] == ["done", "intent"]


@pytest.mark.parametrize(
    ("whole", "shown"),
    [("x" * 26, "x" * 26), ("0123456789abcdef" * 4, "0123456789ab…"), ("y" * 27, f"{'y' * 12}…")],
)
def test_a_long_id_is_shortened_with_a_mark_and_whole_for_programs(
    node, capsys, attached, whole, shown
):
    node.answer = (attached(container_id=whole),)
    _, out, _ = run(capsys, "status", "-o", "table")
    assert out.splitlines()[1].split()[1] == shown
    _, out, _ = run(capsys, "status", "-o", "json")
    assert json.loads(out)["attachments"][0]["containerId"] == whole


def test_status_of_an_empty_node(node, capsys):
    assert run(capsys, "status") == (0, '{\n  "attachments": []\n}\n', "")


def test_state_options_win_over_the_environment(monkeypatch, tmp_path, capsys):
    config = tmp_path / "podnet.conf"
    config.write_text("{}")
    monkeypatch.setenv("PODNET_CONFIG", str(config))
    monkeypatch.setenv("PODNET_STATE_DIR", "/nonexistent/elsewhere")
    code, out, _ = run(capsys, "status", "--state-dir", str(tmp_path / "state"))
    assert (code, json.loads(out)) == (0, {"attachments": []})


def test_a_pod_in_two_files_is_told_with_both(tmp_path, capsys, monkeypatch):
    (tmp_path / "podnet.conf").write_text("{}")
    monkeypatch.setenv("PODNET_CONFIG", str(tmp_path / "podnet.conf"))
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0"}}
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path in paths:
        with open(path, "w") as file:
            json.dump(pod, file)
    state = ("--state-dir", str(tmp_path / "state"))
    code, _, err = run(capsys, "attach", "-f", *paths, "--netns", "/n", *state)
    assert code == 1
    assert err == f"podnet: error: pod default/web-0 is in {paths[0]} and {paths[1]}\n"


def test_no_network_of_the_default_networks_name(tmp_path, capsys, monkeypatch):
    (tmp_path / "podnet.conf").write_text("{}")
    monkeypatch.setenv("PODNET_CONFIG", str(tmp_path / "podnet.conf"))
    arguments = ("attach", "--netns", "/n", "--networks", "", "--default-network", "nope")
    code, _, err = run(capsys, *arguments, "--state-dir", str(tmp_path / "state"))
    assert code == 1
    assert "no network is named nope: neither a network definition nor a file of" in err
