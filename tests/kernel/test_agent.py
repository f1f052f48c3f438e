"""The agent under load, and when it is killed, stopped or replaced: nothing is left behind."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from .rig import MACVLAN, addresses, rig_in
from .test_plugin import (  # noqa: F401 - fixtures
    Runtime,
    agent_of,
    assert_nothing_is_left,
    shim_dir,
    start_agent,
)

pytestmark = pytest.mark.kernel

SECONDS = 300.0 if "PODNET_TEST_LONG" in os.environ else 8.0
CALLERS = 32


@pytest.fixture
def runtime(tmp_path, shim_dir):  # noqa: F811 - the fixture of the other module
    (tmp_path / "node").mkdir()
    with rig_in(tmp_path / "node") as rig:
        yield Runtime(rig, shim_dir)


def both(runtime, containers, verb):
    with ThreadPoolExecutor(CALLERS) as threads:
        done = threads.map(lambda each: runtime.run("macvlan", verb, MACVLAN, each), containers)
        return [(code, answer, noise) for code, answer, noise in done]


def test_many_pods_at_once(runtime):
    containers = [runtime.rig.container(f"c{n}") for n in range(CALLERS)]
    with agent_of(runtime):
        added = both(runtime, containers, "ADD")
        assert [code for code, _, _ in added] == [0] * CALLERS
        told = {answer["ips"][0]["address"].split("/")[0] for _, answer, _ in added}
        assert len(told) == CALLERS
        assert told == {addresses(each)["eth1"] for each in containers}
        runtime.rig.assert_no_address_twice()
        assert [code for code, _, _ in both(runtime, containers, "DEL")] == [0] * CALLERS
        assert_nothing_is_left(runtime, *containers)
    assert runtime.told["answered"] == 2 * CALLERS
    assert "refused" not in runtime.told


def test_whatever_becomes_of_the_agent(runtime):
    """Every call ends with success or an error that says to try again; in the end all is clean."""
    containers = [runtime.rig.container(f"c{n}") for n in range(CALLERS)]
    chance, stop, wrong = random.Random(4), threading.Event(), []
    runtime.environ["PODNET_TIMEOUT"] = "6"

    def live(container):
        while not stop.is_set():
            for verb in ("ADD", "DEL"):
                code, answer, _ = runtime.run("macvlan", verb, MACVLAN, container)
                # An ADD may find what an earlier one made that was given up: it says so, and a
                # runtime calls DEL then.
                if code and answer["code"] not in (11, 102):
                    wrong.append((verb, answer))

    agents = [start_agent(runtime)]
    with ThreadPoolExecutor(CALLERS) as threads:
        lives = [threads.submit(live, each) for each in containers]
        ends = time.monotonic() + SECONDS
        try:
            while time.monotonic() < ends and not wrong:
                time.sleep(0.3)
                what = chance.choice(["kill", "stop", "end", "replace"])
                if what == "kill":
                    agents[-1].kill()
                elif what == "end":
                    agents[-1].terminate()
                elif what == "stop":
                    agents[-1].send_signal(signal.SIGSTOP)
                    time.sleep(0.5)
                    agents[-1].send_signal(signal.SIGCONT)
                    continue
                agents.append(start_agent(runtime))
        finally:
            stop.set()
            for each in lives:
                each.result(60)
            for agent in agents:
                agent.terminate()
                agent.communicate(timeout=60)
    assert wrong == []
    for each in containers:
        runtime.good("macvlan", "DEL", MACVLAN, each)
    runtime.good("macvlan", "GC", {**MACVLAN, "cni.dev/valid-attachments": []})
    runtime.rig.age()
    runtime.good("macvlan", "GC", {**MACVLAN, "cni.dev/valid-attachments": []})
    assert_nothing_is_left(runtime, *containers)
