"""Pickers that are broken on purpose: the contract must catch every one of them."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from podnet.ipam.pick import Lowest
from podnet.testing import FreeList, PickerContract


@pytest.fixture(autouse=True)
def _first_failure_is_enough():
    before = settings.get_current_profile_name()
    settings.register_profile("teeth", settings.default, phases=[Phase.generate], database=None)
    settings.load_profile("teeth")
    yield
    settings.load_profile(before)


def first(free):
    return next((low for low, _ in free), None)


class OneBefore:
    def pick(self, free, ask):
        low = first(free)
        return None if low is None else low - 1


class OneBeyond:
    def pick(self, free, ask):
        return next((high + 1 for _, high in free), None)


class Middle:
    """Computes with floating point numbers."""

    def pick(self, free, ask):
        return next((int((low + high) / 2) for low, high in free), None)


class SixtyFourBits:
    def pick(self, free, ask):
        low = first(free)
        return None if low is None else low % (1 << 64)


class ReadsAll:
    def pick(self, free, ask):
        return max((high for _, high in free), default=None)


class KeepsOne:
    """Leaves the last address of an interval."""

    def pick(self, free, ask):
        return next((low for low, high in free if low < high), None)


class NeverDeclines:
    def pick(self, free, ask):
        return next(iter(free))[0]


class TrustsTimes:
    """Takes what was released first, whether it is free or not."""

    def pick(self, free, ask):
        oldest = min(ask.freed, key=ask.freed.get, default=None)
        return first(free) if oldest is None else oldest


class TrustsLast:
    """Takes the number after the last."""

    def pick(self, free, ask):
        return first(free) if ask.last is None else ask.last.value + 1


class NeverGoesRound:
    def pick(self, free, ask):
        return first(free) if ask.last is None else first(free.after(ask.last.value + 1))


class KnownOnly:
    """Takes nothing of a block that does not exist yet."""

    def pick(self, free, ask):
        return first(free.known())


class CountsOn:
    """Takes the number after as many as are free."""

    def pick(self, free, ask):
        return sum(high - low + 1 for low, high in free) + (first(free) or 0) or None


CAUGHT_BY = [
    (CountsOn, "test_reads_intervals_that_touch"),
    (OneBefore, "test_picks_a_free_address"),
    (OneBefore, "test_picks_single_addresses"),
    (OneBeyond, "test_picks_a_free_address"),
    (OneBeyond, "test_takes_the_whole_address_space_in_its_stride"),
    (Middle, "test_picks_single_addresses"),
    (SixtyFourBits, "test_picks_single_addresses"),
    (ReadsAll, "test_takes_very_many_intervals_in_its_stride"),
    (KeepsOne, "test_picks_single_addresses"),
    (NeverDeclines, "test_declines_where_nothing_is_free"),
    (TrustsTimes, "test_picks_a_free_address"),
    (TrustsLast, "test_picks_a_free_address"),
    (KnownOnly, "test_picks_a_free_address"),
]


def test_every_test_of_the_contract_catches_something():
    every = {name for name in dir(PickerContract) if name.startswith("test_")}
    elsewhere = {"test_takes_what_is_free_wherever_the_last_was"}
    assert every == {test for _, test in CAUGHT_BY} | elsewhere


def contract_of(picker):
    class Contract(PickerContract):
        def picker(self):
            return picker()

    return Contract()


@pytest.mark.parametrize(("picker", "test"), CAUGHT_BY)
def test_broken_picker_is_caught(picker, test):
    def contract_is_met():
        for _ in range(8):  # not every fifty generated values have the one that counts
            getattr(contract_of(picker), test)()

    with pytest.raises((AssertionError, StopIteration)):
        contract_is_met()


def test_one_that_never_goes_round_is_caught():
    with pytest.raises(AssertionError):
        contract_of(NeverGoesRound).test_takes_what_is_free_wherever_the_last_was(9)


@pytest.mark.parametrize("test", sorted({test for _, test in CAUGHT_BY}))
def test_a_sound_one_passes(test):
    getattr(contract_of(Lowest), test)()


def test_a_free_list_is_read_anew_each_time():
    free = FreeList([(5, 6), (9, 12)], known=[(5, 6)])
    assert list(free) == list(free) == [(5, 6), (9, 12)]
    assert list(free.after(6)) == [(6, 6), (9, 12)]
    assert list(free.after(10)) == [(10, 12)]
    assert list(free.after(13)) == []
    assert list(free.known()) == [(5, 6)]
