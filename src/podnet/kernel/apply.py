"""Applying ops: neighbours that go to one namespace ride in one send."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING
from zlib import crc32

from podnet.errors import KernelError, LinkNotFoundError
from podnet.kernel import messages, probe, sysctl
from podnet.kernel.refusals import refusal
from podnet.model.facts import Probe
from podnet.model.ops import (
    AddRoute,
    CreateLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    LinkName,
    Op,
    SetLink,
    SetSysctl,
    SettleAddresses,
    links_of,
    place_of,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from podnet.kernel.netlink import Message
    from podnet.kernel.sandbox import Sandbox

# pkg/ip/addr_linux.go: SettleAddresses polls every 50 ms.
_POLL = 0.05
# Free indexes to try on kernels that look a new link's name up in the wrong namespace.
_INDEX_TRIES = 8

_GONE_IS_FINE = {
    DeleteLink: (errno.ENODEV,),
    DeleteAddress: (errno.EADDRNOTAVAIL, errno.ENODEV),
    DeleteRoute: (errno.ESRCH, errno.ENODEV),
}


def groups(ops: Iterable[Op]) -> Iterator[tuple[Op, ...]]:
    """Cut ops into runs that can take effect in one go, in order.

    A run stays in one place and one medium (netlink or sysctl). It ends before an op on a link
    that it creates, whose index is not known before.
    """
    run: list[Op] = []
    made: set[LinkName] = set()
    key: object = None
    for op in ops:
        medium = type(op) if isinstance(op, SetSysctl | SettleAddresses) else "netlink"
        if run and ((medium, place_of(op)) != key or made.intersection(links_of(op))):
            yield tuple(run)
            run, made = [], set()
        key = (medium, place_of(op))
        run.append(op)
        if isinstance(op, CreateLink):
            made.add(op.link)
            made.update({op.peer.link} if op.peer else ())
    if run:
        yield tuple(run)


def apply(sandbox: Sandbox, ops: Iterable[Op], step: Callable[[str], None] | None = None) -> None:
    """Apply ops in order.

    Without an observer neighbours ride in one send. After a refusal the rest of the same send
    takes effect all the same, nothing after it does; the first refused op is the one reported.

    Args:
        sandbox: where.
        ops: what to do.
        step: called with each op's word before its effect; every op is then sent alone.

    Raises:
        InterfaceExistsError, LinkNotFoundError, KernelError, DeadlineError: as the op's refusal.
    """
    runs = groups(ops) if step is None else ((op,) for op in ops)
    for run in runs:
        if step is not None:
            step(word(run[0]))
        if isinstance(run[0], SetSysctl):
            _write_sysctls(sandbox, [op for op in run if isinstance(op, SetSysctl)])
        elif isinstance(run[0], SettleAddresses):
            for op in run:
                assert isinstance(op, SettleAddresses)
                _settle(sandbox, op)
        else:
            _send(sandbox, run)


def _write_sysctls(sandbox: Sandbox, ops: list[SetSysctl]) -> None:
    with sandbox.entered(ops[0].place):
        for op in ops:
            sysctl.write(op.key, op.value, optional=op.optional)


def _send(sandbox: Sandbox, run: tuple[Op, ...]) -> None:
    pairs = [(op, message) for op in run if (message := _message(sandbox, op)) is not None]
    if not pairs:
        return
    answers = sandbox.netlink(place_of(run[0])).request([message for _, message in pairs])
    for (op, _), answer in zip(pairs, answers, strict=True):
        if not answer.errno or answer.errno in _GONE_IS_FINE.get(type(op), ()):
            continue
        if isinstance(op, CreateLink) and answer.errno == errno.EEXIST and _elsewhere(sandbox, op):
            if op.index:  # what those kernels looked up was the index: a link here has it
                raise refusal(op, errno.EBUSY, "the interface index is in use")
            _create_numbered(sandbox, op)
            continue
        raise refusal(op, answer.errno, answer.text)


def _message(sandbox: Sandbox, op: Op) -> Message | None:
    if isinstance(op, CreateLink):
        return _create(sandbox, op)
    if isinstance(op, DeleteLink):
        return messages.delete_link(op.index)
    assert not isinstance(op, SetSysctl | SettleAddresses)
    link = op.key.link if isinstance(op, AddRoute | DeleteRoute) else op.link
    index = sandbox.netlink(link.place).index(link.name)
    if not index:
        if isinstance(op, DeleteAddress | DeleteRoute):  # both went with the link
            return None
        raise LinkNotFoundError(f"link {link} does not exist", f"cannot {op}")
    if isinstance(op, SetLink):
        return messages.set_link(op, index)
    if isinstance(op, AddRoute):
        return messages.add_route(op, index)
    if isinstance(op, DeleteRoute):
        return messages.delete_route(op, index)
    return messages.address(op, index)


def _create(sandbox: Sandbox, op: CreateLink, index: int = 0) -> Message:
    here = place_of(op)
    parent = 0
    if op.parent:
        parent = sandbox.netlink(op.parent.place).index(op.parent.name)
        if not parent:
            raise LinkNotFoundError(f"link {op.parent} does not exist", f"cannot {op}")
    return messages.create_link(
        op,
        parent=parent,
        target_fd=None if op.link.place is here else sandbox.fd(op.link.place),
        peer_fd=None
        if not op.peer or op.peer.link.place is here
        else sandbox.fd(op.peer.link.place),
        index=index or op.index,
    )


def _elsewhere(sandbox: Sandbox, op: CreateLink) -> bool:
    """Tell whether EEXIST was about a link of the sender's namespace, not of the target.

    Kernels before 6.15 look a new link's name up where the message is sent.
    """
    return op.link.place is not place_of(op) and not sandbox.netlink(op.link.place).index(
        op.link.name
    )


def _create_numbered(sandbox: Sandbox, op: CreateLink) -> None:
    """Create a link with an index of our choice: then the kernel does not look the name up.

    Cheaper than the peers' temporary name, and a kill between two steps leaves no stray link.
    """
    start = crc32(f"{sandbox.identity} {op.link}".encode())
    for attempt in range(_INDEX_TRIES):
        # 2^20 and up: far above what the kernel counts out itself, far below INT_MAX.
        index = (1 << 20) + (start + attempt * 7919) % (1 << 29)
        answer = sandbox.netlink(place_of(op)).request([_create(sandbox, op, index)])[0]
        if not answer.errno:
            return
        if answer.errno != errno.EBUSY:
            raise refusal(op, answer.errno, answer.text)
    raise refusal(op, errno.EBUSY, "no free interface index found")


def _settle(sandbox: Sandbox, op: SettleAddresses) -> None:
    end = time.monotonic() + op.timeout
    wanted = Probe(addresses=frozenset({op.link}))
    while True:
        facts = probe.read(sandbox, wanted).addresses
        if failed := [fact.address for fact in facts if fact.dad_failed]:
            raise KernelError(
                f"another host uses {', '.join(failed)} of {op.link}",
                "duplicate address detection failed (RFC 4862, 5.4)",
            )
        waiting = [fact.address for fact in facts if fact.tentative]
        if not waiting:
            return
        if time.monotonic() >= end:
            raise KernelError(
                f"cannot {op}: {', '.join(waiting)} still tentative after {op.timeout:g} s",
                "the link may have no carrier",
            )
        time.sleep(_POLL)
