"""Maps of pools as one SVG that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.cli.ipam_map import CLOSED, FREE, KINDS, fullness, kind_of
from podnet.model.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from podnet.ipam.usage import Cell, Usage

PER_LINE = 64
_CELL = 12
_MARGIN = 16
_LEFT = 300
_LINE = 18


def render(usages: Sequence[Usage]) -> str:
    """Return the maps of pools, one below the other, as an SVG document.

    Every run of like cells has a title that screen readers and pointers tell; kinds differ in
    colour and in pattern.
    """
    parts: list[str] = []
    top = _MARGIN
    for usage in usages:
        lines, height = _pool(usage, top)
        parts += lines
        top += height + _MARGIN
    legend, height = _legend(top)
    parts += legend
    width, height = _LEFT + PER_LINE * _CELL + _MARGIN, top + height + _MARGIN
    what = "; ".join(_summary(usage) for usage in usages) or "no pools"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title desc" '
        'font-family="sans-serif" font-size="12">',
        '<title id="title">Addresses in use</title>',
        f'<desc id="desc">{_text(what)}</desc>',
        '<defs><pattern id="closed" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<rect width="6" height="6" fill="#dddddd"/>'
        f'<path d="M0 6L6 0" stroke="{KINDS[CLOSED].colour}" stroke-width="1"/></pattern></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _pool(usage: Usage, top: int) -> tuple[list[str], int]:
    lines = [
        "<g>",
        f'<text x="{_MARGIN}" y="{top + 12}" font-weight="bold">{_text(_summary(usage))}</text>',
    ]
    version, y = usage.pool.network.version, top + _LINE
    for n in range(0, len(usage.cells), PER_LINE):
        row = usage.cells[n : n + PER_LINE]
        label = _text(str(Address(version, row[0].first)))
        lines.append(f'<text x="{_MARGIN}" y="{y + 10}" fill="#555555">{label}</text>')
        lines += _row(row, version, y)
        y += _CELL + 2
    lines.append("</g>")
    return lines, y - top


def _row(row: Sequence[Cell], version: int, y: int) -> Iterator[str]:
    start = 0
    for n in range(1, len(row) + 1):
        if n < len(row) and _look(row[n]) == _look(row[start]):
            continue
        run = row[start:n]
        fill, opacity = _look(run[0])
        x, width = _LEFT + start * _CELL, len(run) * _CELL - 1
        yield (
            f'<rect x="{x}" y="{y}" width="{width}" height="{_CELL - 1}" fill="{fill}"'
            f"{f' fill-opacity={chr(34)}{opacity:g}{chr(34)}' if opacity < 1 else ''}>"
            f"<title>{_text(_told(run, version))}</title></rect>"
        )
        start = n


def _look(cell: Cell) -> tuple[str, float]:
    name = kind_of(cell)
    if name == CLOSED:
        return "url(#closed)", 1.0
    if not cell.held:
        return KINDS[name].colour, 1.0
    # Steps, so that neighbours that hardly differ are one shape.
    return KINDS[name].colour, 0.4 + 0.2 * min(3, int(fullness(cell) * 4))


def _told(run: Sequence[Cell], version: int) -> str:
    first, last = Address(version, run[0].first), Address(version, run[-1].last)
    where = str(first) if first == last else f"{first} to {last}"
    counts = {name: sum(getattr(cell, name) for cell in run) for name in KINDS}
    told = (f"{count} {KINDS[name].says}" for name, count in counts.items() if count)
    return f"{where}: {', '.join(told)}"


def _summary(usage: Usage) -> str:
    pool = usage.pool
    name = f"{pool.name} ({pool.network})" if pool.name != str(pool.network) else pool.name
    if not usage.defined:
        return f"{name}: {usage.used} used"
    return f"{name}: {usage.used} of {usage.size} used, {usage.free} free"


def _legend(top: int) -> tuple[list[str], int]:
    lines = ['<g aria-label="legend">']
    x, y = _MARGIN, top
    for name, kind in KINDS.items():
        fill = "url(#closed)" if name == CLOSED else kind.colour
        edge = ' stroke="#bbbbbb"' if name == FREE else ""
        lines.append(
            f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="{fill}"{edge}/>'
        )
        lines.append(f'<text x="{x + _CELL + 4}" y="{y + 10}">{_text(kind.says)}</text>')
        y += _LINE
    lines.append("</g>")
    return lines, len(KINDS) * _LINE


def _text(text: str) -> str:
    """Return text as XML has it; names come from files that others wrote."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, entity)
    return text
