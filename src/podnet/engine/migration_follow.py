"""A store that knows where a domain went: what allocators use in place of the bare store.

While a domain moves, and after it has moved, whoever still has the other store in his settings is
led to the block that counts. The rules are told in ``podnet.ipam.migrate``.
"""

from __future__ import annotations

import heapq
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from podnet.engine import registry
from podnet.engine.migration_ground import load_identity, load_mark, marks, settle, state_at
from podnet.engine.migration_rename import Renamed, base_of, part
from podnet.errors import PodnetError, StoreError, TryAgainLaterError
from podnet.ipam import migrate
from podnet.ipam.migrate import Kind, Mark, State, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.ports import Store

    Entry = tuple[Block, str] | None

_HOPS = 8
_ATTEMPTS = 20


class Following:
    """Passes calls on to the store, or to the one that a domain moved to.

    A block that has not moved costs what it costs in the bare store, and a look at its holder. A
    block that is made costs one more write and two more reads, a listing one more read.
    """

    def __init__(
        self, store: Store, *, opener: Callable[[str], Store] = registry.open_store
    ) -> None:
        """Take a store; closing this closes it.

        Args:
            store: the one that the settings name.
            opener: opens another by its URL, when a domain turns out to be there.
        """
        self._stores: list[Store] = [store]
        self._opener = opener
        self._bases: dict[str, Store] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._lock = threading.Lock()
        if hasattr(store, "seek"):
            self.seek = self._seek

    def __getattr__(self, name: str) -> Any:
        """Return what else the store offers: hints, and what is its own format's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._stores[0], name)

    @property
    def home(self) -> Store:
        """The bare store that this was made of."""
        return self._stores[0]

    def load(self, key: str) -> Entry:
        """Return the block that counts and its version, or None where there is none.

        Raises:
            StoreError: a store is broken or unreachable.
            TryAgainLaterError: the domain is in a store that cannot be had from here.
        """
        return self.load_at(0, key)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block that counts if it is still at version ``expected``.

        Raises:
            StoreError: a store is broken; whether the write happened is unknown.
            TryAgainLaterError: the domain is in a store that cannot be had from here.
        """
        return self.swap_at(0, key, new, expected)

    def keys(self, prefix: str) -> Iterator[str]:
        """Return the keys that start with ``prefix``, in order, wherever the blocks are."""
        places = dict.fromkeys((each.at, each.prefix) for each in self._places(0, prefix))
        return _merged([self._stores[at].keys(start) for at, start in places])

    def close(self) -> None:
        """Close all stores that were opened. May be called again."""
        home = base_of(self._stores[0])
        for store in (home, *(each for each in self._bases.values() if each is not home)):
            store.close()

    def _seek(self, prefix: str, owner: Owner) -> Iterator[str]:
        places: tuple[_Place, ...] = (_Place(0, prefix, ""),)
        for _ in range(_ATTEMPTS):
            found = [
                sorted(_sought(self._stores[at], start, owner))
                for at, start in dict.fromkeys((each.at, each.prefix) for each in places)
            ]
            # Where a mark was set meanwhile, blocks may have been missed in both stores.
            before, places = places, self._places(0, prefix)
            if places == before:
                return _merged(found)
        raise TryAgainLaterError(f"domains under {prefix!r} move faster than they can be searched")

    def know(self, store: Store, domain: str) -> int:
        """Return the number by which an open store is known here from now on.

        Args:
            store: which.
            domain: of whose blocks; there it has the name that it has here.
        """
        with self._lock:
            identity = load_identity(store)
            self._bases[identity] = store
            self._stores.append(store)
            self._numbers[part(domain), identity, domain] = len(self._stores) - 1
            return len(self._stores) - 1

    def load_at(self, at: int, key: str, came: int | None = None) -> Entry:
        """Load as somebody does whose settings name the store of a number.

        Args:
            at: the number.
            key: of the block.
            came: number of the store whose mark led there; None for none.
        """
        entry = _load(self._stores[at], key)
        if entry is None or entry[0].holder.startswith("!"):
            at, entry = self._locate(at, key, came)
            if entry is None or state_of(entry[0]) is not State.OPEN:
                return self._around(at, key)
            entry = migrate.shown(entry[0]), entry[1]
        if key.startswith(migrate.HIDDEN):
            return None
        return entry[0], f"{at}:{entry[1]}"

    def _around(self, at: int, key: str) -> Entry:
        """Return what a shared format tells of addresses of a block that is not there."""
        store = self._stores[at]
        entry = store.load(key) if hasattr(store, "is_made") else None
        if entry is None or not entry[0].leases:
            return None
        return evolve(entry[0], holder="", sequence=0), f"{at}:"

    def swap_at(
        self,
        at: int,
        key: str,
        new: Block | None,
        expected: str | None,
        came: int | None = None,
    ) -> bool:
        """Swap; ``at`` and ``came`` as in ``load_at``."""
        if key.startswith(migrate.HIDDEN):
            raise StoreError(f"{key!r} is where podnet keeps what it knows of moves")
        if expected is None:
            return (
                self.load_at(at, key) is None if new is None else self._create(at, key, new, came)
            )
        number, _, version = expected.partition(":")
        if not number.isdigit() or int(number) >= len(self._stores):
            return False
        if not version:  # there was none, and something was told of its addresses nevertheless
            return self.swap_at(at, key, new, None, came)
        store = self._stores[int(number)]
        return store.swap(key, None if new is None else migrate.kept(new), version)

    def _create(self, at: int, key: str, block: Block, came: int | None) -> bool:
        """Make a block: an empty one first, then a look at the marks, then the block.

        Whoever sets a mark lists the blocks after it: he has seen the empty one, or the mark has
        been seen here.
        """
        store = self._stores[at]
        store.swap(key, migrate.new(block), None)
        entry = _load(store, key)
        before = None if entry is None else (at, entry[1])
        for _ in range(_ATTEMPTS):
            last, entry = self._locate(at, key, came)
            store = self._stores[last]
            state = state_at(entry)
            if state is State.OPEN:
                return False
            if entry is None or state is not State.NEW:
                store.swap(key, migrate.new(block), entry[1] if entry else None)
            elif before == (last, entry[1]):
                return store.swap(key, migrate.kept(block), entry[1])
            else:
                before = last, entry[1]
        return False

    def _locate(self, at: int, key: str, came: int | None = None) -> tuple[int, Entry]:
        """Return the number of the store where a block counts, and what is there.

        What is there may be no open block: then there is none anywhere, and one may be made there.

        Args:
            at: number of the store to begin in.
            key: of the block.
            came: number of the store whose mark led here.

        Raises:
            TryAgainLaterError: it cannot be found.
        """
        for _ in range(_ATTEMPTS):
            found = self._walk(at, key, came, _HOPS)
            if found is not None:
                return found
        raise TryAgainLaterError(
            f"block {key} is neither where it was nor where it went",
            "if this lasts, the store it was moved to has lost it",
        )

    def _walk(self, at: int, key: str, came: int | None, hops: int) -> tuple[int, Entry] | None:
        """Go by the marks once; None where what is read is not of one time.

        That there is no block is believed only where none ever was, in none of the stores: what
        is read of them one after the other then was so at once.
        """
        store = self._stores[at]
        entry = before = _load(store, key)
        if state_at(entry) is State.OPEN:
            return at, entry
        mark, seen = load_mark(store, migrate.part_of(key))
        if seen is not None:
            # With the mark set, what is not open now never will be.
            entry = _load(store, key)
        state = state_at(entry)
        if state is State.OPEN:
            return at, entry
        if state is State.NEW and (before is None or entry is None or before[1] != entry[1]):
            return None
        if (
            state is State.NEW
            and entry is not None
            and mark.leads_away
            # Whoever began it may have read the mark before it was set: he is not to open it.
            and not store.swap(key, migrate.gone(entry[0]), entry[1])
        ):
            return None
        if state is State.MOVED and mark.kind is not Kind.JOIN:
            if entry is not None and mark.leads_away:
                settle(store, self._stores[self._follow(mark, migrate.part_of(key))], key, entry)
            return None
        found: tuple[int, Entry] | None = (at, entry)
        there = at if mark.kind is Kind.HOME else self._follow(mark, migrate.part_of(key))
        if mark.leads_away or (mark.kind is Kind.FROM and there != came):
            if not hops:
                raise StoreError(f"block {key}: the marks of its domain lead in a circle")
            found = self._walk(there, key, at if mark.leads_away else None, hops - 1)
        if found is not None and state_at(found[1]) is State.OPEN:
            return found
        return found if migrate.never_open(entry[0] if entry else None) else None

    def _follow(self, mark: Mark, asked: str) -> int:
        """Return the number of the store that a mark names, with the domain under its name here.

        Args:
            mark: of the domain.
            asked: what stands for the domain in keys that are asked for here.

        Raises:
            TryAgainLaterError: it cannot be opened here, or another one is there.
        """
        with self._lock:
            place = asked, mark.store, mark.domain
            known = self._numbers.get(place)
            if known is None:
                base, home = self._base(mark), self._stores[0]
                at_home = home.there_part if isinstance(home, Renamed) else asked
                if base is base_of(home) and part(mark.domain) == at_home:
                    known = 0
                else:
                    known = len(self._stores)
                    same = part(mark.domain) == asked
                    self._stores.append(base if same else Renamed(base, asked, mark.domain))
                self._numbers[place] = known
            return known

    def _base(self, mark: Mark) -> Store:
        """Return the bare store that a mark names."""
        home = base_of(self._stores[0])
        if home not in self._bases.values() and (own := load_identity(home)):
            self._bases[own] = home
        if mark.store in self._bases:
            return self._bases[mark.store]
        try:
            store = self._opener(mark.url)
        except PodnetError as error:
            raise TryAgainLaterError(
                f"{_where(mark)}, which cannot be opened", str(error)
            ) from error
        if load_identity(store) != mark.store:
            with suppress(PodnetError):
                store.close()
            raise TryAgainLaterError(
                f"{_where(mark)}, which is another one on this machine",
                "a store of one machine's own files can be followed to on that machine only",
            )
        self._bases[mark.store] = store
        return store

    def _places(self, at: int, prefix: str, hops: int = _HOPS) -> tuple[_Place, ...]:
        """Return the stores where keys of a prefix may be, those that blocks leave first."""
        places = [_Place(at, prefix, "")]
        for asked, mark, version in marks(self._stores[at], prefix):
            places[0] = evolve(places[0], marks=f"{places[0].marks}{version} ".strip())
            if mark.kind is Kind.HOME or not hops:
                continue
            whole = prefix if "/" in prefix else f"{asked}/"
            there = self._follow(mark, asked)
            if mark.leads_away:
                places += self._places(there, whole, hops - 1)
            else:
                places.insert(0, _Place(there, whole, version))  # it leads back here: no further
        return tuple(places)


