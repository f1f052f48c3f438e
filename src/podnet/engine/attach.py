"""Attach, detach and check sandboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.delegation.chain import Adding
from podnet.delegation.plan import Sandbox, Standing, plugin_call
from podnet.delegation.sweep import Checking, Deleting
from podnet.engine.attached import Attached, describe, listed, pod_of, standings, to_body
from podnet.engine.driving import drive, site
from podnet.engine.gateway import move_default_route
from podnet.engine.journal import Record
from podnet.engine.lifting import lifted
from podnet.engine.planning import Request, planned, selection_of
from podnet.errors import InterfaceExistsError, InvalidConfigError, PodnetError, together
from podnet.model.facts import Probe
from podnet.model.ops import LinkName, Place
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.delegation.plan import Attachment
    from podnet.engine.house import House
    from podnet.model.attachment import Pod

__all__ = [
    "Attached",
    "Request",
    "attach",
    "check",
    "describe",
    "detach",
    "key",
    "listed",
    "selection_of",
]

_FOR_ADDING = 0.7
"""Share of a call's time that adding may take; what is left is for undoing it."""


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
    with house.within(request.network, request.container_id, request.ifname):
        return _make(house, record, machine, attachments)


def _make(
    house: House, record: Record, machine: Adding, attachments: tuple[Attachment, ...]
) -> Attached:
    """Do what the record intends, or undo it."""
    drive(house, machine, share=_FOR_ADDING)
    if machine.failure is not None:
        _settle(house, record, machine.failure, machine.unclean)
        raise machine.failure
    pod = pod_of(record)
    try:
        made = move_default_route(house, record.netns, machine.made)
        done = evolve(record, stage="done", body=to_body(pod, attachments, made))
        attached = describe(done)
        _tell_claims(house, machine, pod)
        house.step("journal.finish")
        house.journal.finish(done)
    except PodnetError as error:
        undo = Deleting(machine.made, site(house, record))
        drive(house, undo)
        _settle(house, record, error, undo.failed)
        raise
    return attached


def _tell_claims(house: House, machine: Adding, pod: Pod | None) -> None:
    """Tell each IPAMClaim that the pod refers to which addresses it holds now.

    A failure fails the ADD: the addresses are the claim's already, and the retry is given them.
    """
    for standing in machine.made:
        asked = standing.attachment.selection
        if asked and asked.ipam_claim_reference and standing.result is not None:
            house.step("claim.tell")
            ips = [ip.address for ip in standing.result.ips]
            name = pod.name if pod else ""
            house.claims.tell(asked.namespace, asked.ipam_claim_reference, ips, name)


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
            except PodnetError as error:
                error.msg = f"{attachment.network}: {error.msg}"
                raise
    if mistakes:
        raise InvalidConfigError("invalid network configuration", tuple(mistakes))


def detach(house: House, record: Record) -> None:
    """Undo every attachment of a record and forget it; the caller holds the container's lock.

    Raises:
        PodnetError: something could not be undone; the record is kept for a retry.
    """
    machine = Deleting(standings(record), site(house, record))
    with house.at_store(record.store):
        drive(house, machine)
    if machine.failure is not None:
        raise machine.failure
    house.step("journal.forget")
    house.journal.forget(*key(record))


def check(house: House, record: Record) -> None:
    """Compare every attachment of a record with what exists.

    Raises:
        PodnetError: what differs, by plugin and network.
    """
    sandbox = Sandbox(
        container_id=record.container_id,
        netns=record.netns,
        path=tuple(record.path),
        timeout=record.timeout,
    )
    machine = Checking([lifted(each, "CHECK") for each in standings(record)], sandbox)
    with house.at_store(record.store):
        drive(house, machine)
    if machine.failure is not None:
        raise machine.failure


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


def _settle(
    house: House, record: Record, failure: PodnetError, unclean: tuple[Attachment, ...]
) -> None:
    """Forget a failed ADD whose undoing went well; keep what still needs a DEL.

    That this fails as well is told with the failure: the record stays, and DEL finds it.
    """
    try:
        if unclean:
            house.journal.finish(evolve(record, body=to_body(pod_of(record), unclean)))
            return
        house.step("journal.forget")
        house.journal.forget(*key(record))
    except PodnetError as error:
        together([failure, error])
