"""What the agent does with a request: what a plugin does in its own process, with settings."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from podnet.agent.desk import Desk
from podnet.agent.frames import Request
from podnet.engine.house import House
from podnet.engine.settings import Settings
from podnet.testing.fake_kernel import FakeKernel

CONFIG = {
    "cniVersion": "1.0.0",
    "name": "lan",
    "type": "macvlan",
    "ipam": {"type": "podnet-ipam", "pools": [{"network": "10.0.0.0/24"}]},
}


@pytest.fixture
def house(tmp_path):
    settings = Settings(
        state_dir=str(tmp_path / "state"), store=f"file:{tmp_path}/leases", node="node-1"
    )
    kernel = FakeKernel()
    kernel.add_sandbox("/ns/a")
    kernel.add_link(kernel.node, "up0", mtu=1500, up=True)
    with House(settings, kernel=kernel) as house:
        yield house


def ask(house, name="podnet-ipam", config=CONFIG, *, verb="ADD", seconds=20.0, late=0.0, **environ):
    clock = [100.0]
    desk = Desk(house, clock=lambda: clock[0])
    variables = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/ns/a",
        "CNI_IFNAME": "eth1",
        "CNI_PATH": "/nowhere",
    }
    data = json.dumps(config).encode()
    clock[0] += late
    response = desk.answer(Request(name, {**variables, **environ}, data, seconds), 100.0)
    return response.exit_code, json.loads(response.stdout) if response.stdout else None


def test_the_name_decides_which_plugin_it_is(house):
    code, result = ask(house)
    assert code == 0
    assert result["ips"] == [{"address": "10.0.0.1/24"}]
    assert ask(house, verb="DEL") == (0, None)
    assert ask(house, "macvlan", verb="VERSION")[1]["cniVersion"] == "1.1.0"


def test_what_comes_too_late_is_not_begun(house):
    code, error = ask(house, seconds=20, late=19.5)
    assert (code, error["code"]) == (1, 11)
    assert "too much to do" in error["msg"]
    assert ask(house, seconds=20, late=18)[0] == 0


@pytest.mark.parametrize("variable", ["PODNET_STATE_DIR", "PODNET_STORE"])
def test_a_caller_with_other_settings_is_refused(house, variable, tmp_path):
    other = {"PODNET_STATE_DIR": "/elsewhere", "PODNET_STORE": "file:/elsewhere"}[variable]
    code, error = ask(house, **{variable: other})
    assert (code, error["code"]) == (1, 4)
    assert error["msg"] == "podnet's agent has other settings than its caller"
    assert f"{variable}={other}" in error["details"]
    same = {"PODNET_STATE_DIR": house.settings.state_dir, "PODNET_STORE": house.settings.store}
    assert ask(house, **same)[0] == 0


def test_settings_of_a_caller_that_cannot_be_read(house):
    code, error = ask(house, PODNET_CONFIG="/nowhere")
    assert (code, error["code"], error["msg"]) == (1, 5, "cannot read PODNET_CONFIG /nowhere")


def test_many_callers_with_other_settings_are_not_remembered_for_good(house):
    desk = Desk(house)
    for n in range(300):
        desk.answer(
            Request("x", {"CNI_COMMAND": "STATUS", "PODNET_STORE": f"file:/{n}"}, b"", 9), 0
        )
    assert len(desk._judged) <= 64


def test_an_executable_gets_the_callers_trace(house, tmp_path):
    tool = tmp_path / "tracer"
    tool.write_text(
        f"#!{sys.executable}\nimport os\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(os.environ.get('TRACEPARENT', ''))\n"
        'print(\'{"cniVersion": "1.0.0", "ips": []}\')\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    config = {**CONFIG, "ipam": {"type": "tracer"}}
    ask(house, "macvlan", {**config, "master": "up0"}, TRACEPARENT="00-ab", CNI_PATH=str(tmp_path))
    assert (tmp_path / "seen").read_text() == "00-ab"
    assert "TRACEPARENT" not in os.environ
