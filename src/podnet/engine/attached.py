"""What is attached to a sandbox: as people see it, and as the journal keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from podnet.delegation.plan import Attachment, Standing
from podnet.delegation.status import entries_of, render_network_status
from podnet.errors import PodnetError, RecordError
from podnet.model.attachment import Pod
from podnet.model.cniargs import parse_cni_args
from podnet.model.conflist import NetworkConfigList, upconvert
from podnet.model.result import Result, parse_result
from podnet.model.versions import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from podnet.engine.journal import Journal, Record


@frozen(kw_only=True)
class AttachedNetwork:
    """One attachment of a sandbox.

    Attributes:
        name: the network, ``namespace/name`` of its definition, or its configuration's name.
        interface: interface name in the sandbox.
        type: type of its first plugin, such as ``macvlan``.
        ips: addresses with prefix length, as text.
        mac: hardware address; empty if the result tells none.
        gateway: gateways of its default routes.
        default: whether it is the pod's default network.
        result: what its plugins reported; empty if the ADD did not end well.
    """

    name: str
    interface: str
    type: str
    ips: tuple[str, ...] = ()
    mac: str = ""
    gateway: tuple[str, ...] = ()
    default: bool = False
    result: Result = field(factory=Result)


@frozen(kw_only=True)
class Attached:
    """A sandbox and its attachments.

    Attributes:
        container_id: the sandbox's id.
        netns: path of its network namespace.
        pod: whose it is; None if unknown.
        stage: ``done``; ``intent`` if an ADD was interrupted; ``unreadable`` if the record is.
        networks: its attachments, in order.
        network_status: value of the annotation ``k8s.v1.cni.cncf.io/network-status``.
    """

    container_id: str
    netns: str
    pod: Pod | None
    stage: str
    networks: tuple[AttachedNetwork, ...]
    network_status: str


def to_body(
    pod: Pod | None, attachments: Iterable[Attachment], made: Iterable[Standing] = ()
) -> dict[str, Any]:
    """Return the journal's form of a sandbox's attachments, with the results of those made."""
    documents = [standing.document for standing in made]
    listed = list(attachments)
    documents += [None] * (len(listed) - len(documents))
    return {
        "pod": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid} if pod else None,
        "attachments": [
            {
                "network": each.network,
                "name": each.config.name,
                "cniVersion": each.config.cni_version,
                "plugins": list(each.config.plugins),
                "disableCheck": each.config.disable_check,
                "disableGC": each.config.disable_gc,
                "ifname": each.ifname,
                "runtimeConfig": dict(each.runtime_config),
                "args": each.args,
                "default": each.default,
                "result": document,
            }
            for each, document in zip(listed, documents, strict=True)
        ],
    }


def standings(record: Record) -> tuple[Standing, ...]:
    """Return the attachments that a record holds.

    Raises:
        RecordError: it does not hold what a sandbox's record has to.
    """
    try:
        return tuple(_standing(entry) for entry in record.body["attachments"])
    except (KeyError, TypeError, ValueError, AttributeError, PodnetError) as error:
        raise RecordError(
            f"the journal record of container {record.container_id} is unreadable", str(error)
        ) from error


def find_sandbox(journal: Journal, network: str, container_id: str, ifname: str) -> Record | None:
    """Return the record of a sandbox, or None if there is none.

    Raises:
        RecordError: there is one, but it or what it holds cannot be understood.
        IOFailureError: the disk does not give it just now.
    """
    record = journal.find("sandbox", network, container_id, ifname)
    if record is not None:
        standings(record)
    return record


def all_sandboxes(journal: Journal) -> Iterator[Record | RecordError]:
    """Yield the records of all sandboxes, those that cannot be understood as their errors."""
    for entry in journal.all("sandbox"):
        if not isinstance(entry, RecordError):
            try:
                standings(entry)
            except RecordError as error:
                error.place = (entry.role, entry.network, entry.container_id, entry.ifname)
                yield error
                continue
        yield entry


def _standing(entry: Mapping[str, Any]) -> Standing:
    config = NetworkConfigList(
        name=entry["name"],
        cni_version=entry["cniVersion"],
        plugins=tuple(entry["plugins"]),
        disable_check=entry["disableCheck"],
        disable_gc=entry["disableGC"],
        document=entry,
    )
    attachment = Attachment(
        network=entry["network"],
        config=config,
        ifname=entry["ifname"],
        runtime_config=entry["runtimeConfig"],
        args=entry["args"],
        default=entry["default"],
    )
    document = entry["result"]
    result = None if document is None else parse_result(document, config.cni_version)
    return Standing(attachment=attachment, document=document, result=result)


def pod_of(record: Record) -> Pod | None:
    """Return the pod of a sandbox's record."""
    known = record.body.get("pod")
    return Pod(known["namespace"], known["name"], known["uid"]) if known else None


def describe(record: Record) -> Attached:
    """Return a record as people see it.

    Raises:
        RecordError: it does not hold what a sandbox's record has to.
    """
    found = standings(record)
    entries = [
        entry
        for standing in found
        if standing.result is not None
        for entry in entries_of(
            standing.attachment, standing.result, default=standing.attachment.default
        )
    ]
    return Attached(
        container_id=record.container_id,
        netns=record.netns,
        pod=pod_of(record),
        stage=record.stage,
        networks=tuple(_network(standing) for standing in found),
        network_status=render_network_status(entries),
    )


def _network(standing: Standing) -> AttachedNetwork:
    attachment, result = standing.attachment, standing.result or Result()
    inside = [each for each in result.interfaces if each.sandbox]
    first = next((each for each in inside if each.name == attachment.ifname), None)
    return AttachedNetwork(
        name=attachment.network,
        interface=attachment.ifname,
        type=str(attachment.config.plugins[0].get("type", "")),
        ips=tuple(ip.address for ip in result.ips),
        mac=first.mac if first else "",
        gateway=entries_of(attachment, result)[0].gateway,
        default=attachment.default,
        result=result,
    )


def listed(record: Record | RecordError) -> Attached:
    """Return any record of the journal as people see it in a list."""
    if isinstance(record, RecordError):
        return _unreadable(record)
    try:
        return describe(record) if record.role == "sandbox" else _single(record)
    except PodnetError as error:
        return _unreadable(RecordError(str(error)), record.container_id, record.netns)


def _unreadable(error: RecordError, container_id: str = "", netns: str = "") -> Attached:
    return Attached(
        container_id=container_id or error.place[2],
        netns=netns,
        pod=None,
        stage="unreadable",
        networks=(),
        network_status="",
    )


def _single(record: Record) -> Attached:
    """Return what a runtime made by calling one interface plugin."""
    config = upconvert(record.config)
    attachment = Attachment(network=config.name, config=config, ifname=record.ifname)
    document = record.body.get("result")
    result = None if document is None else parse_result(document, CURRENT)
    standing = Standing(attachment=attachment, document=document, result=result)
    args = dict(parse_cni_args(record.args))
    name = args.get("K8S_POD_NAME", "")
    return Attached(
        container_id=record.container_id,
        netns=record.netns,
        pod=Pod(args.get("K8S_POD_NAMESPACE", ""), name, args.get("K8S_POD_UID", ""))
        if name
        else None,
        stage=record.stage,
        networks=(_network(standing),),
        network_status=render_network_status(entries_of(attachment, result)),
    )
