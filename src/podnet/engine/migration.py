"""Moving a domain from one store to another while pods come and go.

What is done is in the two stores and nowhere else: a run that was killed is taken up by the next,
several runs at once do each other no harm, and allocators that meet a half-moved block finish it.
The rules are told in ``podnet.ipam.migrate``.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from attrs import frozen

from podnet.engine import registry
from podnet.engine.migration_ground import identify, load_identity, load_mark
from podnet.engine.migration_marks import Marks, Side
from podnet.engine.migration_move import Move, Moved, nothing
from podnet.engine.migration_rename import Renamed, part
from podnet.errors import InvalidConfigError
from podnet.ipam import migrate as moves
from podnet.ipam.migrate import Kind, State, state_of
from podnet.ipam.migrate_names import target_name
from podnet.model.block import domain_prefix, key_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.model.lease import Lease
    from podnet.ports import Store

_PAUSE = 0.2
_SAME = "both stores are the same one"


@frozen(kw_only=True)
class Found:
    """What a move of a domain would meet; nothing is written to find it.

    Attributes:
        domain: which.
        name: what it will be called there.
        blocks: blocks to move.
        leases: leases in them.
        state: ``new``, ``unfinished``, ``done``, or ``refused``.
        in_use: leases of the domain that the target has already.
        held: nodes that hold blocks of it, at the source.
        conflicts: pairs of leases on one address, the source's first.
        problem: why it is refused; empty if it is not.
    """

    domain: str
    name: str
    blocks: int
    leases: int
    state: str
    in_use: int
    held: tuple[str, ...]
    conflicts: tuple[tuple[Lease, Lease], ...]
    problem: str = ""


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

    def look(self, domain: str, *, merge: bool = False) -> Found:
        """Return what a move would meet, without doing anything.

        Args:
            domain: which.
            merge: it would be joined with the target's.

        Raises:
            InvalidConfigError: the target's format has no room for it.
            StoreError: a store is broken.
        """
        name, target = self._there(domain)
        mark, _ = load_mark(self._source, part(domain))
        problem = self._problem(domain, name, target, merge=merge)
        state = "unfinished" if mark.kind in (Kind.TO, Kind.JOIN) else "new"
        state = "refused" if problem else "done" if mark.kind is Kind.DONE else state
        blocks = leases = in_use = 0
        held: dict[str, None] = {}
        conflicts: list[tuple[Lease, Lease]] = []
        for key in target.keys(domain_prefix(domain)):
            there = target.load(key)
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
            there = target.load(key) if in_use else None
            if there is not None and state_of(there[0]) is State.OPEN:
                conflicts += moves.joined(block, there[0], moves.tag_of("", ""))[1]
        return Found(
            domain=domain,
            name=name,
            blocks=blocks,
            leases=leases,
            state=state,
            in_use=in_use,
            held=tuple(held),
            conflicts=tuple(conflicts),
            problem=problem,
        )

    def _problem(self, domain: str, name: str, target: Store, *, merge: bool) -> str:
        """Return why a run would be refused; empty if it would not."""
        here, there = load_identity(self._source), load_identity(self._target)
        # A store that never was in a move has no identity, yet.
        if here == there and (here or self._urls[0] == self._urls[1]):
            return _SAME
        source = Side(store=self._source, identity=here, url=self._urls[0], domain=domain)
        goal = Side(store=target, identity=there, url=self._urls[1], domain=name)
        try:
            Marks(source, goal, part(domain)).check(merge=merge)
        except InvalidConfigError as error:
            return str(error)
        return ""

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
        source, goal = self._sides(domain)
        marks = Marks(source, goal, part(domain))
        mark = marks.begin(merge=merge)
        if mark is None:
            return Moved(domain=domain, complete=True)
        move = Move(source, goal, marks, mark, progress, self._opener)
        rest = list(self._source.keys(domain_prefix(domain)))
        move.told.blocks = len(rest)
        waited = 0.0
        while rest:
            rest = move.blocks(rest)
            if not move.told.waiting or waited >= patience:
                break
            self._sleep(_PAUSE)
            waited += _PAUSE
        if not rest:
            move.end()
        return move.told

    def cancel(self, domain: str) -> bool:
        """End a move that was begun and has moved nothing: the target has the domain for itself.

        Nodes must still name the source: what those who name the target were given meanwhile is
        there.

        Args:
            domain: which.

        Returns:
            False if the target knows of no such move.

        Raises:
            InvalidConfigError: blocks may have moved, or the domain is being moved from elsewhere.
            TryAgainLaterError: others change the marks.
            StoreError: a store is broken.
        """
        source, goal = self._sides(domain)
        return Marks(source, goal, part(domain)).cancel()

    def _sides(self, domain: str) -> tuple[Side, Side]:
        """Return the source and the target as the marks of a domain tell of them.

        Raises:
            InvalidConfigError: they are the same, or the target's format has no room for it.
        """
        name, target = self._there(domain)
        here, there = identify(self._source), identify(self._target)
        if here == there:
            raise InvalidConfigError(_SAME)
        return (
            Side(store=self._source, identity=here, url=self._urls[0], domain=domain),
            Side(store=target, identity=there, url=self._urls[1], domain=name),
        )

    def _there(self, domain: str) -> tuple[str, Store]:
        """Return what the domain is called at the target, and the target under its name here.

        Raises:
            InvalidConfigError: the target's format has no room for it.
        """
        old, new = (url.partition(":")[0] for url in self._urls)
        mark, _ = load_mark(self._source, part(domain))
        if mark.leads_away and mark.store == load_identity(self._target):
            name = mark.domain  # it has begun
        else:
            name = target_name(domain, old, new, lambda: self._networks(domain))
        if name == domain:
            return name, self._target
        return name, Renamed(self._target, part(domain), name)

    def _networks(self, domain: str) -> set[str]:
        """Return the networks that the domain's leases are of."""
        found: set[str] = set()
        for key in self._source.keys(domain_prefix(domain)):
            entry = self._source.load(key)
            found |= (
                {str(each.cidr.masked) for each in entry[0].leases.values()} if entry else set()
            )
        return found


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


def require_durable(url: str) -> None:
    """Refuse a store that ends with this process.

    Raises:
        InvalidConfigError: it does, and what is moved there would be lost.
    """
    if url.partition(":")[0] == "memory":
        raise InvalidConfigError(
            f"store {url!r} ends with the process: no domain can be moved from or to it"
        )


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
        InvalidConfigError: a domain cannot be moved there, or a URL is wrong, or names a store
            that ends with the process.
        TryAgainLaterError: another run took over.
        StoreError: a store is broken; call it again.
    """
    for url in (source, target):
        require_durable(url)
    with (
        closing(registry.open_store(source)) as here,
        closing(registry.open_store(target)) as there,
    ):
        migration = Migration(here, there, source_url=source, target_url=target)
        names = domains_of(here) if domains is None else tuple(domains)
        return tuple(
            migration.run(name, merge=merge, patience=patience, progress=progress) for name in names
        )
