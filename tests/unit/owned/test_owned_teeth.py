"""Holding of blocks that is broken on purpose: the machine must catch every one of it."""

from __future__ import annotations

import owned_courses as courses
import pytest
from attrs import evolve
from hypothesis import Phase
from owned_machine import MixedMachine, OwnedMachine

from podnet.engine import turns
from podnet.engine.owning import Owning
from podnet.engine.owning_records import Records
from podnet.engine.owning_turn import OwnedTurn
from podnet.engine.turns import Turn
from podnet.errors import PodnetError
from podnet.ipam import owned, space
from podnet.testing import run_machine


def nothing(*_args, **_options):
    return None


def _publishing_overwrites(patch):
    """What others took away comes back with the next publication."""
    patch.setattr(owned, "merge", lambda record, shared, now: (record, ()))


def _merging_drops_what_was_not_told(patch):
    right = owned.merge

    def merge(record, shared, now):
        return right(record, evolve(shared, sequence=record.sequence), now)

    patch.setattr(owned, "merge", merge)


def _recalls_are_ignored(patch):
    right = Records.settle

    def settle(self, key, **options):
        shared = self._shared

        class Deaf:
            swap = shared.swap

            @staticmethod
            def load(key):
                entry = shared.load(key)
                return entry and (evolve(entry[0], recalled=False), entry[1])

        self._shared = Deaf
        try:
            return right(self, key, **options)
        finally:
            self._shared = shared

    patch.setattr(Records, "settle", settle)


def _given_back_without_a_word_to_oneself(patch):
    """The shared copy is nobody's already, and the record is still open."""
    right = Records.settle

    def settle(self, key, *, publish=False, give_back=False):
        shared = self._shared.load(key)
        entry = self._local.load(key)
        if entry is None or shared is None or not (give_back or shared[0].recalled):
            return right(self, key, publish=publish)
        new, _ = owned.merge(entry[0], shared[0], 0.0)
        if owned.is_held(entry[0], shared[0], self._node):
            self._shared.swap(key, owned.given_back(new), shared[1])
        again = self._local.load(key)
        if again is not None:
            self._local.swap(key, None, again[1])
        self._drop(key)
        return None

    patch.setattr(Records, "settle", settle)


def _forgotten_before_it_is_told(patch):
    right = Records.finish

    def finish(self, key):
        entry, shared = self._local.load(key), self._shared.load(key)
        if entry is not None and owned.state_of(entry[0]) is owned.State.CLOSING:
            self._local.swap(key, None, entry[1])
            self._drop(key)
            if shared is not None and owned.is_held(entry[0], shared[0], self._node):
                self._shared.swap(key, owned.given_back(entry[0]), shared[1])
        return right(self, key)

    patch.setattr(Records, "finish", finish)


def _claimed_without_a_word_to_oneself(patch):
    def claim(self, key, empty, fits):
        shared = self._shared.load(key)
        there = shared[0] if shared else empty
        if there.holder or not fits(there):
            return False
        new = owned.claimed(there, self._node, there.sequence + 1)
        if not self._shared.swap(key, new, shared[1] if shared else None):
            return False
        return self._local.swap(key, owned.opened(new), None)

    patch.setattr(Records, "_claim", claim)


def _a_claim_under_way_is_forgotten(patch):
    def withdraw(self, key):
        entry = self._local.load(key)
        if entry is not None and owned.state_of(entry[0]) is owned.State.CLAIMING:
            self._local.swap(key, None, entry[1])

    patch.setattr(Records, "_withdraw", withdraw)


def _numbers_go_on_after_a_reclaim(patch):
    right = owned.reclaimed

    def reclaimed(block, node, now, **options):
        new, gone = right(block, node, now, **options)
        return evolve(new, sequence=block.sequence) if new is not block else new, gone

    patch.setattr(owned, "reclaimed", reclaimed)


def _reclaim_takes_what_lives(patch):
    right = owned.reclaimed

    def reclaimed(block, node, now, **options):
        return right(evolve(block, holder=node) if block.holder else block, node, now, **options)

    patch.setattr(owned, "reclaimed", reclaimed)


def _records_are_trusted_after_a_restart(patch):
    right = Records.load

    def load(self, key):
        entry = self._local.load(key)
        if entry is not None and owned.state_of(entry[0]) is owned.State.OPEN:
            if key not in self.held:
                self._keep(key, entry[0], None, changes=0, is_told=False)
            return entry
        return right(self, key)

    patch.setattr(Records, "load", load)


def _others_blocks_are_used(patch):
    patch.setattr(OwnedTurn, "_usable", lambda self, block: True)


def _exhausted_though_others_may_have_some(patch):
    patch.setattr(OwnedTurn, "_recall", nothing)

    def none_left(self, request):
        self._lane.foreign.clear()
        return Turn._none_left(self, request)

    patch.setattr(OwnedTurn, "_none_left", none_left)


