"""What the pages promise apart from their code blocks: links, and the reference's completeness."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_public_name_is_in_the_reference() -> None:
    import podnet

    text = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    missing = [name for name in podnet.__all__ if name != "__version__" and f"`{name}" not in text]
    assert missing == []


def test_every_error_class_is_in_the_reference() -> None:
    from podnet import errors

    text = (ROOT / "docs/reference/errors.md").read_text()
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PodnetError)
    ]
    missing = [
        c.__name__
        for c in classes
        if f"| `{c.__name__}` | {c.code} | {c.fault.value} | " not in text
    ]
    assert missing == []


def test_the_command_line_reference_names_every_command() -> None:
    from podnet.cli.main import COMMANDS

    text = (ROOT / "docs/reference/command-line.md").read_text()
    assert [name for name in COMMANDS if f"podnet {name}" not in text] == []
