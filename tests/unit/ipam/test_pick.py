from __future__ import annotations

from attrs import evolve

import podnet.testing
from podnet.ipam.pick import LongestFree, Lowest, Requested, RoundRobin, Spread, Sticky
from podnet.model.addresses import Address
from podnet.testing import FreeList


class TestLowest(podnet.testing.PickerContract):
    def picker(self):
        return Lowest()


class TestRoundRobin(podnet.testing.PickerContract):
    def picker(self):
        return RoundRobin()


class TestLongestFree(podnet.testing.PickerContract):
    def picker(self):
        return LongestFree()


class TestSpread(podnet.testing.PickerContract):
    def picker(self):
        return Spread()


class TestSticky(podnet.testing.PickerContract):
    def picker(self):
        return Sticky()


class TestRequested(podnet.testing.PickerContract):
    always = False

    def picker(self):
        return Requested()

    def ask(self):
        return evolve(super().ask(), requested=Address(6, 9))


def ask(value):
    return evolve(podnet.testing.PickerContract().ask(), requested=Address(6, value))


def test_lowest_takes_the_first():
    assert Lowest().pick(FreeList([(7, 9), (20, 30)]), ask(8)) == 7


def test_requested_takes_that_one_or_none():
    free = [(7, 9), (20, 30)]
    assert [Requested().pick(FreeList(free), ask(n)) for n in (6, 7, 9, 10, 20, 31)] == [
        None,
        7,
        9,
        None,
        20,
        None,
    ]
