"""A table of block sizes as a picture: SVG, so that it is text that can be compared."""

from __future__ import annotations

from math import log2, log10
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT = 340, 230
_LEFT, _TOP, _RIGHT, _BOTTOM = 54, 34, 22, 36
_COLOURS = {"shared": "#b3541e", "owned": "#1d5f8a"}
_FONT = 'font-family="sans-serif" font-size="11"'


@frozen
class _Panel:
    """One of the four diagrams.

    Attributes:
        column: of the table.
        title: above it.
        scale: ``log`` or ``linear``.
    """

    column: str
    title: str
    scale: str = "log"


_PANELS = (
    _Panel("writes", "writes per lease"),
    _Panel("p99 ms", "p99 of an allocation, ms"),
    _Panel("stranded", "stranded, % of the pool", "linear"),
    _Panel("kB", "kB written per lease"),
)


def draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return four diagrams over the block size, a line for each mode.

    Args:
        columns: headings of the table; ``mode``, ``block`` and those of the diagrams are needed.
        rows: its cells.
    """
    width, height = 2 * _WIDTH, 2 * _HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        "<title>Writes, waiting, stranded addresses and bytes by block size</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    sizes = sorted({int(row[columns.index("block")]) for row in rows})
    for number, panel in enumerate(_PANELS):
        x, y = (number % 2) * _WIDTH, (number // 2) * _HEIGHT
        lines = {
            mode: [
                (int(row[columns.index("block")]), _value(row[columns.index(panel.column)]))
                for row in rows
                if row[columns.index("mode")] == mode
            ]
            for mode in _COLOURS
        }
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel, sizes, lines), "</g>"]
    for number, (mode, colour) in enumerate(_COLOURS.items()):
        x, y = _LEFT + 110 * number, 2 * _HEIGHT + 8
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 6}" {_FONT}>{mode}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _value(cell: str) -> float:
    """Return a cell's number: of ``1 234 (5.6%)`` the share."""
    if "(" in cell:
        cell = cell.partition("(")[2].rstrip("%)")
    return float(cell.replace(" ", ""))


def _panel(
    panel: _Panel, sizes: Sequence[int], lines: dict[str, list[tuple[int, float]]]
) -> list[str]:
    values = [value for line in lines.values() for _, value in line]
    low, high, ticks = _range(panel.scale, values)
    inner, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(size: float) -> float:
        return _LEFT + inner * (log2(size / sizes[0]) / max(1.0, log2(sizes[-1] / sizes[0])))

    def up(value: float) -> float:
        if panel.scale == "log":
            part = (log10(max(value, low)) - log10(low)) / (log10(high) - log10(low))
        else:
            part = (value - low) / (high - low)
        return _TOP + tall * (1 - part)

    parts = [f'<text x="{_LEFT}" y="{_TOP - 14}" {_FONT} font-weight="bold">{panel.title}</text>']
    for tick in ticks:
        y = f"{up(tick):.1f}"
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#dddddd"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" {_FONT} '
            f'text-anchor="end">{tick:g}</text>'
        )
    for size in sizes:
        parts.append(
            f'<text x="{across(size):.1f}" y="{_HEIGHT - _BOTTOM + 18}" {_FONT} '
            f'text-anchor="middle">{size}</text>'
        )
    for mode, line in lines.items():
        points = [(across(size), up(value)) for size, value in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour = _COLOURS[mode]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return parts


def _range(scale: str, values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Return the ends of an axis, and where its lines are."""
    if scale == "linear":
        step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if s * 5 >= max(values))
        count = int(max(values) // step) + 1
        return 0.0, float(step * count), [float(step * n) for n in range(count + 1)]
    small = min(value for value in values if value > 0)
    first = 10.0 ** int(log10(small) - (small < 1))
    ticks = [first]
    while ticks[-1] < max(values):
        ticks.append(ticks[-1] * 10)
    if len(ticks) == 1:
        ticks.append(first * 10)
    return first, ticks[-1], ticks
