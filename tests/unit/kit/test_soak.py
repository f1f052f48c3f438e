"""The command that runs the machines for a long time: that it counts, finds, and repeats."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from podnet.stores.memory import MemoryStore
from podnet.testing import soak


class LostUpdate(MemoryStore):
    def swap(self, key, new, expected):
        return super().swap(key, new, (self.load(key) or (None, None))[1])


@pytest.fixture
def mine(monkeypatch):
    """A module of somebody's own, and short rounds."""
    module = ModuleType("soak_mine")
    module.sound, module.broken = MemoryStore, LostUpdate
    monkeypatch.setitem(sys.modules, "soak_mine", module)
    monkeypatch.setattr(soak, "_EXAMPLES", 4)
    return module


@pytest.mark.parametrize("machine", ["store", "ipam", "nodes"])
def test_each_machine_is_run_for_as_many_steps_as_asked(mine, capsys, machine):
    assert soak.main([machine, "--steps", "300", "--seed", "3"]) == 0
    first, *rounds = capsys.readouterr().out.splitlines()
    assert first == "seed 3, store memory"
    done = [int(line.split()[1]) for line in rounds]
    assert all(line.startswith(f"{machine}: ") for line in rounds)
    assert done == sorted(done)
    assert done[-1] >= 300
    assert all(count < 300 for count in done[:-1])


@pytest.mark.parametrize("store", ["file", "soak_mine:sound"])
def test_stores(mine, store):
    assert soak.main(["store", "--steps", "100", "--store", store]) == 0


def test_what_is_found_is_told_with_the_way_to_it(mine, capsys, monkeypatch):
    monkeypatch.setattr(soak, "_EXAMPLES", 100)
    assert soak.main(["store", "--seed", "4", "--store", "soak_mine:broken"]) == 1
    told = capsys.readouterr()
    assert "found in round 0: again with --seed 4 --first 0" in told.out
    assert "put_stale" in told.err


def test_a_machine_of_somebodys_own(mine, capsys):
    from podnet.testing import StoreMachine

    mine.machine = lambda: StoreMachine(MemoryStore)
    assert soak.main(["soak_mine:machine", "--steps", "50", "--seed", "1"]) == 0
    assert capsys.readouterr().out.count("soak_mine:machine: ") == 1


def test_an_unknown_machine_is_refused(capsys):
    with pytest.raises(SystemExit):
        soak.main(["mill"])
    assert "no such machine: mill" in capsys.readouterr().err
