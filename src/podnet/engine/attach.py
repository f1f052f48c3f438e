"""Attach, detach, check and collect sandboxes: loops around the delegate machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from attrs import evolve

from podnet.delegation.chain import Adding
from podnet.delegation.plan import Sandbox, Standing, plugin_call
from podnet.delegation.sweep import Checking, Collecting, Deleting
from podnet.engine.attached import Attached, describe, listed, pod_of, standings, to_body
from podnet.engine.gateway import move_default_route
from podnet.engine.journal import Record
from podnet.engine.planning import Request, planned, selection_of
from podnet.engine.registry import PLUGINS
from podnet.errors import InterfaceExistsError, InvalidConfigError, PodnetError, RecordError
from podnet.model.facts import Probe
from podnet.model.ops import LinkName, Place
from podnet.model.printing import result_document
from podnet.model.reader import Reader
from podnet.model.result import Interface, Result
from podnet.model.versions import SINCE, allows, requires_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.delegation.plan import Attachment
    from podnet.engine.house import House
    from podnet.model.attachment import Call, Done
    from podnet.model.conflist import NetworkConfigList

__all__ = [
    "Attached",
    "Request",
    "attach",
    "check",
    "collect",
    "describe",
    "detach",
    "drive",
    "key",
    "listed",
    "selection_of",
]

_FOR_ADDING = 0.7
"""Share of a call's time that adding may take; what is left is for undoing it."""

_LEAST = 5.0
"""Seconds every call gets however late it is: an undo that is not tried leaves something."""


class Machine(Protocol):
    """A delegate machine: hands out calls and takes what became of them."""

    def next(self) -> Call | None: ...

    def feed(self, outcome: Done | PodnetError) -> None: ...


def key(record: Record) -> tuple[str, str, str, str]:
    """Return what a record is found by."""
    return (record.role, record.network, record.container_id, record.ifname)


def attach(house: House, request: Request) -> Attached:
    """Make all attachments of a request, or none; the caller holds the container's lock.

    Raises:
        InterfaceExistsError: the container is attached already.
        PodnetError: nothing is attached; the first error, naming plugin and network.
    """
    _clear_the_way(house, request)
    attachments = planned(house, request)
    sandbox = Sandbox(
        container_id=request.container_id,
        netns=request.netns,
        path=request.path,
        timeout=request.timeout,
    )
    machine = Adding(attachments, sandbox)
    validate(house, attachments, sandbox)
    identity = _look(house, request, attachments)
    record = Record(
        role="sandbox",
        network=request.network,
        container_id=request.container_id,
        ifname=request.ifname,
        netns=request.netns,
        netns_id=identity,
        config=request.config,
        args=request.args,
        path=request.path,
        store=house.store_url,
        timeout=request.timeout,
        body=to_body(request.pod, attachments),
    )
    house.step("journal.intend")
    house.journal.intend(record)
    drive(house, machine, request.timeout * _FOR_ADDING)
    if machine.failure is not None:
        _settle(house, record, machine.unclean)
        raise machine.failure
    try:
        made = move_default_route(house, record.netns, machine.made)
    except PodnetError:
        undo = Deleting(machine.made, _sandbox(record))
        drive(house, undo, record.timeout)
        _settle(house, record, undo.failed)
        raise
    done = evolve(record, stage="done", body=to_body(request.pod, attachments, made))
    house.step("journal.finish")
    house.journal.finish(done)
    return describe(done)


def validate(house: House, attachments: Iterable[Attachment], sandbox: Sandbox) -> None:
    """Let pass what the built-in plugins can do, before anything is done.

    Raises:
        InvalidConfigError: with the mistakes of all networks at once.
        PodnetError: a store cannot be opened, or a field is not supported.
    """
    mistakes: list[tuple[str, str]] = []
    for attachment in attachments:
        for index, plugin in enumerate(attachment.config.plugins):
            own = house.plugin(Reader(plugin).string("type"))
            if own is None:
                continue
            call = plugin_call("ADD", Standing(attachment=attachment), index, sandbox)
            try:
                own.validate(call)
            except InvalidConfigError as error:
                where = f"{attachment.network}: plugins[{index}]"
                mistakes += [(f"{where}.{path}", what) for path, what in error.mistakes]
                mistakes += [] if error.mistakes else [(where, error.msg)]
    if mistakes:
        raise InvalidConfigError("invalid network configuration", tuple(mistakes))


