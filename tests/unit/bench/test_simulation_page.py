"""The page about modes and block size says what the simulator says."""

from __future__ import annotations

import pytest
import simulate
from simulation import drawing, experiments, pages
from simulation.runs import run

PAGE = simulate.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("each", experiments.tiny(), ids=lambda each: each.name)
def test_small_tables_are_what_the_simulator_prints(each):
    rows = [each.row(run(case)) for case in each.cases]
    told = pages.text_of(PAGE, f"tiny-{each.name}")
    assert told == pages.markdown(each.title, each.columns, rows), (
        "the engine or the model changed: python benchmarks/simulate.py --write, and the same "
        "with --profile page"
    )


@pytest.mark.parametrize("each", experiments.page(), ids=lambda each: each.name)
def test_large_tables_are_of_the_experiments_there_are(each):
    columns, rows = pages.table_of(PAGE, each.name)
    assert columns == list(each.columns)
    assert len(rows) == len(each.cases)
    assert each.title in pages.text_of(PAGE, each.name)
    for row, case in zip(rows, each.cases, strict=True):
        cells = dict(zip(columns, row, strict=True))
        assert cells.get("mode", case.mode) == case.mode
        assert cells.get("case", case.note) == case.note


def test_every_table_of_the_page_is_written_by_the_simulator():
    known = {each.name for each in experiments.page()}
    known |= {f"tiny-{each.name}" for each in experiments.tiny()}
    assert set(pages.names(PAGE)) == known


def test_the_plot_is_drawn_from_the_table():
    columns, rows = pages.table_of(PAGE, "sizes")
    assert simulate.PLOT.read_text(encoding="utf-8") == drawing.draw(columns, rows)
    assert simulate.PLOT.name in PAGE


class TestPages:
    TEXT = (
        "a\n<!-- simulated: one -->\nold\n<!-- end -->\nb\n<!-- simulated: two -->\n<!-- end -->\n"
    )

    def test_a_table_is_replaced_where_it_is(self):
        text = pages.markdown("Title", ("mode", "n"), [("shared", "1")])
        new = pages.replaced(self.TEXT, "one", text)
        assert "old" not in new
        assert pages.table_of(new, "one") == (["mode", "n"], [["shared", "1"]])
        assert pages.text_of(new, "two") == ""
        assert new.startswith("a\n")
        assert pages.replaced(self.TEXT, "three", text) == self.TEXT
        both = pages.replaced(new, "two", text)
        assert pages.table_of(both, "two") == pages.table_of(both, "one")
        assert pages.replaced(both, "two", "") == new

    def test_a_table_that_is_not_there(self):
        with pytest.raises(KeyError):
            pages.text_of(self.TEXT, "three")


class TestDrawing:
    COLUMNS = ("mode", "block", "writes", "p99 ms", "stranded", "kB")

    def test_values_move_the_lines(self):
        rows = [
            ("shared", "64", "1.00", "10.0", "0 (0.0%)", "5.00"),
            ("shared", "512", "2.00", "20.0", "0 (0.0%)", "50.0"),
            ("owned", "64", "0.10", "3.00", "100 (2.5%)", "1.00"),
            ("owned", "512", "0.05", "3.00", "1 000 (25.0%)", "2.00"),
        ]
        one = drawing.draw(self.COLUMNS, rows)
        assert one.count("<polyline") == 8
        rows[0] = ("shared", "64", "1.50", "10.0", "0 (0.0%)", "5.00")
        assert drawing.draw(self.COLUMNS, rows) != one

    @pytest.mark.parametrize(
        ("scale", "values", "low", "high"),
        [
            ("log", [0.05, 3.0], 0.01, 10.0),
            ("log", [2.0, 30.0], 1.0, 100.0),
            ("linear", [0.0, 25.0], 0.0, 30.0),
            ("linear", [0.0, 3.5], 0.0, 4.0),
        ],
    )
    def test_axes_hold_their_values(self, scale, values, low, high):
        found = drawing._range(scale, values)
        assert found[:2] == pytest.approx((low, high))
        assert found[2][0] == pytest.approx(low)
        assert found[2][-1] == pytest.approx(high)
