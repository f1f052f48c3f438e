"""What to do about a sandbox whose record cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.errors import DelegateError, RecordError, together
from podnet.model.attachment import Call
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.engine.journal import Record


def recover(house: House, error: RecordError, place: tuple[str, str, str, str]) -> RecordError:
    """Undo what an unreadable record kept, from what else is known, and move it aside.

    Each built-in interface of the sandbox has a record of its own. What an executable made is
    known to the lost record alone, so this is never a silent success: the caller raises what is
    returned, and the next DEL finds nothing left to do.

    Args:
        house: the parts.
        error: that reading the record raised.
        place: role, network, container id and interface name of the record.

    Returns:
        The error to raise, telling what was done.

    Raises:
        PodnetError: an interface could not be undone, or the disk did not give a record just now;
            the sandbox's record stays where it is.
    """
    parts = list(house.journal.all("interface", place[2]))
    lost = [part for part in parts if isinstance(part, RecordError)]
    passing = [each for each in (error, *lost) if each.passing]
    if passing:
        raise together(passing)
    for part in parts:
        if not isinstance(part, RecordError) and part.parent == place[1:]:
            _undo(house, part)
    aside = house.journal.quarantine(*place)
    done = f"its interfaces were undone, and it was moved to {aside}"
    if lost:
        # Kept where they are they would block the sandbox for ever. Their links end with the
        # sandbox, their addresses with the next GC.
        moved = ", ".join(house.journal.quarantine(*part.place) for part in lost)
        done += f"; what these tell is not known, and was not undone: {moved}"
    told = RecordError(error.msg, f"{error.details}; {done}")
    told.settled = True
    return told


def _undo(house: House, record: Record) -> None:
    call = recorded_call(record)
    done = house.executor.run(evolve(call, verb="DEL"))
    if done.exit_code:
        raise DelegateError(
            f"cannot undo {record.ifname} of container {record.container_id}",
            done.stdout.decode(errors="replace"),
        )


def recorded_call(record: Record) -> Call:
    """Return the ADD that an interface's record is of."""
    return Call(
        plugin=Reader(record.config).string("type"),
        verb="ADD",
        container_id=record.container_id,
        netns=record.netns,
        ifname=record.ifname,
        args=record.args,
        path=tuple(record.path),
        config=record.config,
        timeout=record.timeout,
    )
