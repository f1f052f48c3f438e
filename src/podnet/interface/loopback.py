"""The loopback interface: set up, never made (the reference's ``loopback``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.errors import LinkNotFoundError
from podnet.model.addresses import parse_prefix
from podnet.model.facts import Probe
from podnet.model.ops import LinkName, Place, SetLink
from podnet.model.result import IP, Interface, Result

if TYPE_CHECKING:
    from podnet.model.facts import Have
    from podnet.model.ops import Op

LINK = LinkName(Place.SANDBOX, "lo")
_MAC = "00:00:00:00:00:00"
_LOOPBACK = {4: parse_prefix("127.0.0.0/8"), 6: parse_prefix("::1/128")}


@frozen(kw_only=True)
class Want:
    """The loopback interface as asked for.

    Attributes:
        sandbox: path of the sandbox, for the result.
        up: whether it shall be up.
    """

    sandbox: str
    up: bool = True


def ask(want: Want) -> Probe:  # noqa: ARG001  # the seam's signature
    """Name the facts that ``plan`` and ``result`` need."""
    return Probe(links=frozenset({LINK}), addresses=frozenset({LINK}))


def plan(want: Want, have: Have) -> tuple[Op, ...]:
    """Return the ops from ``have`` to ``want``.

    Raises:
        LinkNotFoundError: the namespace has no ``lo``.
    """
    fact = have.link(LINK)
    if fact is None:
        raise LinkNotFoundError(f"link {LINK} does not exist")
    return () if fact.up == want.up else (SetLink(link=LINK, up=want.up),)


def faults(have: Have) -> tuple[str, ...]:
    """Return what is wrong with the addresses that are there."""
    strange = [fact.address for fact in have.addresses if not _is_loopback(fact.address)]
    if not strange:
        return ()
    return (f"loopback interface found with non-loopback address {', '.join(strange)}",)


def result(want: Want, have: Have) -> Result:
    """Return the result of ADD: the interface and the first address of each family."""
    texts = [fact.address for fact in have.addresses]
    firsts = [next((t for t in texts if (":" in t) == six), None) for six in (False, True)]
    return Result(
        interfaces=(Interface(LINK.name, _MAC, want.sandbox),),
        ips=tuple(IP(text, interface=0) for text in firsts if text),
    )


def _is_loopback(text: str) -> bool:
    prefix = parse_prefix(text)
    return prefix.address in _LOOPBACK[prefix.version]
