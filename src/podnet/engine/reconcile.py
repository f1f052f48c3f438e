"""Leases without a live owner: found, explained and released.

A lease is released only if somebody who can know says that its owner is dead and nobody says that
he lives. What is released is that very grant: an owner who came since keeps his.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import evolve, frozen

from podnet.model.lease import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from podnet.engine.leases import Ipam
    from podnet.model.lease import Lease

GRACE = 300.0
"""Seconds below which a lease may be of an ADD that is not done; the runtime's calls end sooner."""

KEPT, DEAD, RELEASED, REPORTED = "kept", "dead", "released", "reported"
UNRECORDED = "unrecorded"


@frozen
class Testimony:
    """What somebody knows of a lease's owner.

    Attributes:
        alive: whether he lives.
        why: how that is known.
        sure: it is enough to release what he has; of one who is alive, it was seen.
    """

    __test__ = False  # no class of tests, whatever pytest thinks of its name

    alive: bool
    why: str
    sure: bool = True


class Witness(Protocol):
    """Somebody who may know whether owners live: a node its sandboxes, a cluster its pods."""

    def testify(self, lease: Lease) -> Testimony | None:
        """Tell whether a lease's owner lives; None if that is not known here.

        It is asked after the leases have been read: whoever had one by then is to be known.
        """
        ...


@frozen(kw_only=True)
class Finding:
    """What becomes of one lease.

    Attributes:
        lease: which.
        verdict: ``kept``; ``released``; ``dead``, which would be released in earnest;
            ``reported``: somebody has to look; or ``unrecorded``: nothing tells that the owner
            lives, and nothing that he ever was.
        why: the reason, for people.
        sure: false for one who is taken for alive, since not all was seen.
    """

    lease: Lease
    verdict: str
    why: str
    sure: bool = True


def reconcile(
    ipam: Ipam,
    witnesses: Sequence[Witness],
    *,
    node: str,
    now: float,
    grace: float = GRACE,
    domain: str | None = None,
    unnamed: bool = False,
    dry_run: bool = False,
) -> Iterator[Finding]:
    """Judge the leases of a node, and release those of the dead.

    Leases of other nodes are neither judged nor told of. Never released are leases that a claim
    or an administrator keeps, and those that their owners have for less than the grace.

    Args:
        ipam: where the leases are.
        witnesses: who may know; one of them saying that an owner lives is enough.
        node: whose leases.
        now: seconds since the epoch.
        grace: seconds.
        domain: only leases of that domain.
        unnamed: leases that tell no node are this node's, as in a store of its own.
        dry_run: release nothing.

    Raises:
        StoreError: the store is broken.
        TryAgainLaterError: others won every attempt to release.
    """
    mine = {node, ""} if unnamed else {node}
    # All of them before the first is judged: witnesses look at what they know once.
    for lease in [lease for lease in ipam.leases(domain) if lease.node in mine]:
        finding = _judge(lease, witnesses, now=now, grace=grace)
        yield finding if dry_run else carry_out(ipam, finding)


def carry_out(ipam: Ipam, finding: Finding) -> Finding:
    """Release the lease if it was judged dead and was not renewed since; tell what came of it.

    Raises:
        StoreError: the store is broken.
        TryAgainLaterError: others won every attempt.
    """
    if finding.verdict != DEAD:
        return finding
    if ipam.release(finding.lease):
        return evolve(finding, verdict=RELEASED)
    return evolve(finding, verdict=KEPT, why="it was renewed meanwhile")


def _judge(lease: Lease, witnesses: Iterable[Witness], *, now: float, grace: float) -> Finding:
    verdict, why = KEPT, "nobody here knows its owner"
    if lease.claim == UNREADABLE:
        why = f"what keeps it cannot be read: {lease.owner.container_id}"
        return Finding(lease=lease, verdict=REPORTED, why=why)
    if lease.claim:
        return Finding(lease=lease, verdict=KEPT, why=f"{lease.claim} keeps it")
    if lease.since > now - grace:
        why = f"it is younger than {grace:g} s: its ADD may not be done"
        return Finding(lease=lease, verdict=KEPT, why=why)
    for witness in witnesses:
        told = witness.testify(lease)
        if told is None:
            continue
        if told.alive:
            return Finding(lease=lease, verdict=KEPT, why=told.why, sure=told.sure)
        if verdict != DEAD:
            verdict, why = (DEAD if told.sure else UNRECORDED), told.why
    return Finding(lease=lease, verdict=verdict, why=why)
