"""What the command prints: tables and colours for people, JSON for programs.

``rich`` draws on a terminal and is imported only there; without it, and wherever the output is
no terminal, tables are plain aligned text.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from attrs import frozen

from podnet.cli.drawn import console_of, draw, lines
from podnet.cli.letters import encodable, printable
from podnet.errors import DecodingError, IOFailureError, PodnetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console

MODES = ("auto", "table", "json")

# A cell with several lines, such as the addresses of an interface.
Cell = str | tuple[str, ...]

_STYLES = {"good": "green", "bad": "bold red", "note": "dim", "head": "bold"}
_MARKS = {"good": "✓", "bad": "✗", "note": "·"}


class UsageError(PodnetError):
    """The arguments do not fit together or do not fit the files (code 4, exit status 2)."""

    code = 4


class OutputError(IOFailureError):
    """Standard output cannot be written (code 5): there is no use in printing that there."""


@frozen
class Table:
    """A table as data.

    Attributes:
        columns: headings, in lower case.
        rows: a cell for each column.
        title: line above it; empty for none.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    title: str = ""


def plain(table: Table) -> str:
    """Return the table as aligned text, without a final newline."""
    shown = [tuple(column.upper() for column in table.columns)]
    for row in table.rows:
        shown.append(tuple(printable(", ".join(lines(cell))) or "-" for cell in row))
    widths = [max(len(line[i]) for line in shown) for i in range(len(table.columns))]
    drawn = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in shown
    ]
    return "\n".join([printable(table.title), *drawn] if table.title else drawn)


