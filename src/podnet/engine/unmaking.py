"""Undoing an interface: its links, then its addresses, then its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.engine.ipam_delegate import ipam_type, run_ipam
from podnet.engine.journal import Record
from podnet.engine.links import delete_links
from podnet.engine.recovery import recorded_call
from podnet.errors import DelegateError, PluginNotFoundError, PodnetError
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.engine.house import House
    from podnet.model.attachment import Call

ROLE = "interface"


def network_of(call: Call) -> str:
    """Return the name of the call's CNI network."""
    return Reader(call.config).string("name")


def key(record: Record) -> tuple[str, str, str, str]:
    """Return what a record is found by."""
    return (record.role, record.network, record.container_id, record.ifname)


def unmake(
    house: House,
    record: Record,
    *,
    links: bool = True,
    release: bool = True,
    forget: bool = True,
) -> list[PodnetError]:
    """Delete links, then release their addresses, then forget the record.

    An address is released only once no link of the record has it: another pod would get one that
    is in use. A DHCP lease is released through its link, so that goes first, and the link goes
    whatever became of it.

    Args:
        house: the parts.
        record: what is to be undone.
        links: False where it is known that none was made.
        release: False where it is known that no address is held.
        forget: False to keep the record.

    Returns:
        What could not be undone; then the record stays, and a retry can help.
    """
    errors: list[PodnetError] = []
    ipam = ipam_type(record.config)

    def release_addresses() -> None:
        house.step("ipam.del")
        with house.at_store(record.store):
            run_ipam(house.executor, recorded_call(record), "DEL")

    def remove_links() -> None:
        delete_links(house, record)

    steps: list[Callable[[], None]] = [remove_links] if links else []
    if release and ipam:
        steps.insert(0 if ipam == "dhcp" else len(steps), release_addresses)
    for step in steps:
        if errors and step is release_addresses:
            break
        try:
            step()
        except PodnetError as error:
            errors.append(error)
    if forget and not errors:
        house.step("journal.forget")
        house.journal.forget(*key(record))
    return errors


def release_unrecorded(house: House, call: Call) -> None:
    """Have IPAM release what an attachment without record may hold.

    That there is no such IPAM plugin is no error here: it is what kept ADD from making the
    interface, most likely a misspelt type, and a retry would fail the same way for ever.

    Raises:
        DelegateError: it could not release.
    """
    try:
        run_ipam(house.executor, call, "DEL")
    except DelegateError as error:
        if not isinstance(error.__cause__, PluginNotFoundError):
            raise


def reconstructed(house: House, driver: Any, call: Call) -> Record:
    """Return what an unreadable record most likely said.

    Links are known again by what podnet would choose for this call: MAC address or index.
    """
    links: list[dict[str, object]] = []
    try:
        want = driver.read(call, node=house.settings.node)
        links = [each.document() for each in driver.expected(want)]
    except PodnetError:
        links = []
    return Record(
        role=ROLE,
        network=network_of(call),
        container_id=call.container_id,
        ifname=call.ifname,
        netns=call.netns,
        config=call.config,
        args=call.args,
        path=call.path,
        timeout=call.timeout,
        body={"links": links},
    )
