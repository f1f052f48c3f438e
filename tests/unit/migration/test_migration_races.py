"""Two calls that meet while a domain moves, in every order with two changes of turn.

What the machine finds by luck is gone through here: the first call goes so many steps, the second
so many, then the first to its end and the second to its own.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from podnet.engine.migration_rename import part
from podnet.ipam.migrate import mark_key

_spec = importlib.util.spec_from_file_location(
    "podnet_migration_machine", Path(__file__).with_name("test_migration_machine.py")
)
assert _spec is not None
assert _spec.loader is not None
machines = importlib.util.module_from_spec(_spec)
sys.modules["podnet_migration_machine"] = machines
_spec.loader.exec_module(machines)

FINE = machines.FINE


def move(machine, source="old", target="new"):
    machine.start(
        f"move {source} to {target}",
        lambda: machine.migration(source, target).run(
            machine.names[source], merge=machine.merge, patience=0
        ),
        lambda task: task.error is None or machine.judge(task),
        0,
    )


def ended(machine, call):
    """Have something done to its end, before the meeting."""
    call(machine)
    while machine.tasks:
        machine.tasks[0].go_on(FINE)
        machine.reap()


def gets(pod, pool, side):
    return lambda machine: inspect.unwrap(machine.allocate)(machine, pod, pool, side, 0)


def gives(pod, pool, side):
    return lambda machine: inspect.unwrap(machine.release)(machine, pod, pool, side, 0)


def forth(machine):
    move(machine)


def back(machine):
    move(machine, "new", "old")


def forth_and_back(machine):
    """Another runs there and back, while the first stands still."""

    def action():
        for source, target in (("old", "new"), ("new", "old")):
            machine.migration(source, target).run(machine.names[source], patience=0)

    done = lambda task: task.error is None or machine.judge(task)  # noqa: E731
    machine.start("move there and back", action, done, 0)


def cancel(machine, source="old", target="new"):
    machine.start(
        f"cancel {source} to {target}",
        lambda: machine.migration(source, target).cancel(machine.names[source]),
        lambda task: task.error is None or machine.judge(task),
        0,
    )


def cancel_back(machine):
    cancel(machine, "new", "old")


def claimed(machine):
    """A move gets as far as the source's mark, and is killed before it."""
    move(machine)
    mover = machine.tasks[-1]
    until_the_source_is_left(mover)
    mover.kill()
    machine.reap()


def until_the_source_is_left(mover):
    source = mark_key(part("lan")), "old", "swap"
    for _ in range(2):  # its mark is written as it is, and then as what leads away
        mover.go_on(FINE)
        while (mover.point.key, mover.point.store, mover.point.what) != source:
            mover.go_on(FINE)


# Name of a meeting: machine, what was before, and the two calls.
MEETINGS = {
    "a new block is made at the source": ("Move", [], gets(0, "small", "old"), forth),
    "an address goes out at the source": (
        "Move",
        [gets(0, "wide", "old")],
        gets(2, "wide", "old"),
        forth,
    ),
    "an address comes back at the source": (
        "Move",
        [gets(0, "wide", "old")],
        gives(0, "wide", "old"),
        forth,
    ),
    "the owner asks again": ("Move", [gets(0, "wide", "old")], gets(0, "wide", "old"), forth),
    "two runs": ("Move", [gets(0, "wide", "old"), gets(1, "small", "old")], forth, forth),
    "there and back meanwhile": ("Move", [gets(0, "wide", "old")], forth, forth_and_back),
    "both ways at once": ("Move", [gets(0, "wide", "old")], forth, back),
    "back, and a block is made": (
        "Move",
        [gets(0, "wide", "old"), forth],
        gets(1, "small", "old"),
        back,
    ),
    "back, and an address comes back": (
        "Move",
        [gets(0, "wide", "old"), forth],
        gives(0, "wide", "old"),
        back,
    ),
    "back, and the other side asks": (
        "Move",
        [gets(0, "wide", "old"), forth],
        gets(2, "wide", "new"),
        back,
    ),
    "a join, and an address comes back": (
        "Join",
        [gets(0, "wide", "old"), gets(1, "wide", "new")],
        gives(0, "wide", "old"),
        forth,
    ),
    "a join, and an address goes out": (
        "Join",
        [gets(0, "wide", "old"), gets(1, "wide", "new")],
        gets(2, "wide", "old"),
        forth,
    ),
    "a join, and the target hands out": (
        "Join",
        [gets(0, "wide", "old"), gets(1, "wide", "new")],
        gets(3, "wide", "new"),
        forth,
    ),
    "a join in two runs": ("Join", [gets(0, "wide", "old"), gets(1, "small", "new")], forth, forth),
    "the target is in use, or is not": (
        "Early",
        [gets(1, "wide", "old")],
        gets(0, "small", "new"),
        forth,
    ),
    "a move is cancelled": ("Move", [gets(0, "wide", "old")], forth, cancel),
    "a move is cancelled, and the source hands out": (
        "Move",
        [gets(0, "wide", "old"), claimed],
        gets(1, "small", "old"),
        cancel,
    ),
    "back, and it is cancelled": ("Move", [gets(0, "wide", "old"), forth], back, cancel_back),
    "another name": ("Renaming", [gets(0, "wide", "old")], gets(2, "wide", "old"), forth),
}


