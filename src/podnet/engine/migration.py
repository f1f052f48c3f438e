"""Moving a domain from one store to another while pods come and go.

What is done is in the two stores and nowhere else: a run that was killed is taken up by the next,
several runs at once do each other no harm, and allocators that meet a half-moved block finish it.
The rules are told in ``podnet.ipam.migrate``.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen, mutable

from podnet.engine import registry
from podnet.engine.migration_follow import View, identify, load_identity, load_mark, settle
from podnet.errors import InvalidConfigError, StoreError, TryAgainLaterError
from podnet.ipam import migrate as moves
from podnet.ipam.migrate import Kind, Mark, State, state_of
from podnet.model.block import domain_prefix, key_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.model.block import Block
    from podnet.model.lease import Lease
    from podnet.ports import Store

    Entry = tuple[Block, str] | None

_ATTEMPTS = 100
_PAUSE = 0.2


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


@frozen(kw_only=True)
class Found:
    """What a move of a domain would meet; nothing is written to find it.

    Attributes:
        domain: which.
        blocks: blocks to move.
        leases: leases in them.
        state: ``new``, ``unfinished`` or ``done``.
        in_use: leases of the domain that the target has already.
        held: nodes that hold blocks of it, at the source.
        conflicts: pairs of leases on one address, the source's first.
    """

    domain: str
    blocks: int
    leases: int
    state: str
    in_use: int
    held: tuple[str, ...]
    conflicts: tuple[tuple[Lease, Lease], ...]


def nothing(_moved: Moved) -> None:
    """Show no progress."""


class Migration:
    """Moves domains from one store to another. Both are the bare ones."""

    def __init__(
        self,
        source: Store,
        target: Store,
        *,
        source_url: str,
        target_url: str,
        opener: Callable[[str], Store] = registry.open_store,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the stores; they stay open.

        Args:
            source: where domains are.
            target: where they go.
            source_url: how nodes open the source.
            target_url: how nodes open the target.
            opener: opens another store by its URL.
            sleep: waits for nodes that have to give blocks back.
        """
        self._source = source
        self._target = target
        self._urls = moves.without_password(source_url), moves.without_password(target_url)
        self._opener = opener
        self._sleep = sleep
        self._view: View | None = None

    def look(self, domain: str) -> Found:
        """Return what a move would meet, without doing anything.

        Raises:
            StoreError: a store is broken.
        """
        mark, _ = load_mark(self._source, _part(domain))
        blocks = leases = in_use = 0
        held: dict[str, None] = {}
        conflicts: list[tuple[Lease, Lease]] = []
        for key in self._target.keys(domain_prefix(domain)):
            there = self._target.load(key)
            if there is not None and state_of(there[0]) is State.OPEN:
                in_use += len(there[0].leases)
        for key in self._source.keys(domain_prefix(domain)):
            entry = self._source.load(key)
            if entry is None or state_of(entry[0]) not in (State.OPEN, State.MOVED):
                continue
            block = moves.shown(entry[0])
            blocks, leases = blocks + 1, leases + len(block.leases)
            if block.holder:
                held[block.holder] = None
            there = self._target.load(key) if in_use else None
            if there is not None and state_of(there[0]) is State.OPEN:
                conflicts += moves.joined(block, there[0], moves.tag_of("-"))[1]
        return Found(
            domain=domain,
            blocks=blocks,
            leases=leases,
            state={Kind.DONE: "done", Kind.TO: "unfinished", Kind.JOIN: "unfinished"}.get(
                mark.kind, "new"
            ),
            in_use=in_use,
            held=tuple(held),
            conflicts=tuple(conflicts),
        )

    def run(
        self,
        domain: str,
        *,
        merge: bool = False,
        patience: float = 60.0,
        progress: Callable[[Moved], None] = nothing,
    ) -> Moved:
        """Move a domain, or what is left of it to move.

        Args:
            domain: which.
            merge: the target's domain may be in use: the leases are put beside those there.
            patience: seconds to wait in all for nodes that have to give blocks back.
            progress: called with what has been moved so far, after each block.

        Returns:
            What was moved. It is not ``complete`` where blocks are waited for or two owners have
            one address; another run moves the rest.

        Raises:
            InvalidConfigError: the domain cannot be moved there: it is elsewhere, or on its way
                elsewhere, or the target is the source, or in use.
            TryAgainLaterError: another run, to another store, took over.
            StoreError: a store is broken; run it again.
        """
        told = Moved(domain=domain)
        part = _part(domain)
        mark = self._begin(part, merge=merge)
        if mark is None:
            told.complete = True
            return told
        keys = list(self._source.keys(domain_prefix(domain)))
        told.blocks = len(keys)
        waited = 0.0
        rest = keys
        while rest:
            told.waiting.clear()
            told.conflicts.clear()
            rest = [key for key in rest if not self._move(key, mark, told, progress)]
            if not told.waiting or waited >= patience:
                break
            self._sleep(_PAUSE)
            waited += _PAUSE
        if not rest:
            self._end(domain, mark, told, progress)
        return told

    def _begin(self, part: str, *, merge: bool) -> Mark | None:
        """Set the marks; return the source's, or None where all is done.

        The source's is read, then the target's is written, then the source's is swapped if it is
        still what was read. From the second on who uses the target goes by the source.
        """
        here, there = identify(self._source), identify(self._target)
        if here == there:
            raise InvalidConfigError("both stores are the same one")
        for _ in range(_ATTEMPTS):
            mark, entry = load_mark(self._source, part)
            if mark.leads_away and mark.store == there:
                if mark.kind is not Kind.DONE:
                    return mark
                self._release_target(part, here)
                return None
            if mark.kind is not Kind.HOME:
                self._release_target(part, here)
                raise InvalidConfigError(_elsewhere(mark))
            if merge:
                self._require_home(part)
            elif not self._claim_target(part, here):
                continue
            kind = Kind.JOIN if merge else Kind.TO
            away = Mark(kind=kind, store=there, url=self._urls[1])
            _swap_mark(self._source, part, away, entry)
        raise TryAgainLaterError(_TOO_FAST)

    def _claim_target(self, part: str, here: str) -> bool:
        """Have all who use the target go by the source; refuse a target in use.

        The mark is written anew even if it says so already: whoever takes it back swaps the one
        that he has read, and only after that a source that is not about to be left.

        Returns:
            False if others were faster.
        """
        mark, entry = load_mark(self._target, part)
        own = mark.kind in (Kind.FROM, Kind.DONE) and mark.store == here
        if mark.kind is not Kind.HOME and not own:
            raise InvalidConfigError(f"the target cannot take it: {_elsewhere(mark)}")
        if mark.kind is not Kind.FROM and self._in_use(part):
            raise InvalidConfigError(_IN_USE, _MERGE)
        coming = Mark(kind=Kind.FROM, store=here, url=self._urls[0])
        if not _swap_mark(self._target, part, coming, entry):
            return False
        # Somebody may have made a block since the first look; with the mark set, nobody can.
        _, entry = load_mark(self._target, part)
        if not self._in_use(part, fence=True):
            return True
        if load_mark(self._source, part)[0].kind is not Kind.HOME:
            return False
        # Those who use the target made it: nobody's run gets past this, so nobody needs the mark.
        _swap_mark(self._target, part, Mark(), entry)
        raise InvalidConfigError(_IN_USE, _MERGE)

    def _require_home(self, part: str) -> None:
        mark, _ = load_mark(self._target, part)
        if mark.kind is not Kind.HOME:
            raise InvalidConfigError(f"the target cannot take it: {_elsewhere(mark)}")

    def _in_use(self, part: str, *, fence: bool = False) -> bool:
        """Tell whether the target has open blocks; with a fence, none that is begun will be."""
        for key in list(self._target.keys(f"{part}/")):
            for _ in range(_ATTEMPTS):
                entry = self._target.load(key)
                state = state_of(entry[0]) if entry else State.VACANT
                if state is State.OPEN:
                    return True
                if entry is None or state is not State.NEW or not fence:
                    break
                self._target.swap(key, moves.gone(entry[0]), entry[1])
        return False

    def _release_target(self, part: str, here: str) -> None:
        """Take the target's mark back, if the source says that all was moved, or nothing will be.

        The target's is read first: a run that begins later writes it anew.
        """
        for _ in range(_ATTEMPTS):
            mark, entry = load_mark(self._target, part)
            if mark.kind is not Kind.FROM or mark.store != here:
                return
            if load_mark(self._source, part)[0].kind in (Kind.HOME, Kind.TO, Kind.JOIN):
                return
            _swap_mark(self._target, part, Mark(), entry)

    def _end(self, domain: str, mark: Mark, told: Moved, progress: Callable[[Moved], None]) -> None:
        """Look once more that nothing is left, and say so in the marks."""
        part = _part(domain)
        for key in list(self._source.keys(domain_prefix(domain))):
            entry = self._source.load(key)
            left = entry is not None and state_of(entry[0]) is not State.GONE
            if left and not self._move(key, mark, told, progress):
                return
        now, before = load_mark(self._source, part)
        if now == mark:
            _swap_mark(self._source, part, evolve(mark, kind=Kind.DONE), before)
        self._release_target(part, identify(self._source))
        told.complete = True

    def _move(self, key: str, mark: Mark, told: Moved, progress: Callable[[Moved], None]) -> bool:
        """Move a block; return False where it has to stay for now."""
        for _ in range(_ATTEMPTS):
            entry = self._source.load(key)
            state = state_of(entry[0]) if entry else State.VACANT
            if entry is None or state is State.GONE:
                told.done += 1
                progress(told)
                return True
            if state is State.MOVED:
                self._finish(key, mark, entry, told)
            elif state is not State.OPEN:
                self._source.swap(key, moves.gone(entry[0]), entry[1])
            elif mark.kind is not Kind.JOIN:
                self._close(key, mark)
            elif not self._close_joined(key, mark, told):
                return False
        raise TryAgainLaterError(f"block {key} changes faster than it can be copied")

    def _finish(self, key: str, mark: Mark, entry: tuple[Block, str], told: Moved) -> None:
        if mark.kind is not Kind.JOIN:
            settle(self._source, self._target, key, entry)
        elif not self._settle_joined(key, entry):
            return
        after = self._source.load(key)
        if after is not None and state_of(after[0]) is State.GONE:
            told.moved += 1
            told.leases += len(entry[0].leases)

    def _close(self, key: str, mark: Mark) -> None:
        """Go one step towards closing an open block: rehearse it at the target, then close it.

        The target is read before the source: what it is given is never behind what it had.
        """
        there, entry = self._target.load(key), self._source.load(key)
        if entry is None or state_of(entry[0]) is not State.OPEN:
            return
        block, version = entry
        state = state_of(there[0]) if there else State.VACANT
        self._require(mark, key)
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

    def _close_joined(self, key: str, mark: Mark, told: Moved) -> bool:
        """Go one step towards closing an open block that is joined; False if it has to wait."""
        there, entry = self._joining.load(key), self._source.load(key)
        if entry is None or state_of(entry[0]) is not State.OPEN:
            return True
        block, version = moves.shown(entry[0]), entry[1]
        self._require(mark, key)
        if block.holder:
            told.waiting[key] = block.holder
            if not block.recalled:
                self._source.swap(key, moves.kept(moves.wait_for(block)), version)
            return False
        tag = moves.tag_of(load_identity(self._source))
        joined, conflicts = moves.joined(block, there[0] if there else None, tag)
        told.conflicts += conflicts
        if conflicts:
            return False
        if there is not None and joined is there[0]:
            self._source.swap(key, moves.moved(entry[0]), version)
        elif there is not None and there[0].holder:
            told.waiting[key] = there[0].holder
            if not there[0].recalled:
                self._joining.swap(key, moves.wait_for(there[0]), there[1])
            return False
        else:
            self._joining.swap(key, joined, there[1] if there else None)
        return True

    def _settle_joined(self, key: str, entry: tuple[Block, str]) -> bool:
        """Let the joined leases be the target's own; the source's block is closed."""
        there = self._joining.load(key)
        if there is not None:
            done = moves.settled(there[0], moves.tag_of(load_identity(self._source)))
            if done is not there[0] and not self._joining.swap(key, done, there[1]):
                return False
        return self._source.swap(key, moves.gone(entry[0]), entry[1])

    @property
    def _joining(self) -> View:
        if self._view is None:
            self._view = View(self._target, self._source, self._opener)
        return self._view

    def _require(self, mark: Mark, key: str) -> None:
        """Make sure that the block just read is still to be moved there."""
        if load_mark(self._source, moves.part_of(key))[0] != mark:
            raise TryAgainLaterError("another run took over, or has ended the move")


