"""The blocks of one domain, moved one by one: rehearsed at the target, closed, opened there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, mutable

from podnet.engine.migration_follow import View
from podnet.engine.migration_ground import settle
from podnet.engine.migration_rename import part
from podnet.errors import StoreError, TryAgainLaterError
from podnet.ipam import migrate as moves
from podnet.ipam.migrate import Kind, State, state_of
from podnet.model.block import domain_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.engine.migration_marks import Marks, Side
    from podnet.ipam.migrate import Mark
    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.ports import Store

    Entry = tuple[Block, str] | None

_ATTEMPTS = 100


@mutable(kw_only=True)
class Moved:
    """What has been moved of a domain so far.

    Attributes:
        domain: which.
        blocks: how many of them the source had when it began.
        done: how many of these are no longer there.
        moved: how many of these this run has moved.
        leases: how many leases were in what this run has moved.
        waiting: keys of blocks that cannot be moved now, with the node that has to give them back.
        conflicts: pairs of leases on one address, the source's first: only a domain that is
            joined with one in use can have them. Their blocks stay where they are.
        complete: nothing of the domain is left at the source.
    """

    domain: str
    blocks: int = 0
    done: int = 0
    moved: int = 0
    leases: int = 0
    waiting: dict[str, str] = field(factory=dict)
    conflicts: list[tuple[Lease, Lease]] = field(factory=list)
    complete: bool = False


def nothing(_moved: Moved) -> None:
    """Show no progress."""


class Move:
    """One run over the blocks of a domain whose marks are set.

    Attributes:
        told: what has been moved so far.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        marks: Marks,
        mark: Mark,
        progress: Callable[[Moved], None],
        opener: Callable[[str], Store],
    ) -> None:
        """Take what is known of the move.

        Args:
            source: where the domain is.
            target: where it goes.
            marks: of the domain.
            mark: the source's.
            progress: called after each block.
            opener: opens another store by its URL.
        """
        self.told = Moved(domain=source.domain)
        self._source, self._target = source.store, target.store
        self._domain = source.domain
        self._marks, self._mark = marks, mark
        self._progress = progress
        self._tag = moves.tag_of(source.identity, part(source.domain))
        self._view: View | None = None
        if mark.kind is Kind.JOIN:
            self._view = View(self._target, self._source, source.domain, opener)

    def blocks(self, keys: Iterable[str]) -> list[str]:
        """Move blocks; return the keys of those that have to stay for now.

        Raises:
            TryAgainLaterError: another run took over, or a block changes too fast.
            StoreError: a store is broken.
        """
        self.told.waiting.clear()
        self.told.conflicts.clear()
        return [key for key in keys if not self._move(key)]

    def end(self) -> None:
        """Look once more that nothing is left, and say so in the marks."""
        for key in list(self._source.keys(domain_prefix(self._domain))):
            entry = self._source.load(key)
            left = entry is not None and state_of(entry[0]) is not State.GONE
            if left and not self._move(key):
                return
        self._marks.end(self._mark)
        self.told.complete = True

    def _move(self, key: str) -> bool:
        """Move a block; return False where it has to stay for now."""
        for _ in range(_ATTEMPTS):
            entry = self._source.load(key)
            state = state_of(entry[0]) if entry else State.VACANT
            if entry is None or state is State.GONE:
                self.told.done += 1
                self._progress(self.told)
                return True
            if state is State.MOVED:
                self._finish(key, entry)
            elif state is not State.OPEN:
                self._source.swap(key, moves.gone(entry[0]), entry[1])
            elif self._view is None:
                self._close(key)
            elif not self._close_joined(key, self._view):
                return False
        raise TryAgainLaterError(f"block {key} changes faster than it can be copied")

    def _finish(self, key: str, entry: tuple[Block, str]) -> None:
        if self._view is None:
            settle(self._source, self._target, key, entry)
        elif not self._settle_joined(key, entry, self._view):
            return
        after = self._source.load(key)
        if after is not None and state_of(after[0]) is State.GONE:
            self.told.moved += 1
            self.told.leases += len(entry[0].leases)

    def _close(self, key: str) -> None:
        """Go one step towards closing an open block: rehearse it at the target, then close it.

        The target is read before the source: what it is given is never behind what it had.
        """
        there, entry = self._target.load(key), self._source.load(key)
        if entry is None or state_of(entry[0]) is not State.OPEN:
            return
        block, version = entry
        state = state_of(there[0]) if there else State.VACANT
        self._marks.require(self._mark)
        if state is State.OPEN:
            raise StoreError(f"both stores hand out addresses of block {key}")
        copy = moves.copied(block, there[0] if there else None)
        if there is not None and state is State.COPY and there[0].leases == copy.leases:
            self._source.swap(key, moves.moved(block), version)
        elif self._target.swap(key, copy, there[1] if there else None):
            self._verify(key, copy, version)

    def _verify(self, key: str, copy: Block, version: str) -> None:
        """Refuse a store that does not keep what it is given, before anything depends on it."""
        there, entry = self._target.load(key), self._source.load(key)
        if entry is None or entry[1] != version or there is None:
            return  # it was a copy of what the source has no more
        kept, given = there[0].leases, copy.leases
        wrong = [n for n in sorted(kept.keys() | given.keys()) if kept.get(n) != given.get(n)]
        if wrong and state_of(there[0]) is State.COPY:
            lease = given.get(wrong[0]) or kept[wrong[0]]
            raise StoreError(
                f"the target does not keep the leases of block {key} as they are",
                f"the first of {len(wrong)} is {lease.ip} of {lease.owner}; nothing was moved",
            )

    def _close_joined(self, key: str, target: View) -> bool:
        """Go one step towards closing an open block that is joined; False if it has to wait."""
        there, entry = target.load(key), self._source.load(key)
        if entry is None or state_of(entry[0]) is not State.OPEN:
            return True
        block, version = moves.shown(entry[0]), entry[1]
        self._marks.require(self._mark)
        if block.holder:
            asked = moves.kept(moves.wait_for(block))
            return self._wait(key, block, lambda: self._source.swap(key, asked, version))
        joined, conflicts = moves.joined(block, there[0] if there else None, self._tag)
        if conflicts:
            self.told.conflicts += conflicts
            return False
        if there is None:
            target.swap(key, joined, None)
        elif joined is there[0]:
            self._source.swap(key, moves.moved(entry[0]), version)
        elif there[0].holder:
            theirs = moves.wait_for(there[0]), there[1]
            return self._wait(key, there[0], lambda: target.swap(key, *theirs))
        else:
            target.swap(key, joined, there[1])
        return True

    def _wait(self, key: str, block: Block, ask: Callable[[], object]) -> bool:
        """Ask a node to give back a block, in which nobody else may put leases."""
        self.told.waiting[key] = block.holder
        if not block.recalled:
            ask()
        return False

    def _settle_joined(self, key: str, entry: tuple[Block, str], target: View) -> bool:
        """Let the joined leases be the target's own; the source's block is closed."""
        there = target.load(key)
        if there is not None:
            done = moves.settled(there[0], self._tag)
            if done is not there[0] and not target.swap(key, done, there[1]):
                return False
        return self._source.swap(key, moves.gone(entry[0]), entry[1])
