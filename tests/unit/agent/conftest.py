"""The shims that the tests here hold to the same behaviour, and helper modules made importable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shim_bench import Bench, Shim

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shim]:
    """Return a function that makes a shim of a kind, once."""
    from shim_bench import KINDS, Shim

    made: dict[str, Shim] = {}

    def build(kind: str) -> Shim:
        if kind not in made:
            folder = tmp_path_factory.mktemp("shim")
            made[kind] = Shim(kind, KINDS[kind](folder / "shim"))
        return made[kind]

    return build


@pytest.fixture(params=("c", "sanitized", "python"))
def shim(request: pytest.FixtureRequest, build: Callable[[str], Shim]) -> Shim:
    """Return the compiled shim, that with sanitizers, and the one in Python."""
    return build(request.param)


@pytest.fixture
def bench(shim: Shim) -> Iterator[Bench]:
    """Return a folder with the shim in it, and what calls it there."""
    from shim_bench import Bench

    with Bench(shim) as bench:
        yield bench
