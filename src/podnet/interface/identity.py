"""What podnet calls its own: chosen MAC addresses and names, and the links a record claims.

Both are decided before anything is created, so that the journal knows a link before it exists, and
nothing has to be read back: by a MAC address that podnet chose, or, where the configuration or the
master gives the address, by a kernel index that podnet chose. Nobody else's link has either.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from attrs import frozen

from podnet.model.facts import Probe
from podnet.model.ops import DeleteLink, LinkName, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from podnet.model.facts import Have, LinkFact
    from podnet.model.ops import Op

_LOCAL, _MULTICAST = 0x02, 0x01
# The kernel counts indexes up from 1 in each namespace and wraps at INT_MAX (net/core/dev.c,
# dev_index_reserve): what is chosen from here on is far above what it gives out by itself.
_FIRST_INDEX, _INDEXES = 1 << 20, 1 << 29


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


def chosen_index(*parts: str) -> int:
    """Return the kernel index that the parts determine, for a link without a chosen MAC address."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return _FIRST_INDEX + int.from_bytes(digest) % _INDEXES


@frozen
class Owned:
    """A link that an attachment calls its own.

    Attributes:
        link: place and name.
        kind: kernel's name of the kind.
        mac: the MAC address it is created with; empty where that is not known before.
        chosen: whether podnet chose that address, so that no other link has it.
        index: the kernel index it is created with; 0 if the kernel chooses.
    """

    link: LinkName
    kind: str
    mac: str
    chosen: bool = False
    index: int = 0

    def document(self) -> dict[str, object]:
        """Return it as JSON values, for a record."""
        return {
            "place": self.link.place.value,
            "name": self.link.name,
            "kind": self.kind,
            "mac": self.mac,
            "chosen": self.chosen,
            "index": self.index,
        }

    def is_proved_by(self, fact: LinkFact) -> bool:
        """Tell whether a link has what only this one was created with, whatever its name is."""
        if fact.link.place is not self.link.place or fact.kind != self.kind:
            return False
        return fact.index == self.index if self.index else self.chosen and fact.mac == self.mac


def parse_owned(document: Mapping[str, Any]) -> Owned:
    """Return what ``document`` made.

    Raises:
        KeyError, ValueError, TypeError: it made something else.
    """
    name, kind, mac = (document[key] for key in ("name", "kind", "mac"))
    # Without either nothing proves the link: only once ADD has ended is it deleted, by its name.
    chosen, index = document.get("chosen", False), document.get("index", 0)
    texts = all(isinstance(each, str) for each in (name, kind, mac))
    if not texts or type(chosen) is not bool or type(index) is not int:
        raise TypeError(f"{document!r} is no link")
    return Owned(LinkName(Place(document["place"]), name), kind, mac, chosen, index)


def ask_owned(owned: Iterable[Owned]) -> Probe:
    """Name the facts that ``plan_absent`` needs."""
    return Probe(links=frozenset(each.link for each in owned))


def ask_unproved(owned: Iterable[Owned], have: Have) -> Probe:
    """Name the further facts that tell where links are that their names no longer lead to.

    Only in the sandbox: what is left on the host of a pair goes with its other end.
    """
    lost = any(
        each.link.place is Place.SANDBOX
        and ((fact := have.link(each.link)) is None or not each.is_proved_by(fact))
        for each in owned
    )
    return Probe(all_links=frozenset({Place.SANDBOX})) if lost else Probe()


def plan_absent(owned: Iterable[Owned], have: Have, *, certain: bool) -> tuple[Op, ...]:
    """Return the deletion of what is there and is owned.

    Args:
        owned: what the attachment calls its own.
        have: answer to ``ask_owned``, and to ``ask_unproved`` to find what was renamed.
        certain: the attachment is known to have made its links. Then a later plugin may have
            changed the MAC address of the one that has the name; else only what is proved is
            deleted, as somebody else's link may be what kept ours from being made.
    """
    return tuple(
        DeleteLink(link=fact.link, kind=each.kind, index=fact.index)
        for each in owned
        if (fact := _found(each, have, certain=certain))
    )


def _found(each: Owned, have: Have, *, certain: bool) -> LinkFact | None:
    named = have.link(each.link)
    if named and each.is_proved_by(named):
        return named
    proved = [fact for fact in have.links.values() if each.is_proved_by(fact)]
    if len(proved) == 1:
        return proved[0]
    return named if named and certain and named.kind == each.kind else None


def doubtful(owned: Iterable[Owned], have: Have) -> tuple[LinkFact, ...]:
    """Return links that may be an attachment's, renamed, without proof that they are.

    Of an attachment that is known to have made its links: where the name is gone, a link of the
    same kind and MAC address may be it. Args are as for ``plan_absent``.
    """
    return tuple(
        fact
        for each in owned
        if _found(each, have, certain=True) is None
        for fact in have.links.values()
        if (fact.link.place, fact.kind, fact.mac) == (each.link.place, each.kind, each.mac)
    )
