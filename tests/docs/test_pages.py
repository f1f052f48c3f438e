"""Code blocks of README and docs, run where they stand: one test for each page.

``python`` blocks of a page share one namespace, and those that start with ``>>>`` are doctests;
``console`` blocks run in a shell on a little node of the page's own (see ``console.py``), have to
end with 0 and to print what the page shows, where ``...`` stands for anything. ``json``, ``yaml``
and ``text`` blocks are for reading. Any block after a line ``<!-- file: NAME -->`` is written to
that file for the blocks after it, and not run.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Region
from sybil.example import SybilFailure
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

_HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("podnet_docs_console", _HERE / "console.py")
assert _spec is not None
assert _spec.loader is not None
console = importlib.util.module_from_spec(_spec)
sys.modules["podnet_docs_console"] = console
_spec.loader.exec_module(console)

ROOT = _HERE.parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FILE = re.compile(
    r"^<!-- file: (?P<name>[\w./-]+) -->\n+```\w+\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)


class Page:
    """One page being run, in a folder of its own; its console is made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._console: Any = None

    @property
    def console(self) -> Any:
        if self._console is None:
            self._console = console.Console(self.folder)
        return self._console

    def close(self) -> None:
        if self._console is not None:
            self._console.close()

    def run_console(self, example: Example) -> str | None:
        for command, promised in console.commands(example.parsed):
            code, printed = self.console.run(command)
            if code:
                return f"$ {command}\nended with {code}:\n{printed}"
            if promised and not console.matches(promised, printed):
                return f"$ {command}\nprinted:\n{printed}\ninstead of:\n{promised}"
        return None

    def write_file(self, example: Example) -> None:
        name, body = example.parsed
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)

    def parse_files(self, document: Document) -> Iterator[Region]:
        for match in FILE.finditer(document.text):
            # The comment alone: regions may not overlap, and the block itself may be one.
            end = document.text.index("\n", match.start())
            yield Region(match.start(), end, (match["name"], match["body"]), self.write_file)

    def parse_python(self, document: Document) -> Iterator[Region]:
        files = [(match.start(), match.end()) for match in FILE.finditer(document.text)]
        for region in PythonCodeBlockParser()(document):
            if not any(start < region.start < end for start, end in files):
                yield region


def run_page(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    # Python blocks run in this process: their state is the page's too.
    monkeypatch.setenv("PODNET_STATE_DIR", str(folder / "state"))
    page = Page(folder)
    document = Document.parse(
        str(path),
        page.parse_files,
        CodeBlockParser("console", page.run_console),
        page.parse_python,
        SkipParser(),
    )
    try:
        for example in document.examples():
            example.evaluate()
    finally:
        page.close()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        run_page(path, tmp_path, monkeypatch)
    except SybilFailure as failure:
        raise pytest.fail.Exception(str(failure), pytrace=False) from None


TRUE = """
<!-- file: folder/hello.py -->
```python
raise SystemExit("written, not run")
```

```console
$ python folder/hello.py || echo $?
written, not run
1
$ podnet status
...nothing is attached
```

```python
>>> open
<built-in function open>
```
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("not run\n1", "not run\n2"),
        ("|| echo $?", ""),
        ("...nothing", "nothing"),
        ("function open", "function close"),
        (">>> open\n<built-in function open>", "raise ValueError"),
        ("folder/hello.py -->", "hello.py -->"),
    ],
)
def test_a_page_that_is_not_true_fails(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(TRUE.replace(old, new))
    if not old:
        run_page(page, tmp_path, monkeypatch)
        return
    with pytest.raises((SybilFailure, ValueError)):
        run_page(page, tmp_path, monkeypatch)
