"""The kernel's refusals in words: what was asked, what it said, and what usually is the reason."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from podnet.errors import InterfaceExistsError, KernelError, LinkNotFoundError, PodnetError
from podnet.model.ops import AddRoute, CreateLink, SetLink

if TYPE_CHECKING:
    from podnet.model.ops import Op

_CREATE = {
    # rx_handler_busy: one receive handler per link (net/core/dev.c).
    errno.EBUSY: "the parent is in use by another kind: a bridge or bond port, ipvlan, or "
    "macvlan in passthru mode exclude each other",
    errno.EINVAL: "the parent refuses these settings: an MTU above its own, a second link beside "
    "one in passthru mode, or a loopback or non-Ethernet parent",
    errno.EOPNOTSUPP: "the kernel has no such kind of link (module missing)",
    errno.EPERM: "needs CAP_NET_ADMIN",
}
_OF_PARENTS = (errno.EBUSY, errno.EINVAL)
_SET = {
    errno.EADDRINUSE: "the MAC address is the parent's or that of another link on it",
    errno.EBUSY: "the parent's MAC address cannot change, or the link is in use",
    errno.EINVAL: "an MTU above the parent's, or a MAC address that is multicast or all zero",
    errno.EPERM: "needs CAP_NET_ADMIN",
}
_ROUTE = {
    errno.ENETUNREACH: "the gateway is in no subnet of the link",
    errno.EHOSTUNREACH: "the gateway is in no subnet of the link",
    errno.EINVAL: "the source is no address of the link, or the gateway is one",
    errno.ENETDOWN: "the link is down",
}


def refusal(op: Op, number: int, text: str) -> PodnetError:
    """Return the error for an op that the kernel refused.

    Args:
        op: what was asked.
        number: errno.
        text: the kernel's own explanation, if it gave one.
    """
    if number == errno.EEXIST and isinstance(op, CreateLink):
        return InterfaceExistsError(f"interface {_which(op)} exists already; it was left alone")
    said = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
    hint = ""
    if isinstance(op, CreateLink):
        hint = _CREATE.get(number, "") if op.parent or number not in _OF_PARENTS else ""
        if number == errno.ENODEV and op.parent:
            return LinkNotFoundError(f"link {op.parent} does not exist", f"cannot {op}")
    elif isinstance(op, SetLink):
        hint = _SET.get(number, "")
    elif isinstance(op, AddRoute):
        hint = _ROUTE.get(number, "")
    details = "; ".join(each for each in (text, f"perhaps {hint}" if hint else "") if each)
    return KernelError(f"cannot {op}: {said}", details)


def _which(op: CreateLink) -> str:
    return f"{op.link} or its peer {op.peer.link}" if op.peer else str(op.link)