_IN_USE = "the target has addresses of that domain in use"
_MERGE = (("merge", "puts the leases beside those, where no two are on one address"),)
_TOO_FAST = "others change the marks of the domain faster than they can be read"


def _part(domain: str) -> str:
    return moves.part_of(domain_prefix(domain))


def _swap_mark(store: Store, part: str, mark: Mark, before: Entry) -> bool:
    block = moves.mark_block(part, mark, before[0] if before else None)
    return store.swap(block.key, block, before[1] if before else None)


def _elsewhere(mark: Mark) -> str:
    what = {
        Kind.FROM: "it is being moved there from {}: that has to end first",
        Kind.TO: "it is being moved to {}: that has to end first",
        Kind.JOIN: "it is being moved to {}: that has to end first",
        Kind.DONE: "it was moved to {}, and can be moved from there",
    }
    return what[mark.kind].format(mark.url)


def domains_of(store: Store) -> tuple[str, ...]:
    """Return the names of the domains that a bare store has blocks of, in order.

    Raises:
        StoreError: the store is broken.
    """
    found: dict[str, str] = {}
    for key in store.keys(""):
        part = moves.part_of(key)
        if part in found or key.startswith(moves.HIDDEN):
            continue
        parts = key_parts(key)
        if parts is not None:
            found[part] = parts[0]
        elif (entry := store.load(key)) is not None:
            found[part] = entry[0].domain
    return tuple(found.values())


def migrate(
    source: str,
    target: str,
    domains: Iterable[str] | None = None,
    *,
    merge: bool = False,
    patience: float = 60.0,
    progress: Callable[[Moved], None] = nothing,
) -> tuple[Moved, ...]:
    """Move domains from one store to another while both are in use; see ``Migration.run``.

    Args:
        source: URL of the store where they are.
        target: URL of the store where they go.
        domains: which; None for all.
        merge: domains that the target has in use already are joined.
        patience: seconds to wait for nodes that have to give blocks back, for each domain.
        progress: called with what has been moved so far, after each block.

    Returns:
        What was moved, for each domain.

    Raises:
        InvalidConfigError: a domain cannot be moved there, or a URL is wrong.
        TryAgainLaterError: another run took over.
        StoreError: a store is broken; call it again.
    """
    with (
        closing(registry.open_store(source)) as here,
        closing(registry.open_store(target)) as there,
    ):
        migration = Migration(here, there, source_url=source, target_url=target)
        names = domains_of(here) if domains is None else tuple(domains)
        return tuple(
            migration.run(name, merge=merge, patience=patience, progress=progress) for name in names
        )
