"""Which records a person means by a namespace, a container or a pod."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.engine.attached import all_sandboxes, listed
from podnet.engine.recovery import recorded_call
from podnet.errors import InvalidEnvironmentError, RecordError, UnknownContainerError
from podnet.model.conf import inject
from podnet.model.printing import result_document
from podnet.model.reader import Reader
from podnet.model.result import parse_result
from podnet.model.versions import CURRENT, SINCE, allows, reconcile

if TYPE_CHECKING:
    from podnet.engine.attached import Attached
    from podnet.engine.journal import Journal, Record
    from podnet.model.attachment import Call, Pod


@frozen(kw_only=True)
class Known:
    """What a journal knows, each interface told once.

    Attributes:
        records: sandboxes, then interfaces that a runtime made by calling a single plugin.
        unreadable: what cannot be read, and may be any of them.
        orphans: interfaces of sandboxes whose record cannot be read.
    """

    records: tuple[Record, ...]
    unreadable: tuple[RecordError, ...]
    orphans: tuple[Record, ...]

    @property
    def everything(self) -> tuple[Record | RecordError, ...]:
        """All of it, in the order that people see it in."""
        return (*self.records, *self.unreadable, *self.orphans)


def known(journal: Journal) -> Known:
    """Return what a journal knows."""
    records: list[Record] = []
    unreadable: list[RecordError] = []
    for entry in all_sandboxes(journal):
        (unreadable if isinstance(entry, RecordError) else records).append(entry)  # type: ignore[arg-type]  # each to its own list
    lost = {error.place[2] for error in unreadable}
    within = {
        (record.container_id, network.interface)
        for record in records
        for network in listed(record).networks
    }
    orphans = []
    for entry in journal.all("interface"):
        if isinstance(entry, RecordError):
            unreadable.append(entry)
        elif entry.container_id in lost:
            orphans.append(entry)
        elif (entry.container_id, entry.ifname) not in within:
            records.append(entry)
    return Known(records=tuple(records), unreadable=tuple(unreadable), orphans=tuple(orphans))


def choose(
    everything: Known, netns: str | None, container_id: str | None, pod: Pod | None
) -> tuple[Record, ...]:
    """Return the records that are meant.

    Args:
        everything: what there is.
        netns: path of a namespace.
        container_id: a container's id, or a beginning of it that no other has.
        pod: a pod, by namespace and name.

    Raises:
        InvalidEnvironmentError: nothing is named.
        UnknownContainerError: the beginning of an id fits several containers.
    """
    if netns is None and container_id is None and pod is None:
        raise InvalidEnvironmentError("name the sandbox: netns, container id or pod")
    if container_id is not None:
        container_id = whole_id(everything, container_id)
    return tuple(
        record for record in everything.records if _is_meant(record, netns, container_id, pod)
    )


def _is_meant(record: Record, netns: str | None, container_id: str | None, pod: Pod | None) -> bool:
    if netns is not None and settled_path(netns) != settled_path(record.netns):
        return False
    if container_id is not None and container_id != record.container_id:
        return False
    if pod is None:
        return True
    told: Attached = listed(record)
    return told.pod is not None and (told.pod.namespace, told.pod.name) == (
        pod.namespace,
        pod.name,
    )


def settled_path(netns: str) -> str:
    """Return a namespace's path without links in its folder: ``/var/run`` is ``/run`` on Debian.

    The last part stays: below ``/proc`` it is a link that tells the namespace instead of a path.
    """
    folder, name = os.path.split(os.path.abspath(netns))
    return os.path.join(os.path.realpath(folder), name)


def whole_id(everything: Known, beginning: str) -> str:
    """Return the container id that a text begins, or the text if it begins none.

    Raises:
        UnknownContainerError: it fits several containers.
    """
    ids = {record.container_id for record in everything.records}
    ids |= {error.place[2] for error in everything.unreadable}
    if beginning in ids or not beginning:
        return beginning
    fitting = sorted(each for each in ids if each.startswith(beginning))
    if len(fitting) > 1:
        raise UnknownContainerError(
            f"container id {beginning} is not unique", f"it begins {', '.join(fitting)}"
        )
    return fitting[0] if fitting else beginning


def check_call(record: Record) -> Call:
    """Return the CHECK of an interface that a runtime made, in a version that knows the verb."""
    call = recorded_call(record)
    version = reconcile(Reader(record.config).string("cniVersion"))
    if not allows(version, "CHECK"):
        version = SINCE["CHECK"]
    result = parse_result(record.body["result"], CURRENT)
    config = inject(
        record.config,
        record.network,
        version,
        prev_result=result_document(result, version),
        runtime_config=Reader(record.config).section("runtimeConfig").document or None,
    )
    return evolve(call, verb="CHECK", config=config)
