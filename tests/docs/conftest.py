"""Code blocks of README and docs, run where they stand.

``python`` blocks of a page share one namespace; ``console`` blocks run in a shell on a little
node of the page's own (see ``console.py``) and must end with 0 and print what the page shows.
``json``, ``yaml`` and ``text`` blocks are for reading; a ``yaml`` or ``json`` block after a line
``<!-- file: NAME -->`` is written to that file for the blocks after it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

_HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("podnet_docs_console", _HERE / "console.py")
assert _spec is not None
assert _spec.loader is not None
console = importlib.util.module_from_spec(_spec)
sys.modules["podnet_docs_console"] = console
_spec.loader.exec_module(console)

FILE = re.compile(
    r"^<!-- file: (?P<name>[\w./-]+) -->\n+```\w+\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)


def node(namespace: dict[str, Any]) -> Any:
    """The page's console, made when first needed."""
    if "__console__" not in namespace:
        namespace["__console__"] = console.Console()
        os.chdir(namespace["__console__"].folder.name)
    return namespace["__console__"]


def run_console(example: Example) -> str | None:
    shell = node(example.namespace)
    for command, promised in console.commands(example.parsed):
        code, printed = shell.run(command)
        if code:
            return f"$ {command}\nended with {code}:\n{printed}"
        if promised and not console.matches(promised, printed):
            return f"$ {command}\nprinted:\n{printed}\ninstead of:\n{promised}"
    return None


def write_file(example: Example) -> None:
    name, body = example.parsed
    path = Path(node(example.namespace).folder.name, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body)


def parse_files(document: Document) -> Any:
    for match in FILE.finditer(document.text):
        yield Region(match.start(), match.start(2) - 1, (match["name"], match["body"]), write_file)


def before(namespace: dict[str, Any]) -> None:
    namespace["__start__"] = os.getcwd()


def after(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["__start__"])
    if "__console__" in namespace:
        namespace["__console__"].close()


pytest_collect_file = Sybil(
    path=str(_HERE.parents[1]),
    patterns=["README.md", "docs/**/*.md"],
    parsers=[
        parse_files,
        CodeBlockParser("console", run_console),
        PythonCodeBlockParser(),
        SkipParser(),
    ],
    setup=before,
    teardown=after,
).pytest()
