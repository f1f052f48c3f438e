from __future__ import annotations

import io
import json
import re
import sys

import pytest

from podnet.cli.output import Screen, Table, UsageError, guarded, plain, printable
from podnet.errors import InvalidConfigError, PoolExhaustedError

TABLE = Table(
    ("interface", "addresses"),
    [("eth0", ("10.0.0.1/24", "fd00::1/64")), ("lo", ())],
    title="pod default/web-0",
)


def test_plain_tables_are_aligned_and_have_no_trailing_space():
    assert plain(TABLE) == (
        "pod default/web-0\nINTERFACE  ADDRESSES\neth0       10.0.0.1/24, fd00::1/64\nlo         -"
    )


@pytest.mark.parametrize(
    ("mode", "terminal", "expected"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("json", True, True),
        ("table", False, False),
    ],
)
def test_auto_is_json_where_no_terminal_is(mode, terminal, expected, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    assert Screen(mode, out, io.StringIO()).json is expected


def test_json_mode_prints_the_document_and_nothing_else(screen):
    shown, out, err = screen("json")
    shown.say("hello", "good")
    shown.table(TABLE)
    shown.document({"a": [1]})
    assert json.loads(out.getvalue()) == {"a": [1]}
    assert err.getvalue() == ""


def test_table_mode_prints_no_document(screen):
    shown, out, _ = screen("table")
    shown.document({"a": 1})
    shown.table(TABLE)
    assert out.getvalue() == plain(TABLE) + "\n"


def test_a_terminal_gets_colours_unless_NO_COLOR(terminal, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Screen("auto", terminal).table(TABLE)
    drawn = terminal.getvalue()
    assert "\x1b[32m10.0.0.1/24" in drawn
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    Screen("auto", terminal).table(TABLE)
    Screen("auto", terminal).say("done", "note")
    assert "\x1b" not in terminal.getvalue()
    assert "10.0.0.1/24" in terminal.getvalue()


@pytest.mark.parametrize("columns", [20, 42, 43, 100])
def test_no_cell_is_ever_folded_or_cut(terminal, monkeypatch, columns):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    row = ("eth0", "10.250.225.223/24", "02:00:00:00:00:01")
    Screen("auto", terminal).table(Table(("iface", "addresses", "mac"), [row]))
    gap = " " * (2 if columns >= 43 else 1)
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert drawn.splitlines()[1].rstrip() == gap.join(("eth0 ", *row[1:]))


def test_a_dumb_terminal_cuts_nothing_either(terminal, monkeypatch):
    """Rich believes such a terminal, Emacs' for one, to have 80 columns, whatever it is told."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "dumb")
    row = ("eth0", "x" * 100, "02:00:00:00:00:01")
    Screen("auto", terminal).table(Table(("iface", "network", "mac"), [row]))
    assert terminal.getvalue().splitlines()[1].split() == list(row)


def test_a_terminal_without_rich_gets_plain_text(terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    shown = Screen("auto", terminal)
    shown.say("attached", "good")
    shown.table(TABLE)
    assert terminal.getvalue() == "✓ attached\n" + plain(TABLE) + "\n"


def test_rich_is_loaded_for_terminals_only(screen, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    shown, out, _ = screen("table")
    shown.table(TABLE)
    assert out.getvalue()


def test_marks_fit_the_terminals_encoding(terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(terminal, "encoding", "ascii", raising=False)
    Screen("auto", terminal).say("attached", "good")
    assert terminal.getvalue() == "+ attached\n"


class Narrow(io.TextIOWrapper):
    """A stream that fails on what its encoding lacks."""

    def __init__(self, encoding, terminal):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "iso8859-15", "utf-8"])
def test_nothing_fails_for_its_encoding(encoding, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    evil = "✓✗·─┬├└→… größe 東 \udc80 \x1b"
    out, err = Narrow(encoding, terminal), Narrow(encoding, False)
    shown = Screen("table", out, err)
    for style in ("", "good", "bad", "note", "head"):
        shown.say(evil, style)
    shown.table(Table(("name", "addresses"), [(evil, (evil, evil))], title=evil))
    shown.complain(evil)
    Screen("json", out, err).document({evil: evil})
    if encoding != "utf-8":
        assert "-++" in out.text()
        assert "\\u6771" in err.text()


def test_columns_are_aligned_after_what_is_put_in_place_of_a_letter():
    out = Narrow("ascii", False)
    Screen("table", out).table(Table(("id", "mac"), [("ab…", "1"), ("abcdefgh", "2")]))
    head, short, long = out.text().splitlines()
    assert short.split() == ["ab...", "1"]
    assert head.index("MAC") == short.index("1") == long.index("2")


@pytest.mark.parametrize("mode", ["json", "table"])
def test_a_full_disk_is_one_line(mode):
    err = io.StringIO()
    with open("/dev/full", "w") as full:
        shown = Screen(mode, full, err)

        def work() -> int:
            shown.table(TABLE)
            shown.document({})
            return 0

        assert guarded(shown, work) == 1
    assert err.getvalue() == (
        "podnet: error: cannot write standard output: No space left on device\n"
    )


def test_a_full_terminal_is_one_line(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    err = io.StringIO()
    for draw in (lambda shown: shown.say("hello", "good"), lambda shown: shown.table(TABLE)):
        with open("/dev/full", "w") as full:
            monkeypatch.setattr(full, "isatty", lambda: True, raising=False)
            shown = Screen("table", full, err)
            assert guarded(shown, lambda shown=shown, draw=draw: draw(shown) or 0) == 1
    line = "podnet: error: cannot write standard output: No space left on device\n"
    assert err.getvalue() == 2 * line


def test_an_error_that_cannot_be_told_still_has_its_status():
    with open("/dev/full", "w") as full, open("/dev/full", "w") as second:
        shown = Screen("json", full, second)

        def fail() -> int:
            raise PoolExhaustedError("pool is full")

        assert guarded(shown, fail) == 1


@pytest.mark.parametrize("with_rich", [True, False])
def test_names_from_files_cannot_command_a_terminal(terminal, monkeypatch, with_rich):
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("TERM", "dumb")
    evil = "\x1b]0;owned\x07[bold]\x9b2J"
    shown = Screen("auto", terminal, terminal)
    shown.say(evil)
    shown.table(Table(("name",), [(evil,)], title=evil))
    shown.complain(evil)
    drawn = terminal.getvalue()
    assert "\x07" not in drawn
    assert "\x9b" not in drawn
    assert "]0;owned" not in drawn.replace("\\x1b]0;owned", "")
    assert drawn.count("[bold]") == 4


def test_printable_keeps_letters_of_all_scripts():
    assert printable("größe → 東") == "größe → 東"
    assert printable("a\nb") == "a\\nb"


def test_an_error_is_one_line_and_in_json_mode_an_object(screen):
    shown, out, err = screen("json")
    error = InvalidConfigError("net1 is wrong", (("ipam.range", "is\nempty"), ("mtu", "is 1")))

    def fail() -> int:
        raise error

    assert guarded(shown, fail) == 1
    assert err.getvalue() == "podnet: error: net1 is wrong: ipam.range: is empty; mtu: is 1\n"
    assert json.loads(out.getvalue()) == {
        "code": 7,
        "msg": "net1 is wrong",
        "details": "ipam.range: is\nempty; mtu: is 1",
    }


def test_in_table_mode_an_error_is_only_the_line(screen):
    shown, out, err = screen("table")

    def fail() -> int:
        raise PoolExhaustedError("pool is full", "31 of 31")

    assert guarded(shown, fail) == 1
    assert out.getvalue() == ""
    assert err.getvalue() == "podnet: error: pool is full: 31 of 31\n"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("say --pod", "a/b"), 2, "say --pod: a/b"),
        (PermissionError(13, "Permission denied", "/var/lib/podnet"), 1, "/var/lib/podnet: Perm"),
        (
            ModuleNotFoundError("No module named 'yaml'", name="yaml"),
            1,
            "install podnet with its extra 'cli'",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_status_of_what_is_raised(screen, error, status, text):
    shown, _, err = screen("table")

    def fail() -> int:
        raise error

    assert guarded(shown, fail) == status
    assert text in err.getvalue()
    assert bool(err.getvalue()) == bool(text)


def test_a_fault_of_podnets_own_is_not_hidden(screen):
    shown, _, _ = screen("table")

    def fail() -> int:
        raise ModuleNotFoundError("No module named 'podnet.nonsense'", name="podnet.nonsense")

    with pytest.raises(ModuleNotFoundError):
        guarded(shown, fail)