def _only_blocks_with_room_are_recalled(patch):
    """As if the shared copy said for certain that a block is full."""
    right = Turn._none_left

    def none_left(self, request):
        for index, taken in list(self._lane.foreign.items()):
            parts = owned.inside(request.plan.spans, index)
            if not space.size(space.Free(parts, {index: taken}, (index,))):
                del self._lane.foreign[index]
        return right(self, request)

    patch.setattr(Turn, "_none_left", none_left)


def _refused_without_a_look_at_what_others_ended(patch):
    patch.setattr(OwnedTurn, "_none_left", Turn._none_left)


def _nothing_is_told(patch):
    right = Records.settle
    patch.setattr(
        Records,
        "settle",
        lambda self, key, *, publish=False, give_back=False: right(self, key, give_back=give_back),
    )


def _idle_blocks_are_kept(patch):
    right = Owning._tend

    def tend(self, key):
        held = self._records.held.get(key)
        if held is not None:
            held.idle = None
        right(self, key)

    patch.setattr(Owning, "_tend", tend)


def _lost_blocks_are_kept(patch):
    patch.setattr(Records, "_lose", nothing)


def _swaps_of_records_go_to_all(patch):
    """The record's change is made to the shared copy."""

    def swap(self, key, new, expected):
        entry = self._shared.load(key)
        return self._shared.swap(key, new, entry[1] if entry else None)

    patch.setattr(Owning, "swap", swap)


def _renewed_in_others_blocks(patch):
    patch.setattr(turns.Turn, "_usable", lambda self, block: True)


def _what_others_ended_is_told_again(patch):
    patch.setattr(OwnedTurn, "_is_overtaken", Turn._is_overtaken)


def _what_others_ended_is_held(patch):
    patch.setattr(OwnedTurn, "_is_certain", Turn._is_certain)


def _conflicts_are_kept_quiet(patch):
    patch.setattr(owned, "conflicts", lambda record, shared: ())


BROKEN = [
    (_merging_drops_what_was_not_told, OwnedMachine),
    (_recalls_are_ignored, OwnedMachine),
    (_forgotten_before_it_is_told, OwnedMachine),
    (_numbers_go_on_after_a_reclaim, OwnedMachine),
    (_reclaim_takes_what_lives, OwnedMachine),
    (_records_are_trusted_after_a_restart, OwnedMachine),
    (_others_blocks_are_used, OwnedMachine),
    (_exhausted_though_others_may_have_some, OwnedMachine),
    (_only_blocks_with_room_are_recalled, OwnedMachine),
    (_nothing_is_told, OwnedMachine),
    (_idle_blocks_are_kept, OwnedMachine),
    (_lost_blocks_are_kept, OwnedMachine),
    (_swaps_of_records_go_to_all, OwnedMachine),
    (_renewed_in_others_blocks, MixedMachine),
]


@pytest.mark.parametrize(("breaks", "machine"), BROKEN, ids=lambda x: x.__name__)
def test_what_is_broken_is_caught(breaks, machine, monkeypatch):
    breaks(monkeypatch)

    def search():
        # What runs a seed stands for changes with the modules imported.
        for seed in range(8):
            run_machine(
                machine,
                examples=200,
                steps=40,
                seed=seed,
                phases=[Phase.generate],
                database=None,
            )

    with pytest.raises((AssertionError, PodnetError)):
        search()


SELDOM = [
    (_publishing_overwrites, courses.what_others_ended_does_not_come_back),
    (_refused_without_a_look_at_what_others_ended, courses.what_others_ended_can_be_had_at_once),
    (_what_others_ended_is_held, courses.what_others_ended_can_be_had_at_once),
    (_what_others_ended_is_told_again, courses.who_asks_again_holds_what_was_ended),
    (_claimed_without_a_word_to_oneself, courses.a_claim_whose_answer_was_lost_is_ones_own),
    (_a_claim_under_way_is_forgotten, courses.a_claim_that_comes_late_takes_nothing),
    (_given_back_without_a_word_to_oneself, courses.nothing_is_granted_in_what_is_given_back),
    (
        _records_are_trusted_after_a_restart,
        courses.a_dead_node_that_returns_hands_nothing_out_of_what_was_taken,
    ),
    (
        _conflicts_are_kept_quiet,
        courses.a_dead_node_that_returns_hands_nothing_out_of_what_was_taken,
    ),
    (_exhausted_though_others_may_have_some, courses.a_holder_that_is_down_is_named),
]


@pytest.mark.parametrize(("breaks", "course"), SELDOM, ids=lambda x: x.__name__)
def test_what_is_broken_is_caught_by_a_course(breaks, course, monkeypatch):
    course()
    breaks(monkeypatch)
    with pytest.raises((AssertionError, PodnetError)):
        course()
