"""``podnet plugin install --agent``: the shim, the plugin beside it, and their end."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess

import pytest

from podnet.agent import making
from podnet.cli.main import main


def call(capsys, *arguments):
    code = main(["plugin", *arguments, "--output", "json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(params=["compiled", "python"])
def kind(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(making, "compiled", lambda: None)
    elif making.compiled() is None:
        pytest.skip("no C compiler here")
    return request.param


def test_it_is_put_there_and_taken_away(tmp_path, capsys, kind):
    code, told = call(capsys, "install", "--bin-dir", str(tmp_path), "--agent", "--name", "macvlan")
    assert (code, told["executable"]) == (0, kind)
    assert sorted(os.listdir(tmp_path)) == [".podnet-plugin", "macvlan", "podnet"]
    assert all(
        stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o755 for name in os.listdir(tmp_path)
    )
    _, told = call(capsys, "list", "--bin-dir", str(tmp_path))
    assert told["names"]["podnet"] == "installed"
    assert told["names"]["macvlan"] == "installed, link"
    call(capsys, "uninstall", "--bin-dir", str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_without_the_option_the_plugin_is_the_file(tmp_path, capsys):
    call(capsys, "install", "--bin-dir", str(tmp_path), "--agent")
    _, told = call(capsys, "install", "--bin-dir", str(tmp_path))
    assert told["executable"] == "in-process"
    assert os.listdir(tmp_path) == ["podnet"]


def test_without_an_agent_the_name_is_kept(tmp_path, capsys, kind):
    call(capsys, "install", "--bin-dir", str(tmp_path), "--agent", "--name", "static")
    config = {"cniVersion": "1.0.0", "name": "n", "type": "macvlan"}
    config["ipam"] = {"type": "static", "addresses": [{"address": "10.0.0.9/24"}]}
    done = subprocess.run(
        [tmp_path / "static"],
        input=json.dumps(config).encode(),
        env={
            "PATH": os.environ["PATH"],
            "PODNET_SOCKET": str(tmp_path / "none"),
            "PODNET_STATE_DIR": str(tmp_path / "state"),
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c",
            "CNI_NETNS": "/proc/1/ns/net-that-is-not",
            "CNI_IFNAME": "eth1",
            "CNI_PATH": str(tmp_path),
        },
        capture_output=True,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert answer.get("ips") == [{"address": "10.0.0.9/24"}], answer


@pytest.mark.parametrize("compiler", ["exit 0", "exit 1", "cp /bin/true shim && exit 0"])
def test_a_compiler_that_makes_nothing_that_runs_is_passed_over(tmp_path, monkeypatch, compiler):
    broken = tmp_path / "cc"
    # The file to be made is the word after -o; its folder is the working one here.
    broken.write_text(
        '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncd "$(dirname "$2")"\n' + compiler + "\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken) if name == "cc" else None)
    assert making.compiled() is None
