"""GC: detach what the runtime no longer has, then let every network collect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from podnet.delegation.plan import Sandbox
from podnet.delegation.sweep import Collecting
from podnet.engine.attach import detach
from podnet.engine.attached import all_sandboxes, standings
from podnet.engine.driving import drive
from podnet.engine.lifting import lifted
from podnet.engine.recovery import recover
from podnet.errors import PodnetError, RecordError, together

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.engine.journal import Record
    from podnet.model.conflist import NetworkConfigList


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
    for record in all_sandboxes(house.journal):
        if isinstance(record, RecordError):
            errors.append(_unreadable(house, record, network, valid))
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
    if not any(isinstance(error, RecordError) and not error.settled for error in errors):
        errors += _collect_delegates(house, gone, kept)
    if errors:
        raise together(errors)
    return tuple(gone)


def _unreadable(
    house: House, error: RecordError, network: str, valid: frozenset[tuple[str, str]]
) -> PodnetError:
    """Return what to tell of an unreadable record; undo what it kept if its sandbox is gone."""
    _, of, container_id, ifname = error.place
    if of != network or (container_id, ifname) in valid:
        return error
    try:
        return recover(house, error, error.place)
    except PodnetError as failed:
        return failed


def _collect_delegates(house: House, gone: list[Record], kept: list[Record]) -> list[PodnetError]:
    """Run GC of every network that a record names, with the attachments that are kept."""
    networks: dict[tuple[str, str], NetworkConfigList] = {}
    live = _made_by_the_runtime(house)
    paths: dict[str, None] = {}
    for records, stays in ((gone, False), (kept, True)):
        for record in records:
            paths |= dict.fromkeys(record.path)
            for standing in standings(record):
                attachment = lifted(standing, "GC").attachment
                config = attachment.config
                # Two definitions may have one name inside, and different plugins.
                networks.setdefault((config.name, json.dumps(config.plugins)), config)
                if stays:
                    pair = (record.container_id, attachment.ifname)
                    live.setdefault(config.name, []).append(pair)
    machine = Collecting(
        [(config, live.get(name, [])) for (name, _), config in networks.items()],
        Sandbox(path=tuple(paths), timeout=house.settings.timeout),
    )
    drive(house, machine)
    return [machine.failure] if machine.failure is not None else []


def _made_by_the_runtime(house: House) -> dict[str, list[tuple[str, str]]]:
    """Return the attachments by network that are no sandbox's: only the runtime can judge them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for record in house.journal.all("interface"):
        if not isinstance(record, RecordError) and not record.parent:
            found.setdefault(record.network, []).append((record.container_id, record.ifname))
    return found
