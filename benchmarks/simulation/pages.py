"""Tables in a page of the docs: written by the simulator, between two comments each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def _pattern(name: str) -> re.Pattern[str]:
    begin = re.escape(f"<!-- simulated: {name} -->\n")
    return re.compile(f"(?<={begin})(.*?)(?=<!-- end -->)", re.DOTALL)


def markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with its title."""
    lines = [
        f"{title}:",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---" if each in ("mode", "case") else "--:" for each in columns) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n" + "\n".join(lines) + "\n\n"


def names(page: str) -> list[str]:
    """Return which tables a page has."""
    return re.findall(r"<!-- simulated: ([\w-]+) -->", page)


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with another table of that name; the same where it has none."""
    # Once: after an empty match, a longer one would be tried at the same place.
    return _pattern(name).sub(lambda _: text, page, count=1)


def text_of(page: str, name: str) -> str:
    """Return a table as it stands on the page.

    Raises:
        KeyError: it is not there.
    """
    match = _pattern(name).search(page)
    if match is None:
        raise KeyError(name)
    return match[0]


def table_of(page: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a table of the page.

    Raises:
        KeyError: it is not there.
    """
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text_of(page, name).splitlines()
        if line.startswith("|")
    ]
    return cells[0], cells[2:]
