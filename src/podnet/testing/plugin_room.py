"""A house with one interface plugin in it: a fake IPAM, any kernel, a journal on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from podnet.engine import registry
from podnet.engine.house import House, no_step
from podnet.engine.settings import Settings
from podnet.errors import PodnetError
from podnet.model.attachment import Call, Done
from podnet.model.printing import print_error, print_result, result_document
from podnet.model.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

VERSION = "1.1.0"


class FakeIpam:
    """An executor whose every plugin gives the same answer, once per owner.

    Attributes:
        answer: what ADD gives; an error is what every verb ends in.
        held: owners, as (container id, interface name), that were given it and did not return it.
        calls: every call, in order.
    """

    def __init__(self, answer: Result | PodnetError) -> None:
        """Take the answer."""
        self.answer = answer
        self.held: set[tuple[str, str]] = set()
        self.calls: list[Call] = []

    def has(self, plugin: str) -> bool:
        """Know every plugin."""
        return bool(plugin)

    def run(self, call: Call) -> Done:
        """Do what an IPAM plugin does."""
        self.calls.append(call)
        if isinstance(self.answer, PodnetError):
            return Done(1, print_error(self.answer))
        owner = (call.container_id, call.ifname)
        if call.verb == "DEL":
            self.held.discard(owner)
        if call.verb != "ADD":
            return Done(0)
        self.held.add(owner)
        return Done(0, print_result(self.answer, VERSION))


class Room:
    """One plugin's calls, on a kernel of the test's choice."""

    def __init__(
        self,
        folder: Path,
        kernel: Any,
        ipam: Result | PodnetError | None = None,
        step: Callable[[str], None] = no_step,
    ) -> None:
        """Open a house whose state is below ``folder``."""
        settings = Settings(state_dir=str(folder), node="node-1", store=f"file:{folder}/leases")
        self.house = House(settings, kernel=kernel, step=step)
        self.ipam = FakeIpam(Result() if ipam is None else ipam)
        self.house.executor = self.ipam

    def call(self, verb: str, netns: str, config: Mapping[str, object], **fields: Any) -> Call:
        """Return a call of the plugin that the configuration is for."""
        document = {"cniVersion": VERSION, "name": "net", **config}
        given = {"container_id": "c1", "ifname": "eth1", **fields}
        kind = str(document["type"])
        return Call(plugin=kind, verb=verb, netns=netns, config=document, **given)

    def run(self, call: Call) -> Result | None:
        """Do a call and return what the plugin said."""
        plugin = registry.resolve(registry.PLUGINS[call.plugin])(self.house, call.plugin)
        method = {"ADD": "add", "DEL": "delete", "CHECK": "check", "GC": "gc", "STATUS": "status"}
        result: Result | None = getattr(plugin, method[call.verb])(call)
        return result

    def again(self, call: Call, verb: str, previous: Result | None = None) -> Result | None:
        """Do another verb with the parameters of a call, with a previous result if given."""
        config = dict(call.config)
        if previous is not None:
            config["prevResult"] = result_document(previous, VERSION)
        return self.run(evolve(call, verb=verb, config=config))

    def records(self) -> list[Any]:
        """Return all records of the journal."""
        return list(self.house.journal.all("interface"))
