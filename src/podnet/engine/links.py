"""The links of one record: found again, deleted if they are the record's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.errors import NetnsMissingError, NotNetnsError, RecordError
from podnet.interface.identity import (
    ask_owned,
    ask_unproved,
    doubtful,
    parse_owned,
    plan_absent,
)
from podnet.model.facts import Probe
from podnet.model.ops import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.engine.house import House
    from podnet.engine.journal import Record
    from podnet.interface.identity import Owned


def observer(house: House) -> Callable[[str], None] | None:
    """Return the observer of single ops, or None: then neighbouring ops may ride together."""
    from podnet.engine.house import no_step

    return None if house.step is no_step else house.step


def owned_by(record: Record) -> tuple[Owned, ...]:
    """Return the links that a record claims.

    Raises:
        RecordError: its body is not one of an interface plugin.
    """
    try:
        return tuple(parse_owned(each) for each in record.body["links"])
    except (KeyError, ValueError, TypeError) as error:
        what = f"record of {record.container_id} {record.ifname} on {record.network}"
        raise RecordError(f"{what} does not tell its links", repr(error)) from error


def delete_links(house: House, record: Record) -> None:
    """Delete the record's links that are still there, wherever they are.

    A sandbox that is gone, or whose path now leads to another namespace or to none at all, took
    its links with it. One that cannot be opened just now did not.

    Raises:
        RecordError: the record does not tell its links, or not which of the sandbox's they are.
        KernelError, TryAgainLaterError: the sandbox could not be opened, or a link not deleted.
    """
    owned = owned_by(record)
    try:
        with house.kernel.open(record.netns) as sandbox:
            if record.netns_id in ("", sandbox.identity):
                _delete(house, sandbox, owned, record)
                return
    except (NetnsMissingError, NotNetnsError):
        pass
    outside = tuple(each for each in owned if each.link.place is Place.HOST)
    if outside:
        with house.kernel.host() as sandbox:
            _delete(house, sandbox, outside, record)


def _delete(house: House, sandbox: Any, owned: tuple[Owned, ...], record: Record) -> None:
    certain = record.stage == "done"
    have = sandbox.probe(ask_owned(owned))
    if (further := ask_unproved(owned, have)) != Probe():
        have |= sandbox.probe(further)
    sandbox.apply(plan_absent(owned, have, certain=certain), observer(house))
    if certain and (doubts := doubtful(owned, have)):
        names = ", ".join(str(fact.link) for fact in doubts)
        raise RecordError(
            f"interface {record.ifname} of container {record.container_id} is gone, and {names} "
            "may be it under another name",
            "it was left alone: name it back, or delete it",
        )