class Screen:
    """Where a command prints, and in which of the two languages.

    Attributes:
        json: True if the output is one JSON document and nothing else.
    """

    def __init__(
        self, mode: str = "auto", stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self._out = sys.stdout if stdout is None else stdout
        self._err = sys.stderr if stderr is None else stderr
        self.json = mode == "json" or (mode == "auto" and not self._out.isatty())
        self._console: Console | None = None
        self._plain = self.json or not self._out.isatty()

    def document(self, document: object) -> None:
        """Print a JSON document; nothing where people read."""
        if self.json:
            self._print(json.dumps(document, indent=2))

    def table(self, table: Table) -> None:
        """Draw a table; nothing where programs read."""
        if self.json:
            return
        console = self._terminal()
        table = self._fitted(table)
        if console is None:
            self._print(plain(table))
            return
        from rich.measure import Measurement

        if table.title:
            self.say(table.title, "head")
        # Lines are never folded: an address or a name that is broken in two cannot be copied. What
        # does not fit even when set close runs over, as kubectl's and docker's tables do.
        unbounded = console.options.update(max_width=10_000)
        for gap in (2, 1):
            drawn = draw(table, gap)
            width = Measurement.get(console, unbounded, drawn).maximum
            if width <= console.width:
                break
        # Rich never draws wider than its console believes the terminal to be, and of a dumb one it
        # believes 80 columns, whatever the width, unless it is told the height as well.
        width, height = max(width, console.width), console.height
        wide = console_of(self._out, width=width, height=height)
        with self._writing():
            wide.print(drawn)

    def say(self, text: str = "", style: str = "") -> None:
        """Print lines for people.

        Args:
            text: what; line breaks are kept.
            style: ``good``, ``bad`` and ``note`` put a mark before it, ``head`` emphasizes.
        """
        if self.json:
            return
        text = "\n".join(map(printable, text.split("\n")))
        if style in _MARKS:
            text = f"{_MARKS[style]} {text}"
        text = encodable(text, self._out.encoding)
        console = self._terminal()
        if console is None:
            self._print(text)
            return
        from rich.text import Text

        with self._writing():
            console.print(Text(text, style=_STYLES.get(style, "")), soft_wrap=True)

    def write(self, text: str) -> None:
        """Print text as it is: a part of a JSON document, or lines too many to be kept."""
        with self._writing():
            print(text, end="", file=self._out)

    def paint(self, lines: Iterable[Sequence[tuple[str, str]]]) -> None:
        """Print lines made of pieces, each with its colour; nothing where programs read.

        Args:
            lines: pieces of text with rich's name of a style, or an empty one.
        """
        if self.json:
            return
        console = self._terminal()
        for line in lines:
            pieces = [(encodable(printable(t), self._out.encoding), style) for t, style in line]
            if console is None:
                self._print("".join(text for text, _ in pieces))
                continue
            from rich.text import Text

            with self._writing():
                console.print(Text.assemble(*pieces), soft_wrap=True)

    @property
    def width(self) -> int:
        """Columns of the terminal; 80 where there is none."""
        console = None if self.json else self._terminal()
        return 80 if console is None else console.width

    def takes(self, text: str) -> bool:
        """Tell whether the output's encoding has all characters of a text."""
        return encodable(text, self._out.encoding) == text

    def error(self, error: PodnetError) -> None:
        """Print an error: one line on standard error, and the JSON error object where asked."""
        self.complain(str(error))
        self.document({"code": error.code, "msg": error.msg, "details": error.details})

    def complain(self, text: str) -> None:
        """Print one line about an error on standard error."""
        line = encodable(printable(" ".join(text.split())), self._err.encoding)
        try:
            print(f"podnet: error: {line}", file=self._err, flush=True)
        except OSError:
            # Nobody is left to tell; the exit status still does.
            _forget(self._err)

    def flush(self) -> None:
        """Write what is kept, as long as a failure can be told.

        Raises:
            OutputError: it failed.
            BrokenPipeError: the reader left.
        """
        with self._writing():
            self._out.flush()

    def forget(self) -> None:
        """Drop what standard output did not take: Python would try again at exit, and complain."""
        _forget(self._out)

    def _terminal(self) -> Console | None:
        """Return rich's console where a terminal is drawn on and rich is there."""
        if self._plain or self._console is not None:
            return self._console
        try:
            self._console = console_of(self._out)
        except ModuleNotFoundError:
            self._plain = True
        return self._console

    def _fitted(self, table: Table) -> Table:
        """Return the table without what the output's encoding lacks, for columns to be aligned."""

        def fit(text: str) -> str:
            return encodable(printable(text), self._out.encoding)

        rows = [tuple(tuple(map(fit, lines(cell))) for cell in row) for row in table.rows]
        return Table(table.columns, rows, fit(table.title))

    def _print(self, text: str) -> None:
        with self._writing():
            print(text, file=self._out, flush=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell a failure to print from those of the work.

        Raises:
            OutputError: it failed.
            BrokenPipeError: the reader left.
        """
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError("cannot write standard output", error.strerror or "") from error


def _forget(stream: TextIO) -> None:
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return  # no file: nothing is kept for one
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Give a command its ``--output``."""
    parser.add_argument(
        "-o",
        "--output",
        choices=MODES,
        default="auto",
        help="table for people, json for programs; auto (the default) is table on a terminal",
    )


def guarded(screen: Screen, work: Callable[[], int]) -> int:
    """Run a command and turn what it raises into its exit status.

    Returns:
        What ``work`` returned; 1 for an error, 2 for a usage error, 130 for an interrupt, 141 if
        the reader of the output left, as for a program that SIGPIPE ended.
    """
    try:
        status = _judged(screen, work)
        screen.flush()
        return status
    except OutputError as error:
        screen.forget()
        screen.complain(str(error))
    except BrokenPipeError:
        screen.forget()  # the reader left, as in `podnet status | head`
        return 141
    except KeyboardInterrupt:
        return 130
    return 1


def _judged(screen: Screen, work: Callable[[], int]) -> int:
    try:
        return work()
    except (OutputError, BrokenPipeError):
        raise
    except UsageError as error:
        screen.error(error)
        return 2
    except PodnetError as error:
        screen.error(error)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        screen.error(
            DecodingError(
                f"{_EXTRAS[error.name]} is not installed", "install podnet with its extra 'cli'"
            )
        )
    except OSError as error:
        what = error.strerror or str(error)
        screen.error(IOFailureError(f"{error.filename}: {what}" if error.filename else what))
    return 1


_EXTRAS = {"yaml": "PyYAML", "rich": "rich"}