def meet(meeting, first_steps, second_steps):
    """Run one order of a meeting; return whether both calls were cut where it says."""
    kind, before, first, second = MEETINGS[meeting]
    machine = getattr(machines, f"{kind}Machine")()
    for call in before:
        ended(machine, call)
    first(machine)
    one = machine.tasks[-1]
    cut = go(machine, one, first_steps)
    count = len(machine.tasks)
    second(machine)
    other = machine.tasks[-1] if len(machine.tasks) > count else None
    if other is not None:
        cut = go(machine, other, second_steps) and cut
    for task in (one, other):
        if task is not None:
            go(machine, task, 1000)
    machine.teardown()
    return cut


def go(machine, task, steps):
    for _ in range(steps):
        if task.over:
            break
        task.go_on(FINE)
    machine.reap()
    return not task.over


def orders(meeting, stride):
    """Go through the orders of a meeting: all steps of the first, every few of the second."""
    first_steps = 0
    while True:
        second_steps, first_is_cut = 0, False
        while meet(meeting, first_steps, second_steps):
            second_steps += stride
            first_is_cut = True
        if not first_is_cut and not _first_is_cut(meeting, first_steps):
            return
        first_steps += 1


def _first_is_cut(meeting, steps):
    kind, before, first, _ = MEETINGS[meeting]
    machine = getattr(machines, f"{kind}Machine")()
    for call in before:
        ended(machine, call)
    first(machine)
    cut = go(machine, machine.tasks[-1], steps) if machine.tasks else False
    for task in list(machine.tasks):
        task.kill()
    return cut


def three_meet():
    """Somebody uses the target while it is claimed, and another the source before blocks move."""
    machine = machines.EarlyMachine()
    gets(0, "small", "new")(machine)
    early = machine.tasks[-1]
    machine.run(early, 2)  # the empty block is there, and the mark was read
    move(machine)
    mover = machine.tasks[-1]
    until_the_source_is_left(mover)
    gets(1, "small", "old")(machine)
    go(machine, machine.tasks[-1], 1000)
    for task in (early, mover):
        go(machine, task, 1000)
    machine.teardown()


def three_meet_at_the_source():
    """A block is begun at the source, the source is left, and another asks before blocks move."""
    machine = machines.MoveMachine()
    ended(machine, gets(0, "wide", "old"))
    gets(1, "small", "old")(machine)
    begun = machine.tasks[-1]
    machine.run(begun, 2)  # the empty block is there, and the mark was read
    move(machine)
    mover = machine.tasks[-1]
    until_the_source_is_left(mover)
    mover.go_on(FINE)
    gets(2, "small", "old")(machine)
    for task in (machine.tasks[-1], begun, mover):
        go(machine, task, 1000)
    machine.teardown()


@pytest.mark.parametrize("meeting", [three_meet, three_meet_at_the_source])
def test_three_meet(meeting):
    meeting()


@pytest.mark.parametrize("meeting", MEETINGS)
def test_nothing_is_lost_or_given_twice(meeting):
    orders(meeting, stride=2)