def detach(house: House, record: Record) -> None:
    """Undo every attachment of a record and forget it; the caller holds the container's lock.

    Raises:
        PodnetError: something could not be undone; the record is kept for a retry.
    """
    machine = Deleting(standings(record), _sandbox(record))
    with house.at_store(record.store):
        drive(house, machine, record.timeout)
    if machine.failure is not None:
        raise machine.failure
    house.step("journal.forget")
    house.journal.forget(*key(record))


def check(house: House, record: Record) -> None:
    """Compare every attachment of a record with what exists.

    Raises:
        PodnetError: what differs, by plugin and network.
    """
    machine = Checking([lifted(each, "CHECK") for each in standings(record)], _sandbox(record))
    with house.at_store(record.store):
        drive(house, machine, record.timeout)
    if machine.failure is not None:
        raise machine.failure


def collect(house: House, network: str, valid: frozenset[tuple[str, str]]) -> tuple[Record, ...]:
    """Detach all sandboxes of a network that are not valid, then let every delegate collect.

    The caller holds the lock that excludes ADD and DEL.

    Args:
        house: the parts.
        network: CNI network name that the runtime knows the sandboxes by.
        valid: (container id, interface name) pairs that the runtime still has.

    Returns:
        The records of what was detached.

    Raises:
        PodnetError: some could not be undone or read; all others are.
    """
    house.journal.tidy()
    gone: list[Record] = []
    kept: list[Record] = []
    errors: list[PodnetError] = []
    for record in house.journal.all("sandbox"):
        if isinstance(record, RecordError):
            errors.append(record)
        elif record.network != network or (record.container_id, record.ifname) in valid:
            kept.append(record)
        else:
            try:
                detach(house, record)
                gone.append(record)
            except PodnetError as error:
                errors.append(error)
                kept.append(record)
    # A record that cannot be read may be of a live sandbox, whose interfaces every delegate would
    # take for left-overs.
    if not any(isinstance(error, RecordError) for error in errors):
        errors += _collect_delegates(house, gone, kept)
    if errors:
        raise _together(errors)
    return tuple(gone)


def _collect_delegates(house: House, gone: list[Record], kept: list[Record]) -> list[PodnetError]:
    """Run GC of every network that a record names, with the attachments that are kept."""
    networks: dict[str, NetworkConfigList] = {}
    live: dict[str, list[tuple[str, str]]] = {}
    paths: dict[str, None] = {}
    for records, stays in ((gone, False), (kept, True)):
        for record in records:
            paths |= dict.fromkeys(record.path)
            for standing in standings(record):
                attachment = lifted(standing, "GC").attachment
                name = attachment.config.name
                networks.setdefault(name, attachment.config)
                pairs = live.setdefault(name, [])
                if stays:
                    pairs.append((record.container_id, attachment.ifname))
    timeout = house.settings.timeout
    machine = Collecting(
        [(config, live[name]) for name, config in networks.items()],
        Sandbox(path=tuple(paths), timeout=timeout),
    )
    drive(house, machine, timeout)
    return [machine.failure] if machine.failure is not None else []


