"""The contract of the Executor seam, for any executor, and a scripted fake of one.

An executor of your own is held to it with a subclass::

    class TestMyExecutor(podnet.testing.ExecutorContract):
        def open(self, folder):
            return MyExecutor()

The contract's plugin lies in ``folder``, which every call has as its path; an executor that runs
functions runs ``contract_plugin`` under the name ``PLUGIN``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from podnet.errors import DeadlineError, DelegateError, PluginNotFoundError, PodnetError
from podnet.model.attachment import Call, Done
from podnet.model.wire import print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podnet.ports import Executor

PLUGIN = "podnet-contract"

# Not names of plugins, however the folders lie.
TRICKS = (
    "",
    ".",
    "..",
    "../podnet-contract",
    "/bin/true",
    "a/b",
    "no-such-plugin",
    "a\0b",
    "\ud800",
)

# The same as ``contract_plugin``, for executors that need a file.
SCRIPT = """#!{python} -IS
import json, os, sys, time
config = json.load(sys.stdin)
behave = config.get("behave", "echo")
if behave == "refuse":
    print(json.dumps({{"code": 142, "msg": "refused"}}))
    sys.exit(1)
if behave == "crash":
    raise RuntimeError("crashed")
if behave == "sleep":
    time.sleep(60)
if behave == "shout":
    sys.stderr.write("x" * 300_000)
cni = {{key: value for key, value in os.environ.items() if key.startswith("CNI_")}}
print(json.dumps({{"environment": cni, "config": config}}))
"""


def contract_plugin(call: Call) -> bytes:
    """Print what the call says, or behave as ``config["behave"]`` asks.

    Raises:
        DelegateError: it is asked to refuse.
        RuntimeError: it is asked to crash.
    """
    behave = call.config.get("behave", "echo")
    if behave == "refuse":
        raise DelegateError("refused", code=142)
    if behave == "crash":
        raise RuntimeError("crashed")
    if behave == "sleep":
        time.sleep(60)
    return print_json({"environment": call.environment(), "config": dict(call.config)})


class FakeExecutor:
    """Answers from a script and remembers the calls.

    Attributes:
        calls: every call that was run, in order.
    """

    def __init__(
        self,
        table: Mapping[str, Callable[[Call], Done] | Sequence[Done | PodnetError]],
    ) -> None:
        """Take the answers by plugin: a function of the call, or answers one after the other.

        An answer that is an error is raised; where answers have run out, the plugin succeeds with
        an empty result.
        """
        self._table = {
            name: answer if callable(answer) else iter(answer) for name, answer in table.items()
        }
        self.calls: list[Call] = []

    def has(self, plugin: str) -> bool:
        """Tell whether there are answers for the plugin."""
        return plugin in self._table

    def run(self, call: Call) -> Done:
        """Return the next answer.

        Raises:
            PluginNotFoundError: there are none for this plugin.
            PodnetError: the answer is one.
        """
        if call.plugin not in self._table:
            raise PluginNotFoundError(f"the script has no plugin {call.plugin!r}")
        self.calls.append(call)
        answer = self._table[call.plugin]
        said = answer(call) if callable(answer) else next(answer, Done(0, b"{}"))
        if isinstance(said, PodnetError):
            raise said
        return said


class ExecutorContract:
    """What every executor keeps.

    Attributes:
        enforces_deadline: whether it ends a plugin at the deadline, as one that runs it in its
            own thread cannot.
    """

    enforces_deadline = True

    def open(self, folder: str) -> Executor:
        """Return the executor; the contract's plugin is in ``folder``."""
        raise TypeError(
            "open(folder) has to be overridden: it returns the executor to be held to the contract"
        )

    @pytest.fixture
    def folder(self, tmp_path: os.PathLike[str]) -> str:
        """A folder with the contract's plugin."""
        path = os.path.join(tmp_path, PLUGIN)
        with open(path, "w", encoding="utf-8") as file:
            file.write(SCRIPT.format(python=sys.executable))
        os.chmod(path, 0o755)  # noqa: S103 - an executable
        return os.fspath(tmp_path)

    def call(self, folder: str, **config: object) -> Call:
        """Return an ADD call of the contract's plugin with that configuration."""
        return Call(
            plugin=PLUGIN,
            verb="ADD",
            container_id="c1",
            netns="/run/netns/c1",
            ifname="net1",
            args="IgnoreUnknown=1;MAC=02:00:00:00:00:01",
            path=(folder,),
            config={"cniVersion": "1.0.0", "name": "n", "type": PLUGIN, **config},
            timeout=30.0,
        )

    def test_the_plugin_gets_what_the_call_says(self, folder: str) -> None:
        """Environment and configuration arrive whole."""
        call = self.call(folder, deep={"é": [1, 2.5, None, True, "<&>\u2028"]})
        done = self.open(folder).run(call)
        assert done.exit_code == 0
        said = json.loads(done.stdout)
        assert said == {"environment": call.environment(), "config": dict(call.config)}

    def test_a_refusal_is_data(self, folder: str) -> None:
        """A non-zero exit is returned, with the error object."""
        done = self.open(folder).run(self.call(folder, behave="refuse"))
        assert done.exit_code != 0
        said = json.loads(done.stdout)
        assert (said["code"], said["msg"]) == (142, "refused")

    def test_a_crash_is_data(self, folder: str) -> None:
        """So is one that nobody meant."""
        done = self.open(folder).run(self.call(folder, behave="crash"))
        assert done.exit_code != 0
        assert b"crashed" in done.stdout + done.stderr

    def test_much_in_and_much_out_do_not_block_each_other(self, folder: str) -> None:
        """More than a pipe's 64 KiB goes both ways at once."""
        call = self.call(folder, behave="shout", filler="y" * 300_000)
        done = self.open(folder).run(call)
        assert done.exit_code == 0
        assert json.loads(done.stdout)["config"] == dict(call.config)

    def test_has_knows_names_and_nothing_else(self, folder: str) -> None:
        """No trick finds a plugin."""
        executor = self.open(folder)
        assert executor.has(PLUGIN)
        assert not any(executor.has(name) for name in TRICKS)

    @pytest.mark.parametrize("name", TRICKS)
    def test_what_is_no_plugin_is_not_found(self, folder: str, name: str) -> None:
        """Nor does it run one."""
        call = Call(plugin=name, verb="ADD", path=(folder,), config={"name": "n"})
        with pytest.raises(PluginNotFoundError):
            self.open(folder).run(call)

    def test_calls_do_not_mix(self, folder: str) -> None:
        """Threads may share an executor."""
        executor = self.open(folder)
        calls = [self.call(folder, number=number) for number in range(8)]
        with ThreadPoolExecutor(4) as threads:
            said = [json.loads(done.stdout) for done in threads.map(executor.run, calls)]
        assert [each["config"]["number"] for each in said] == list(range(8))

    def test_the_deadline_ends_it(self, folder: str) -> None:
        """A plugin that does not end is ended."""
        if not self.enforces_deadline:
            pytest.skip("runs plugins in the caller's thread")
        call = self.call(folder, behave="sleep")
        late = Call(plugin=PLUGIN, verb="ADD", path=call.path, config=call.config, timeout=0.3)
        before = time.monotonic()
        with pytest.raises(DeadlineError) as caught:
            self.open(folder).run(late)
        assert time.monotonic() - before < 10
        assert caught.value.code == 11
