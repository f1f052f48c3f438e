from __future__ import annotations

from attrs import evolve

import podnet.testing
from podnet.ipam.pick import Lowest, Requested
from podnet.model.addresses import Address


class TestLowest(podnet.testing.PickerContract):
    def picker(self):
        return Lowest()


class TestRequested(podnet.testing.PickerContract):
    always = False

    def picker(self):
        return Requested()

    def ask(self):
        return evolve(super().ask(), requested=Address(6, 9))


def ask(value):
    return evolve(podnet.testing.PickerContract().ask(), requested=Address(6, value))


def test_lowest_takes_the_first():
    assert Lowest().pick(iter([(7, 9), (20, 30)]), ask(8)) == 7


def test_requested_takes_that_one_or_none():
    free = [(7, 9), (20, 30)]
    assert [Requested().pick(iter(free), ask(n)) for n in (6, 7, 9, 10, 20, 31)] == [
        None,
        7,
        9,
        None,
        20,
        None,
    ]
