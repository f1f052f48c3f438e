"""CHECK of one interface: what the previous result says against what the kernel has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from podnet.errors import InterfaceExistsError, InvalidConfigError, LinkNotFoundError
from podnet.interface import layer3
from podnet.model.conf import network_config
from podnet.model.facts import Probe
from podnet.model.ops import Place
from podnet.model.result import parse_result

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.engine.journal import Record
    from podnet.model.attachment import Call
    from podnet.model.result import Result

STORED = "1.1.0"
"""Version of results inside records, whatever the configuration speaks."""


def previous_of(call: Call, record: Record | None) -> Result:
    """Return the previous result that a CHECK brings, else the recorded one.

    Raises:
        InvalidConfigError: there is neither.
    """
    previous = network_config(call.config).prev_result
    if previous is not None:
        return previous
    if record is not None and "result" in record.body:
        return parse_result(record.body["result"], STORED)
    raise InvalidConfigError("Required prevResult missing", (("prevResult", "is required"),))


def compare(
    house: House, driver: Any, want: Any, previous: Result, record: Record | None
) -> list[str]:
    """Return every difference, as sentences.

    Args:
        house: the parts.
        driver: the interface's kind.
        want: what the configuration asks for.
        previous: what was made, later chained plugins included.
        record: what ADD remembered; None if the interface is another program's.

    Raises:
        InvalidNetnsError: there is no sandbox.
    """
    name = want.link.name
    interfaces = enumerate(previous.interfaces)
    at = next((n for n, each in interfaces if each.name == name and each.sandbox), None)
    if at is None:
        return [f"prevResult has no interface {name} in a sandbox"]
    ips = tuple(ip for ip in previous.ips if ip.interface == at)
    if want.ipam and not ips:
        return [f"prevResult has no address of interface {name}"]
    memory = record.body.get("memory", {}) if record else {}
    want = driver.recalled(want, previous, at, evolve(previous, ips=ips), memory)
    everywhere = Probe(default_routes=frozenset({Place.SANDBOX}))
    with house.kernel.open(want.sandbox) as sandbox:
        have = sandbox.probe(driver.ask(want) | everywhere)
    found = list(layer3.faults(want.link, have))
    try:
        ops = layer3.untolerated(driver.plan(want, have), have)
    except (LinkNotFoundError, InterfaceExistsError, InvalidConfigError) as error:
        return [*found, str(error)]
    return [*found, *(f"has to {op}" for op in ops)]
