"""The loop around a delegate machine, within the time that its call has."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from attrs import evolve

from podnet.delegation.plan import Sandbox
from podnet.engine.house import LEAST
from podnet.errors import NetnsMissingError, NotNetnsError, PodnetError

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.engine.journal import Record
    from podnet.model.attachment import Call, Done


class Machine(Protocol):
    """A delegate machine: hands out calls and takes what became of them."""

    failure: PodnetError | None

    def next(self) -> Call | None:
        """Return the call to run now; None if there is none left."""

    def feed(self, outcome: Done | PodnetError) -> None:
        """Take what became of it."""


def drive(house: House, machine: Machine, *, share: float = 1.0) -> None:
    """Run the calls a machine hands out until it has none left.

    Args:
        house: the parts; it knows how much time the call being served has left.
        machine: decides what is called next.
        share: of that time, what may pass before the first failure; the rest is for undoing.
    """
    begin, left = time.monotonic(), house.time_left()
    while (call := machine.next()) is not None:
        limit = begin + left * (share if machine.failure is None else 1.0)
        house.step(f"{call.verb} {call.plugin} {call.ifname}".rstrip())
        seconds = min(call.timeout, max(limit - time.monotonic(), LEAST))
        try:
            outcome: Done | PodnetError = house.executor.run(evolve(call, timeout=seconds))
        except PodnetError as error:
            outcome = error
        machine.feed(outcome)


def site(house: House, record: Record) -> Sandbox:
    """Return where a record's attachments are, without a namespace if theirs is gone.

    The path may meanwhile lead to another container's namespace: a late DEL must not reach it
    (CNI 1.1.0, section 2: DEL may come without ``CNI_NETNS``).

    Raises:
        KernelError, TryAgainLaterError: the namespace cannot be looked at just now.
    """
    netns = record.netns
    if record.netns_id and netns:
        try:
            with house.kernel.open(netns, allow_host=True) as namespace:
                netns = netns if namespace.identity == record.netns_id else ""
        except (NetnsMissingError, NotNetnsError):
            netns = ""
    return Sandbox(
        container_id=record.container_id,
        netns=netns,
        path=tuple(record.path),
        timeout=record.timeout,
    )
