"""Tables and texts as ``rich`` draws them; it is imported only where a terminal is drawn on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from podnet.cli.letters import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table as Drawn

    from podnet.cli.output import Cell, Table

_COLUMN_STYLES = {
    "iface": "bold cyan",
    "interface": "bold cyan",
    "addresses": "green",
    "network": "magenta",
}


def draw(table: Table, gap: int) -> Drawn:
    """Return rich's form of a table with so many spaces between columns."""
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for column in table.columns:
        drawn.add_column(column.upper(), style=_COLUMN_STYLES.get(column, ""), no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text("\n".join(map(printable, lines(cell)))) for cell in row))
    return drawn


def console_of(stream: TextIO, *, width: int | None = None, height: int | None = None) -> Console:
    """Return rich's console; its own NO_COLOR keeps bold and dim.

    Raises:
        ModuleNotFoundError: there is no rich.
    """
    from rich.console import Console

    # Without a system of colours rich writes no escapes at all.
    return Console(
        file=stream,
        highlight=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        width=width,
        height=height,
    )


def lines(cell: Cell) -> Sequence[str]:
    """Return the lines of a cell."""
    return (cell,) if isinstance(cell, str) else cell