def lifted(standing: Standing, verb: str) -> Standing:
    """Return an attachment in a version that has the verb, if podnet itself makes all of it.

    A network of version 0.3.1 knows neither CHECK nor GC, and an executable must not be called
    with them. Built-ins can do both whatever the version says, and people expect it of
    ``podnet check`` and of what a crash left behind.
    """
    config = standing.attachment.config
    since = SINCE[verb]
    if allows(config.cni_version, verb) or not all(_is_builtin(p) for p in config.plugins):
        return standing
    document = standing.document
    if standing.result is not None:
        document = result_document(_whole_result(standing), since)
    newer = evolve(standing.attachment, config=evolve(config, cni_version=since))
    return evolve(standing, attachment=newer, document=document)


def _whole_result(standing: Standing) -> Result:
    """Return the result with the interface that versions up to 0.2.0 have no word for."""
    result = standing.result or Result()
    if not requires_address(standing.attachment.config.cni_version):
        return result
    # CHECK gets the path of the namespace by itself: here it only tells inside from outside.
    interface = Interface(standing.attachment.ifname, sandbox="sandbox")
    ips = tuple(evolve(ip, interface=0) for ip in result.ips)
    return evolve(result, interfaces=(interface,), ips=ips)


def _is_builtin(plugin: Mapping[str, object]) -> bool:
    reader = Reader(plugin)
    ipam = reader.section("ipam").string("type")
    return reader.string("type") in PLUGINS and (not ipam or ipam in PLUGINS)


def _clear_the_way(house: House, request: Request) -> None:
    """Undo what an interrupted ADD of the same container left; refuse a second ADD.

    CNI 1.1.0, section 3: a runtime should not ADD twice without a DEL between. The first
    attachment must survive the second's refusal.
    """
    earlier = house.journal.find("sandbox", request.network, request.container_id, request.ifname)
    if earlier is None:
        return
    if earlier.stage == "done":
        raise InterfaceExistsError(
            f"container {request.container_id} is attached already",
            "detach it first; what it has was left alone",
        )
    detach(house, earlier)


def _look(house: House, request: Request, attachments: tuple[Attachment, ...]) -> str:
    """Return the namespace's identity, if none of the requested interfaces is in it.

    Before anything is done: an executable that refuses such an interface fails its ADD, and the
    DEL that undoes a failed ADD deletes whatever has that name (cni plugins, all main plugins).
    """
    wanted = frozenset(LinkName(Place.SANDBOX, each.ifname) for each in attachments)
    with house.kernel.open(request.netns) as namespace:
        there = namespace.probe(Probe(links=wanted)).links
        if there:
            names = ", ".join(sorted(link.name for link in there))
            raise InterfaceExistsError(
                f"interface {names} exists already in {request.netns}; it was left alone"
            )
        identity: str = namespace.identity
    return identity


def drive(house: House, machine: Machine, seconds: float) -> None:
    """Run the calls a machine hands out until it has none left.

    Args:
        house: the parts.
        machine: decides what is called next.
        seconds: what all calls together may take.
    """
    deadline = time.monotonic() + seconds
    while (call := machine.next()) is not None:
        left = max(deadline - time.monotonic(), _LEAST)
        house.step(f"{call.verb} {call.plugin} {call.ifname}".rstrip())
        try:
            outcome: Done | PodnetError = house.executor.run(
                evolve(call, timeout=min(call.timeout, left))
            )
        except PodnetError as error:
            outcome = error
        machine.feed(outcome)


def _settle(house: House, record: Record, unclean: tuple[Attachment, ...]) -> None:
    """Forget a failed ADD whose undoing went well; keep what still needs a DEL."""
    if not unclean:
        house.step("journal.forget")
        house.journal.forget(*key(record))
        return
    house.journal.finish(evolve(record, body=to_body(pod_of(record), unclean)))


def _sandbox(record: Record) -> Sandbox:
    return Sandbox(
        container_id=record.container_id,
        netns=record.netns,
        path=tuple(record.path),
        timeout=record.timeout,
    )


def _together(errors: list[PodnetError]) -> PodnetError:
    """Return the first error with the others in its details."""
    first = errors[0]
    others = "; ".join(str(error) for error in errors[1:])
    if others:
        first.details = f"{first.details}; {others}" if first.details else others
    return first
