from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import podnet.testing


@pytest.mark.parametrize("name", podnet.testing.__all__)
def test_every_name_of_the_kit_is_there(name):
    found = getattr(podnet.testing, name)
    assert getattr(found, "__name__", repr(found)) == name
    assert name in dir(podnet.testing)


def test_every_name_is_in_the_reference():
    page = Path(__file__).parents[3] / "docs/reference/testing.md"
    text = page.read_text()
    assert [name for name in podnet.testing.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        podnet.testing.Nothing  # noqa: B018 - the look-up is what is tested


def test_the_kit_imports_nothing_by_itself():
    code = "import sys, podnet.testing; print(sorted(m for m in sys.modules if 'hypothesis' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