@frozen
class _Place:
    """Where to look for keys: number of the store, prefix, versions of the marks that led there."""

    at: int
    prefix: str
    marks: str


class View:
    """The target of a join, as those see it who come from the source of it."""

    def __init__(
        self, target: Store, source: Store, domain: str, opener: Callable[[str], Store]
    ) -> None:
        """Take both stores; neither is closed here."""
        self._following = Following(target, opener=opener)
        self._came = self._following.know(source, domain)

    def load(self, key: str) -> Entry:
        """Load; see ``Following.load``."""
        return self._following.load_at(0, key, self._came)

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Swap; see ``Following.swap``."""
        return self._following.swap_at(0, key, new, expected, self._came)


def _load(store: Store, key: str) -> Entry:
    """Load what is there, and nothing of what a shared format tells of other blocks' leases."""
    entry = store.load(key)
    is_made = getattr(store, "is_made", None)
    return None if entry is None or (is_made and not is_made(entry[1])) else entry


def _sought(store: Store, prefix: str, owner: Owner) -> Iterable[str]:
    seek = getattr(store, "seek", None)
    keys: Iterable[str] = store.keys(prefix) if seek is None else seek(prefix, owner)
    return keys


def _merged(found: list[Iterable[str]] | list[list[str]]) -> Iterator[str]:
    before = ""
    for key in heapq.merge(*found) if len(found) > 1 else found[0]:
        if key != before and not key.startswith(migrate.HIDDEN):
            yield key
        before = key


def _where(mark: Mark) -> str:
    verb = "is being moved from" if mark.kind is Kind.FROM else "was moved to"
    return f"domain {mark.domain} {verb} {mark.url}"


def follow(url: str) -> Following:
    """Open the store that a URL names, and follow domains to where they moved.

    Raises:
        InvalidConfigError: no store has that scheme, or the URL is not one of it.
        StoreError: the store cannot be opened.
    """
    return Following(registry.open_store(url))
