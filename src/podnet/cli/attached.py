"""How attachments are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli.output import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podnet.engine.attached import Attached

# An id that podnet made of a short name fits; a runtime's has 64 digits, of which people use 12.
_ID_LIMIT, _ID_START = 26, 12

_STAGES = {"intent": "unfinished", "done": "attached"}


def document(attached: Attached) -> dict[str, object]:
    """Return an attachment as a JSON object; ``networkStatus`` is the annotation's text."""
    return {
        "containerId": attached.container_id,
        "netns": attached.netns,
        "pod": None if attached.pod is None else str(attached.pod),
        "stage": attached.stage,
        "networks": [
            {
                "name": network.name,
                "interface": network.interface,
                "type": network.type,
                "ips": list(network.ips),
                "mac": network.mac,
                "gateway": list(network.gateway),
                "default": network.default,
            }
            for network in attached.networks
        ],
        "networkStatus": attached.network_status,
    }


def table(attached: Attached) -> Table:
    """Return the table of one attachment: a row for each interface."""
    return Table(
        ("interface", "network", "type", "addresses", "mac", "gateway"),
        [
            (n.interface, n.name, n.type, tuple(n.ips), n.mac, tuple(n.gateway))
            for n in attached.networks
        ],
        title=label(attached),
    )


def listing(attachments: Iterable[Attached]) -> Table:
    """Return the table of a whole node: the pod is named in its first row only."""
    rows: list[tuple[str | tuple[str, ...], ...]] = []
    for one in attachments:
        head = (str(one.pod or "-"), _short(one.container_id), _STAGES.get(one.stage, one.stage))
        rows += [
            ((head if i == 0 else ("", "", "")) + (n.interface, n.name, n.type, tuple(n.ips)))
            for i, n in enumerate(one.networks)
        ] or [(*head, "", "", "", ())]
    columns = ("pod", "container", "stage", "interface", "network", "type", "addresses")
    return Table(columns, rows)


def _short(container_id: str) -> str:
    """Return the id, or its beginning with a mark that something is missing."""
    if len(container_id) <= _ID_LIMIT:
        return container_id
    return f"{container_id[:_ID_START]}…"


def label(attached: Attached) -> str:
    """Name an attachment in a line of text."""
    where = attached.netns or f"container {attached.container_id}"
    return where if attached.pod is None else f"{attached.pod} at {where}"
