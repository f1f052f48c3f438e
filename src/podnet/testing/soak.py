"""Runs the state machines for as long as one likes: ``python -m podnet.testing.soak``.

Each round has a seed of its own, made of that of the command and the round's number, so that a
failure can be had again without what was before it.
"""

from __future__ import annotations

import argparse
import atexit
import itertools
import shutil
import sys
import tempfile
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from podnet.engine.registry import open_store
from podnet.testing.ipam_machine import IpamMachine
from podnet.testing.machines import STEPS, StoreMachine, run_machine
from podnet.testing.nodes_machine import NodesMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.stateful import RuleBasedStateMachine

    from podnet.ports import Store

    Opener = Callable[[], Store]

MACHINES: dict[str, Callable[[Opener], RuleBasedStateMachine]] = {
    "store": StoreMachine,
    "ipam": IpamMachine,
    "nodes": lambda opened: NodesMachine(opened=opened),
}
_EXAMPLES, _LENGTH = 200, 50


def opener(store: str) -> Opener:
    """Return what opens new, empty stores.

    Args:
        store: ``memory``, ``file``, ``sqlite``, or ``module:function`` of somebody's own, which
            returns a new store each time.
    """
    module, colon, name = store.partition(":")
    if colon:
        found: Opener = getattr(import_module(module), name)
        return found
    if store == "memory":
        return lambda: open_store("memory:")
    folder, numbers = tempfile.mkdtemp(prefix="podnet-soak-"), itertools.count()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    form = {"file": "file:{}/{}", "sqlite": "sqlite:///{}/{}.db"}[store]
    return lambda: open_store(form.format(folder, next(numbers)))


def soak(name: str, opened: Opener, *, steps: int, seed: int, first: int = 0) -> bool:
    """Run one machine; return whether nothing was found.

    Args:
        name: ``store``, ``ipam``, ``nodes``, or ``module:machine`` of somebody's own, which needs
            no arguments.
        opened: opens new, empty stores.
        steps: how many, at least.
        seed: of all rounds.
        first: number of the round to begin with.
    """
    module, colon, attribute = name.partition(":")
    own = colon and getattr(import_module(module), attribute)
    make = own or partial(MACHINES[name], opened)
    began, before = time.monotonic(), STEPS.total()
    for number in itertools.count(first):
        try:
            run_machine(
                make,
                examples=_EXAMPLES,
                steps=_LENGTH,
                seed=seed * 1_000_003 + number,
                database=None,
            )
        except Exception:
            import traceback

            traceback.print_exc()
            print(f"{name}: found in round {number}: again with --seed {seed} --first {number}")
            return False
        done, took = STEPS.total() - before, time.monotonic() - began
        print(
            f"{name}: {done} of {steps} steps, {took:.0f} s, {done / took:.0f} a second", flush=True
        )
        if done >= steps:
            return True
    raise AssertionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m podnet.testing.soak", description=__doc__)
    names = "|".join([*MACHINES, "module:machine"])
    parser.add_argument("machines", nargs="*", metavar=names, help="the three if not given")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of each machine")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--first", type=int, default=0, help="the round to begin with")
    parser.add_argument(
        "--store", default="memory", help="memory, file, sqlite, or module:function of your own"
    )
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.machines if ":" not in name and name not in MACHINES]:
        parser.error(f"no such machine: {', '.join(unknown)}")
    opened = opener(asked.store)
    print(f"seed {asked.seed}, store {asked.store}")
    found = 0
    for name in asked.machines or MACHINES:
        found += not soak(name, opened, steps=asked.steps, seed=asked.seed, first=asked.first)
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
