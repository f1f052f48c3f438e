"""What podnet calls its own: chosen MAC addresses and names, and the links a record claims.

Both are decided before anything is created, so that the journal knows a link by name, kind and MAC
address before it exists, and nothing has to be read back.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.model.facts import Probe
from podnet.model.ops import DeleteLink, LinkName, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.model.facts import Have
    from podnet.model.ops import Op

_LOCAL, _MULTICAST = 0x02, 0x01


def chosen_mac(*parts: str) -> str:
    """Return a locally administered unicast MAC address that the parts determine (IEEE 802, 8.2).

    The parts must tell apart whatever shares a segment: node, container, network, interface. The
    kernel's random addresses give two nodes cloned from one image the same ones
    (containernetworking/plugins #250).
    """
    digest = bytearray(hashlib.blake2b("\0".join(parts).encode(), digest_size=6).digest())
    digest[0] = digest[0] & ~_MULTICAST | _LOCAL
    return digest.hex(":")


def host_name(*parts: str) -> str:
    """Return the name of a pair's end on the host: ``veth`` and 8 digits, as the peers' look."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()
    return f"veth{digest}"


@frozen
class Owned:
    """A link that an attachment calls its own."""

    link: LinkName
    kind: str
    mac: str

    def document(self) -> dict[str, str]:
        """Return it as JSON values, for a record."""
        return {
            "place": self.link.place.value,
            "name": self.link.name,
            "kind": self.kind,
            "mac": self.mac,
        }


def parse_owned(document: Mapping[str, str]) -> Owned:
    """Return what ``document`` made.

    Raises:
        KeyError, ValueError: it made something else.
    """
    link = LinkName(Place(document["place"]), document["name"])
    return Owned(link, document["kind"], document["mac"])


def ask_owned(owned: Iterable[Owned]) -> Probe:
    """Name the facts that ``plan_absent`` needs."""
    return Probe(links=frozenset(each.link for each in owned))


def plan_absent(owned: Iterable[Owned], have: Have, *, certain: bool) -> tuple[Op, ...]:
    """Return the deletion of what is there and is owned.

    Args:
        owned: what the attachment calls its own.
        have: answer to ``ask_owned``.
        certain: the attachment is known to have made its links. Then a later plugin may have
            changed the MAC address; else that has to match too, as somebody else's link of the
            same name and kind may be what kept ours from being made.
    """
    ops = []
    for each in owned:
        fact = have.link(each.link)
        if fact is None or fact.kind != each.kind:
            continue
        if certain or fact.mac == each.mac:
            ops.append(DeleteLink(link=each.link, kind=each.kind, index=fact.index))
    return tuple(ops)
