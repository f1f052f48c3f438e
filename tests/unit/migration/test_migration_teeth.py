"""The meetings of ``test_migration_races`` have teeth: each of these mistakes is found by one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from attrs import evolve

from podnet.engine import migration_follow, migration_ground, migration_marks, migration_move
from podnet.engine.migration_follow import Following
from podnet.engine.migration_marks import Marks
from podnet.engine.migration_move import Move
from podnet.errors import PodnetError
from podnet.ipam import migrate
from podnet.ipam.migrate import Mark, State, state_of

_spec = importlib.util.spec_from_file_location(
    "podnet_migration_races", Path(__file__).with_name("test_migration_races.py")
)
assert _spec is not None
assert _spec.loader is not None
races = importlib.util.module_from_spec(_spec)
sys.modules["podnet_migration_races"] = races
_spec.loader.exec_module(races)


def makes_blocks_at_once(patch):
    """A block is made without the empty one, so that no mark set meanwhile is seen."""

    def create(self, at, key, block, came):
        last, entry = self._locate(at, key, came)
        version = entry[1] if entry else None
        return entry is None and self._stores[last].swap(key, migrate.kept(block), version)

    patch.setattr(Following, "_create", create)


def looks_at_no_mark_before_opening(patch):
    """The empty block is opened without another look at the marks."""

    def create(self, at, key, block, came):
        last, entry = self._locate(at, key, came)
        store = self._stores[last]
        if migration_follow.state_at(entry) is State.OPEN:
            return False
        store.swap(key, migrate.new(block), entry[1] if entry else None)
        entry = store.load(key)
        return state_of(entry[0]) is State.NEW and store.swap(key, migrate.kept(block), entry[1])

    patch.setattr(Following, "_create", create)


def opens_the_rehearsal(patch):
    """The target's block is opened with what was rehearsed, not with what the source closed."""

    def settle(source, target, key, entry):
        block, version = entry
        there = target.load(key)
        if there is None or state_of(there[0]) is not State.OPEN:
            made = migrate.opened(there[0] if there else block, None)
            if not target.swap(key, made, there[1] if there else None):
                return
        source.swap(key, migrate.gone(block), version)

    rehearsed = []

    def close(self, key):
        entry = self._source.load(key)
        if state_of(entry[0]) is not State.OPEN:
            return
        there = self._target.load(key)
        if there is None or state_of(there[0]) is not State.COPY:
            copy = migrate.copied(entry[0], there[0] if there else None)
            self._target.swap(key, copy, there[1] if there else None)
            rehearsed.append(key)
        else:
            self._source.swap(key, migrate.moved(entry[0]), entry[1])

    for module in (migration_follow, migration_move, migration_ground):
        patch.setattr(module, "settle", settle)
    patch.setattr(Move, "_close", close)


def copies_and_deletes(patch):
    """The source's block is emptied after it was copied, as a script would do it."""

    def close(self, key):
        entry = self._source.load(key)
        there = self._target.load(key)
        if there is not None and state_of(there[0]) is State.OPEN:
            entry = self._source.load(key)
            self._source.swap(key, migrate.gone(entry[0]), entry[1])
        else:
            made = migrate.opened(entry[0], None)
            self._target.swap(key, made, there[1] if there else None)

    patch.setattr(Move, "_close", close)


def sets_no_mark_at_the_target(patch):
    """Whoever uses the target hands out what the source still has."""
    patch.setattr(Marks, "_claim_target", lambda self: True)


def sets_no_mark_at_the_source(patch):
    """Blocks are made at the source after its blocks were listed."""
    begin = Marks.begin

    def silent(self, *, merge):
        mark = begin(self, merge=merge)
        if mark is not None:
            _, entry = migration_marks.load_mark(self._source.store, self._part)
            self._swap(self._source, Mark(), entry)
        return mark

    patch.setattr(Marks, "begin", silent)
    patch.setattr(Marks, "require", lambda self, mark: None)


def seeks_once(patch):
    """An owner is looked for without a second look at the marks."""

    def seek(self, prefix, owner):
        places = dict.fromkeys((each.at, each.prefix) for each in self._places(0, prefix))
        found = [
            sorted(migration_follow._sought(self._stores[at], start, owner))
            for at, start in reversed(list(places))
        ]
        return migration_follow._merged(found)

    patch.setattr(Following, "_seek", seek)


def frees_the_target_too_early(patch):
    """The target's mark is taken back although blocks are left at the source."""
    patch.setattr(
        Marks,
        "end",
        lambda self, mark: self._swap(
            self._target, Mark(), migration_marks.load_mark(self._target.store, self._part)[1]
        ),
    )
    patch.setattr(Move, "blocks", lambda self, keys: [])
    patch.setattr(Move, "end", lambda self: self._marks.end(self._mark))


def opens_what_it_read_before(patch):
    """A closed block is opened at the target though it may have been there, and gone on, since."""

    def settle(source, target, key, entry):
        there = target.load(key)
        if state_of(there and there[0]) is not State.OPEN:
            made = migrate.opened(entry[0], there and there[0])
            if not target.swap(key, made, there and there[1]):
                return
        source.swap(key, migrate.gone(entry[0]), entry[1])

    for module in (migration_ground, migration_follow, migration_move):
        patch.setattr(module, "settle", settle)


def fences_nothing(patch):
    """Blocks that are begun at the target when it is claimed are opened nevertheless."""
    in_use = Marks._in_use

    def unfenced(self, *, fence=False):
        return in_use(self)

    patch.setattr(Marks, "_in_use", unfenced)


def keeps_what_was_released_while_joining(patch):
    """What the source released after it was put into the target's block stays there."""
    joined = migrate.joined

    def keeping(block, into, tag):
        made, conflicts = joined(block, into, tag)
        if into is None:
            return made, conflicts
        stale = {n: e for n, e in into.leases.items() if n not in made.leases}
        leases = {**stale, **made.leases}
        same = leases == dict(into.leases)
        return (into if same else evolve(made, leases=leases)), conflicts

    patch.setattr(migrate, "joined", keeping)


def joins_without_closing_first(patch):
    """The joined leases count before the source's block is closed."""
    joined = migrate.joined

    def untagged(block, into, tag):
        made, conflicts = joined(block, into, tag)
        return (made if made is into else migrate.settled(made, tag)), conflicts

    patch.setattr(migrate, "joined", untagged)


BROKEN = {
    makes_blocks_at_once: "a new block is made at the source",
    looks_at_no_mark_before_opening: "a new block is made at the source",
    opens_the_rehearsal: "an address goes out at the source",
    copies_and_deletes: "an address goes out at the source",
    sets_no_mark_at_the_target: "both ways at once",
    sets_no_mark_at_the_source: "a new block is made at the source",
    seeks_once: "an address comes back at the source",
    frees_the_target_too_early: "a new block is made at the source",
    opens_what_it_read_before: "there and back meanwhile",
    fences_nothing: "",
    keeps_what_was_released_while_joining: "a join, and an address comes back",
    joins_without_closing_first: "a join, and an address comes back",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_mistake_is_found(broken, monkeypatch):
    broken(monkeypatch)
    with pytest.raises((AssertionError, PodnetError)):
        races.orders(BROKEN[broken], stride=1) if BROKEN[broken] else races.three_meet()
