"""The links of one record: found again, deleted if they are the record's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import InvalidNetnsError, RecordError
from podnet.interface.identity import ask_owned, parse_owned, plan_absent
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
    its links with it.

    Raises:
        RecordError: the record does not tell its links.
        KernelError, DeadlineError: a link could not be deleted.
    """
    owned = owned_by(record)
    certain = record.stage == "done"
    try:
        with house.kernel.open(record.netns) as sandbox:
            if record.netns_id in ("", sandbox.identity):
                _delete(house, sandbox, owned, certain=certain)
                return
    except InvalidNetnsError:
        pass
    outside = tuple(each for each in owned if each.link.place is Place.HOST)
    if outside:
        with house.kernel.host() as sandbox:
            _delete(house, sandbox, outside, certain=certain)


def _delete(house: House, sandbox: object, owned: tuple[Owned, ...], *, certain: bool) -> None:
    have = sandbox.probe(ask_owned(owned))  # type: ignore[attr-defined]  # the kernel's, or a fake
    sandbox.apply(plan_absent(owned, have, certain=certain), observer(house))  # type: ignore[attr-defined]
