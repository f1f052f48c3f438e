"""A pool's address space drawn as characters: one for each run of addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from podnet.model.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from podnet.cli.output import Screen
    from podnet.ipam.usage import Cell, Usage

# Columns of a line for the address that it begins with; an IPv6 one may take more.
_LABEL = 16

MINE, OTHERS, KEPT, RESTING, LENT, CLOSED, FREE = (
    "mine",
    "others",
    "kept",
    "resting",
    "lent",
    "closed",
    "free",
)


@frozen
class Kind:
    """How one kind of addresses is drawn.

    Attributes:
        name: which.
        says: what it means, for the legend.
        glyphs: characters from hardly any to all of a cell.
        plain: the same for outputs that have nothing but ASCII.
        style: rich's name of the colour in a terminal.
        colour: in an SVG; distinct to the colour-blind as well (Okabe and Ito's palette).
    """

    name: str
    says: str
    glyphs: str
    plain: str
    style: str
    colour: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind(MINE, "held on this node", "░▒▓█", ":oO#", "green", "#009e73"),
        Kind(OTHERS, "held elsewhere", "▁▃▅▇", "-=%@", "blue", "#0072b2"),
        Kind(KEPT, "kept for a claim or reserved", "◇◇◆◆", "kkKK", "magenta", "#cc79a7"),
        Kind(LENT, "free, in a node's own block", "▫", "+", "cyan", "#56b4e9"),
        Kind(RESTING, "free, resting", "~", "~", "yellow", "#e69f00"),
        Kind(CLOSED, "never handed out", "×", "x", "dim", "#555555"),
        Kind(FREE, "free", "·", ".", "dim", "#eeeeee"),
    )
}


def kind_of(cell: Cell) -> str:
    """Return what a cell is drawn as: whoever holds most of it, if anybody holds any of it."""
    if cell.held:
        counts = {KEPT: cell.kept, MINE: cell.mine, OTHERS: cell.others}
        return max(counts, key=lambda name: counts[name])
    if cell.lent:
        return LENT
    if cell.resting:
        return RESTING
    return FREE if cell.free else CLOSED


def fullness(cell: Cell) -> float:
    """Return how much of what a cell may hand out is held, from 0 to 1."""
    return cell.held / (cell.size - cell.closed) if cell.held else 0.0


def glyph(cell: Cell, *, plain: bool) -> tuple[str, str]:
    """Return the character of a cell and the style it is drawn in."""
    kind = KINDS[kind_of(cell)]
    glyphs = kind.plain if plain else kind.glyphs
    at = min(int(fullness(cell) * len(glyphs)), len(glyphs) - 1)
    return glyphs[at], kind.style


def columns(width: int) -> int:
    """Return how many cells a line has: a power of two, so that lines begin at round addresses."""
    return min(128, max(32, 1 << (max(1, width - _LABEL).bit_length() - 1)))


def draw(usage: Usage, screen: Screen) -> None:
    """Draw the map of a pool, with a legend of what is in it."""
    cells = usage.cells
    if not cells:
        return
    plain = not screen.takes("".join(kind.glyphs for kind in KINDS.values()))
    version = usage.pool.network.version
    per_line = columns(screen.width)
    screen.paint(_lines(cells, version, per_line, plain=plain))
    screen.paint([_legend(cells, plain=plain)])


def _lines(
    cells: Sequence[Cell], version: int, per_line: int, *, plain: bool
) -> Iterator[list[tuple[str, str]]]:
    labels = [str(Address(version, cells[n].first)) for n in range(0, len(cells), per_line)]
    width = max(map(len, labels))
    for n, label in enumerate(labels):
        line: list[tuple[str, str]] = [(f"{label:<{width}}  ", "dim")]
        for cell in cells[n * per_line : (n + 1) * per_line]:
            text, style = glyph(cell, plain=plain)
            # Neighbours of one style are one piece: fewer colour codes.
            if len(line) > 1 and line[-1][1] == style:
                line[-1] = line[-1][0] + text, style
            else:
                line.append((text, style))
        yield line


def _legend(cells: Sequence[Cell], *, plain: bool) -> list[tuple[str, str]]:
    there = {kind_of(cell) for cell in cells}
    pieces: list[tuple[str, str]] = []
    for name, kind in KINDS.items():
        if name in there:
            pieces.append(((kind.plain if plain else kind.glyphs)[-1], kind.style))
            pieces.append((f" {kind.says}   ", ""))
    size = max(cell.size for cell in cells)
    if size > 1:
        pieces.append((f"one character: {size:,} addresses".replace(",", " "), "dim"))
    elif pieces:
        pieces[-1] = pieces[-1][0].rstrip(), ""
    return pieces
