"""The contract of the Picker seam, for any picker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podnet.ipam.pick import Ask
from podnet.model.lease import Owner
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podnet.ports import Picker

_TOP = (1 << 128) - 1
# Each picker has a subclass of its own, and all inherit the same test functions.
_SHARED = settings(suppress_health_check=[HealthCheck.differing_executors])


@st.composite
def _intervals(draw: st.DrawFn) -> list[tuple[int, int]]:
    ends = draw(st.lists(st.integers(0, _TOP), max_size=10, unique=True).map(sorted).filter(_even))
    return list(zip(ends[::2], ends[1::2], strict=True))


def _even(ends: list[int]) -> bool:
    return len(ends) % 2 == 0


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
        assert self.picker().pick(iter(()), self.ask()) is None

    @_SHARED
    @given(free=_intervals())
    def test_picks_a_free_address(self, free: list[tuple[int, int]]) -> None:
        """What it returns is a number of one of the intervals."""
        value = self.picker().pick(iter(free), self.ask())
        if value is None:
            assert not (free and self.always), "declined although an address is free"
        else:
            assert any(low <= value <= high for low, high in free)

    @_SHARED
    @given(low=st.integers(0, _TOP))
    def test_picks_single_addresses(self, low: int) -> None:
        """An interval of one address at any place is taken whole, up to 128 bits."""
        value = self.picker().pick(iter([(low, low)]), self.ask())
        assert value == low or (value is None and not self.always)

    def test_takes_the_whole_address_space_in_its_stride(self) -> None:
        """The size of an interval costs nothing."""
        value = self.picker().pick(iter([(0, _TOP)]), self.ask())
        assert value is None or 0 <= value <= _TOP

    def test_reads_no_more_than_one_pass(self) -> None:
        """The intervals are read once, in order: they may come from many blocks."""

        def once() -> Iterator[tuple[int, int]]:
            yield 5, 6
            yield 9, 9

        free = once()
        self.picker().pick(free, self.ask())
        assert list(free) in ([], [(9, 9)])
