"""The marks of one domain in two stores: set before the first block moves, ended after the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.engine.migration_ground import load_mark
from podnet.errors import InvalidConfigError, TryAgainLaterError
from podnet.ipam import migrate as moves
from podnet.ipam.migrate import Kind, Mark, State, state_of

if TYPE_CHECKING:
    from podnet.model.block import Block
    from podnet.ports import Store

    Entry = tuple[Block, str] | None

_ATTEMPTS = 100
_IN_USE = "the target has addresses of that domain in use"
_MERGE = (("--merge", "puts the leases beside those, where no two are on one address"),)
_BEGUN = "blocks may have moved: run the move to its end, then move the domain back"
_DONE = "all of it was moved: move the domain back"
_TOO_FAST = "others change the marks of the domain faster than they can be read"


@frozen(kw_only=True)
class Side:
    """One of the two stores, as the marks tell of it.

    Attributes:
        store: the store, with the domain under the source's name.
        identity: what the store says it is.
        url: how nodes open it, without a password.
        domain: the domain's name in it.
    """

    store: Store
    identity: str
    url: str
    domain: str

    def mark(self, kind: Kind) -> Mark:
        """Return a mark that names this side, for the other."""
        return Mark(kind=kind, store=self.identity, url=self.url, domain=self.domain)

    def is_named_by(self, mark: Mark) -> bool:
        """Tell whether a mark names this side."""
        return (mark.store, mark.domain) == (self.identity, self.domain)


class Marks:
    """The marks of one domain that is moved."""

    def __init__(self, source: Side, target: Side, part: str) -> None:
        """Take both sides.

        Args:
            source: where the domain is.
            target: where it goes.
            part: what stands for the domain in keys.
        """
        self._source, self._target, self._part = source, target, part

    def check(self, *, merge: bool) -> None:
        """Tell whether ``begin`` would refuse; nothing is written.

        Raises:
            InvalidConfigError: it would.
            StoreError: a store is broken.
        """
        mark, _ = load_mark(self._source.store, self._part)
        if mark.leads_away and self._target.is_named_by(mark):
            return
        if mark.kind is not Kind.HOME:
            raise InvalidConfigError(_elsewhere(mark))
        if merge:
            self._require_home()
        else:
            self._require_free(load_mark(self._target.store, self._part)[0])

    def begin(self, *, merge: bool) -> Mark | None:
        """Set the marks; return the source's, or None where all is done.

        The source's is read, then the target's is written, then the source's is swapped if it is
        still what was read. From the second on who uses the target goes by the source. Before the
        target's the source's is written as it is: one that cannot be written is found out first.

        Raises:
            InvalidConfigError: the domain is elsewhere, or on its way, or the target in use.
            StoreError: a mark cannot be written.
            TryAgainLaterError: others change the marks.
        """
        mark, entry = load_mark(self._source.store, self._part)
        if mark.kind is Kind.HOME:
            self._swap(self._source, mark, entry)
        for _ in range(_ATTEMPTS):
            mark, entry = load_mark(self._source.store, self._part)
            if mark.leads_away and self._target.is_named_by(mark):
                if mark.kind is not Kind.DONE:
                    return mark
                self._release_target()
                return None
            if mark.kind is not Kind.HOME:
                self._release_target()
                raise InvalidConfigError(_elsewhere(mark))
            if merge:
                self._require_home()
            elif not self._claim_target():
                continue
            away = self._target.mark(Kind.JOIN if merge else Kind.TO)
            self._swap(self._source, away, entry)
        raise TryAgainLaterError(_TOO_FAST)

    def cancel(self) -> bool:
        """Take the target's mark back where the source's was not set, so that nothing has moved.

        Returns:
            False if there is no such mark.

        Raises:
            InvalidConfigError: blocks may have moved, or the mark names another store.
            TryAgainLaterError: others change the marks.
        """
        for _ in range(_ATTEMPTS):
            there, entry = load_mark(self._target.store, self._part)
            mark, seen = load_mark(self._source.store, self._part)
            if mark.leads_away and self._target.is_named_by(mark):
                raise InvalidConfigError(_DONE if mark.kind is Kind.DONE else _BEGUN)
            if there.kind is not Kind.FROM:
                return False
            if not self._source.is_named_by(there):
                raise InvalidConfigError(f"it is being moved from another store: {there.url}")
            # Whoever is about to leave the source swaps the mark that he has read.
            before = self._source.mark(Kind.DONE) if self._was_at_target() else Mark()
            if mark.kind is Kind.HOME and not self._swap(self._source, mark, seen):
                continue
            if self._swap(self._target, before, entry):
                return True
        raise TryAgainLaterError(_TOO_FAST)

    def require(self, mark: Mark) -> None:
        """Make sure that a block of the source that was just read is still to be moved.

        Raises:
            TryAgainLaterError: it is not.
        """
        if load_mark(self._source.store, self._part)[0] != mark:
            raise TryAgainLaterError("another run took over, or has ended the move")

    def end(self, mark: Mark) -> None:
        """Say that nothing is left at the source.

        Raises:
            StoreError: a store is broken.
        """
        now, before = load_mark(self._source.store, self._part)
        if now == mark:
            self._swap(self._source, evolve(mark, kind=Kind.DONE), before)
        self._release_target()

    def _claim_target(self) -> bool:
        """Have all who use the target go by the source; refuse a target in use.

        The mark is written anew even if it says so already: whoever takes it back swaps the one
        that he has read, and only after that a source that is not about to be left.

        Returns:
            False if others were faster.
        """
        mark, entry = load_mark(self._target.store, self._part)
        self._require_free(mark)
        if not self._swap(self._target, self._source.mark(Kind.FROM), entry):
            return False
        # Somebody may have made a block since the first look; with the mark set, nobody can.
        _, entry = load_mark(self._target.store, self._part)
        if not self._in_use(fence=True):
            return True
        if load_mark(self._source.store, self._part)[0].kind is not Kind.HOME:
            return False
        # Those who use the target made it: nobody's run gets past this, so nobody needs the mark.
        self._swap(self._target, Mark(), entry)
        raise InvalidConfigError(_IN_USE, _MERGE)

    def _require_free(self, mark: Mark) -> None:
        """Refuse a target, of which this is the mark, that is another store's or in use."""
        own = mark.kind in (Kind.FROM, Kind.DONE) and self._source.is_named_by(mark)
        if mark.kind is not Kind.HOME and not own:
            raise InvalidConfigError(f"the target cannot take it: {_elsewhere(mark)}")
        if mark.kind is not Kind.FROM and self._in_use():
            raise InvalidConfigError(_IN_USE, _MERGE)

    def _require_home(self) -> None:
        mark, _ = load_mark(self._target.store, self._part)
        if mark.kind is not Kind.HOME:
            raise InvalidConfigError(f"the target cannot take it: {_elsewhere(mark)}")

    def _in_use(self, *, fence: bool = False) -> bool:
        """Tell whether the target has open blocks; with a fence, none that is begun will be."""
        store = self._target.store
        for key in list(store.keys(f"{self._part}/")):
            for _ in range(_ATTEMPTS):
                entry = store.load(key)
                state = state_of(entry[0]) if entry else State.VACANT
                if state is State.OPEN:
                    return True
                if entry is None or state is not State.NEW or not fence:
                    break
                store.swap(key, moves.gone(entry[0]), entry[1])
        return False

    def _was_at_target(self) -> bool:
        """Tell whether the domain was at the target before it was at the source."""
        store = self._target.store
        entries = map(store.load, list(store.keys(f"{self._part}/")))
        return any(entry is not None and not moves.never_open(entry[0]) for entry in entries)

    def _release_target(self) -> None:
        """Take the target's mark back, if the source says that all was moved, or nothing will be.

        The target's is read first: a run that begins later writes it anew.
        """
        for _ in range(_ATTEMPTS):
            mark, entry = load_mark(self._target.store, self._part)
            if mark.kind is not Kind.FROM or not self._source.is_named_by(mark):
                return
            kind = load_mark(self._source.store, self._part)[0].kind
            if kind in (Kind.HOME, Kind.TO, Kind.JOIN):
                return
            self._swap(self._target, Mark(), entry)

    def _swap(self, side: Side, mark: Mark, before: Entry) -> bool:
        block = moves.mark_block(self._part, mark, before[0] if before else None)
        return side.store.swap(block.key, block, before[1] if before else None)


def _elsewhere(mark: Mark) -> str:
    what = {
        Kind.FROM: "it is being moved there from {}: that has to end first",
        Kind.TO: "it is being moved to {}: that has to end first",
        Kind.JOIN: "it is being moved to {}: that has to end first",
        Kind.DONE: "it was moved to {}, and can be moved from there",
    }
    return what[mark.kind].format(mark.url)
