"""The contract of the Picker seam, for any picker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.ipam.pick import Ask
from podnet.model.addresses import Address
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.testing.free_list import FreeList
from podnet.testing.machines import quick
from podnet.testing.strategies import owners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.ports import Picker

_TOP = (1 << 128) - 1
# Far more than any strategy has to compare, and far less than a pool may have.
_MOST_READ = 20_000


@st.composite
def _intervals(draw: st.DrawFn) -> list[tuple[int, int]]:
    near = st.integers(0, 40) | st.integers(_TOP - 40, _TOP) | st.integers(0, _TOP)
    ends = draw(st.lists(near, max_size=10, unique=True).map(sorted))
    return list(zip(ends[::2], ends[1::2], strict=False))


@st.composite
def _asks(draw: st.DrawFn, free: list[tuple[int, int]], ask: Ask) -> Ask:
    """What may be known of a pool, apart from what is asked for; some of it hints at wrong ones."""
    ends = sorted({value for pair in free for value in pair})
    some = st.sampled_from(ends) if ends else st.nothing()
    near = some | st.integers(0, _TOP)
    now = draw(st.floats(0, 1e11, allow_nan=False))
    last = draw(st.none() | near)
    return evolve(
        ask,
        owner=draw(st.just(ask.owner) | owners()),
        last=None if last is None else Address(6, last),
        freed=draw(st.dictionaries(near, st.floats(0, 1e11, allow_nan=False), max_size=6)),
        now=now,
        blocks=draw(st.sampled_from([0, 1, 64, 65, 1 << 20])),
    )


class _VeryMany:
    """Every second number of the whole space is free: more intervals than anybody may read."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return self.after(0)

    def after(self, value: int) -> Iterator[tuple[int, int]]:
        for count, even in enumerate(range(value + value % 2, _TOP, 2)):
            assert count < _MOST_READ, f"more than {_MOST_READ} intervals were read"
            yield even, even

    known = __iter__


class PickerContract:
    """Subclass it as ``Test…``, and return your picker from ``picker``.

    Attributes:
        always: the picker takes an address whenever one is free; False for one that may decline,
            as a picker of requested addresses does.
    """

    always = True

    def picker(self) -> Picker:
        """Return the picker to be held to the contract."""
        raise TypeError(
            "picker() has to be overridden: it returns the picker to be held to the contract"
        )

    def ask(self) -> Ask:
        """Return what the picker is asked with."""
        return Ask(pool=Pool("contract", "::/0"), owner=Owner("contract", "eth0"), node="node-1")

    def test_declines_where_nothing_is_free(self) -> None:
        """An exhausted pool is no error of the picker's."""
        assert self.picker().pick(FreeList([]), self.ask()) is None

    def test_picks_a_free_address(self) -> None:
        """What it returns is a number of one of the intervals, whatever else it is told."""

        @quick()
        @given(data=st.data(), free=_intervals())
        def picks(data: st.DataObject, free: list[tuple[int, int]]) -> None:
            ask = data.draw(_asks(free, self.ask()))
            known = [interval for interval in free if data.draw(st.booleans())]
            value = self.picker().pick(FreeList(free, known), ask)
            if value is None:
                assert not (free and self.always), "declined although an address is free"
            else:
                assert any(low <= value <= high for low, high in free), f"{value} is not free"

        picks()

    def test_picks_single_addresses(self) -> None:
        """An interval of one address at any place is taken whole, up to 128 bits."""

        @quick()
        @given(low=st.integers(0, _TOP))
        def picks(low: int) -> None:
            value = self.picker().pick(FreeList([(low, low)]), self.ask())
            assert value == low or (value is None and not self.always)

        picks()

    @pytest.mark.parametrize("last", [0, 5, 6, 7, 9, 10, _TOP])
    def test_takes_what_is_free_wherever_the_last_was(self, last: int) -> None:
        """Beyond the end there is a beginning."""
        ask = evolve(self.ask(), last=Address(6, last))
        value = self.picker().pick(FreeList([(5, 6), (9, 9)]), ask)
        assert value in (5, 6, 9) or (value is None and not self.always)

    def test_takes_the_whole_address_space_in_its_stride(self) -> None:
        """The size of an interval costs nothing."""
        value = self.picker().pick(FreeList([(0, _TOP)]), self.ask())
        assert value is None or 0 <= value <= _TOP

    def test_takes_very_many_intervals_in_its_stride(self) -> None:
        """Neither does their number: it stops to read once it has enough."""
        value = self.picker().pick(_VeryMany(), self.ask())
        assert value is None or value % 2 == 0

    def test_reads_intervals_that_touch(self) -> None:
        """Neighbouring intervals come apart where blocks end; each number counts once."""
        free = FreeList([(5, 6), (7, 7), (8, 12)])
        value = self.picker().pick(free, self.ask())
        assert value is None or 5 <= value <= 12
