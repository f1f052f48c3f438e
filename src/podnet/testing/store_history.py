"""Histories of concurrent calls of one store, and whether they are linearizable.

Each key is a register of its own: what is read, compared and set there does not depend on other
keys. A listing is one look at each key that it could have shown, all between its start and end.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.errors import PodnetError
from podnet.testing.ground_contract import contract_block
from podnet.testing.linearizability import (
    UNKNOWN,
    NotLinearizableError,
    Operation,
    Recorder,
    check_history,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from podnet.model.block import Block
    from podnet.ports import Store


@frozen
class Load:
    """A ``load``; answered by None, or by content and version."""

    key: str


@frozen
class Swap:
    """A ``swap``; the new block as its content, None for a delete."""

    key: str
    new: str | None
    expected: str | None


@frozen
class Keys:
    """A ``keys``; answered by the set of them."""

    prefix: str


@frozen
class Exists:
    """One key of a listing; answered by whether it was there."""

    key: str


def content(block: Block | None) -> str | None:
    """Return a text that is the same for equal blocks only."""
    return None if block is None else json.dumps(block.to_document(), sort_keys=True)


class RecordedStore:
    """A store around another one that notes every call of its one user."""

    def __init__(self, store: Store, who: str) -> None:
        self._store = store
        self.recorder = Recorder(who)

    def load(self, key: str) -> tuple[Block, str] | None:
        """Pass on."""
        return self.recorder.record(
            Load(key),
            lambda: self._store.load(key),
            lambda entry: entry and (content(entry[0]), entry[1]),
        )

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Pass on."""
        call = Swap(key, content(new), expected)
        return self.recorder.record(call, lambda: self._store.swap(key, new, expected))

    def keys(self, prefix: str) -> Iterable[str]:
        """Pass on; the listing is complete when this returns."""
        return self.recorder.record(Keys(prefix), lambda: list(self._store.keys(prefix)), frozenset)

    def close(self) -> None:
        """Pass on."""
        self._store.close()


def work(store: Store, who: str, *, keys: Sequence[str], steps: int) -> list[Operation]:
    """Load, swap, delete and list at random, and return the history of it.

    Every block swapped in has ``who`` and a number in it, which is how it is known again.

    Args:
        store: the store, or a handle on it.
        who: name of this user; the same name does the same.
        keys: where to work; the fewer, the more conflicts.
        steps: how many calls.
    """
    mine, chance = RecordedStore(store, who), random.Random(who)  # noqa: S311 - no secret
    seen: dict[str, str | None] = {}
    for step in range(steps):
        key = chance.choice(keys)
        what = chance.choices(["load", "swap", "delete", "stale", "keys"], [5, 6, 1, 1, 1])[0]
        new = contract_block(key, 1)
        owner = evolve(new.leases[1].owner, container_id=f"{who}-{step}")
        new = evolve(new, leases={1: evolve(new.leases[1], owner=owner)})
        try:
            if what == "keys":
                mine.keys("")
            elif what == "load" or key not in seen:
                entry = mine.load(key)
                seen[key] = entry and entry[1]
            else:
                expected = None if what == "stale" else seen.pop(key)
                mine.swap(key, None if what == "delete" else new, expected)
        except PodnetError:
            seen.pop(key, None)
    return mine.recorder.history


def check_store(history: Iterable[Operation]) -> None:
    """Hold a history of a store that was empty to what a store promises.

    Every block swapped in must be another one, as those of ``work`` are.

    Raises:
        NotLinearizableError: no order of the calls explains their answers, or a version came back.
    """
    history = list(history)
    keys = {op.call.key for op in history if isinstance(op.call, Load | Swap)}
    for key in sorted(keys):
        ops = [op for op in history if isinstance(op.call, Load | Swap) and op.call.key == key]
        contents = _contents(ops)
        listed = [
            evolve(op, call=Exists(key), answer=key in op.answer)
            for op in history
            if isinstance(op.call, Keys)
            and isinstance(op.answer, frozenset)
            and key.startswith(op.call.prefix)
        ]
        check_history([*ops, *listed], _Place(contents))


def _contents(ops: Iterable[Operation]) -> dict[str, str]:
    """Return which content each version is of."""
    contents: dict[str, str] = {}
    versions: dict[str, str] = {}
    for op in ops:
        if isinstance(op.call, Load) and isinstance(op.answer, tuple):
            found, version = op.answer
            if contents.setdefault(version, found) != found:
                raise NotLinearizableError(f"version {version} came back with other content: {op}")
            if versions.setdefault(found, version) != version:
                raise NotLinearizableError(f"what was put once is there in two versions: {op}")
    return contents


@frozen
class _Place:
    """What is at one key: a content, or None."""

    contents: dict[str, str]
    initial: Hashable = None

    def following(self, state: Hashable, call: object, answer: object) -> Iterable[Hashable]:
        match call:
            case Load():
                now = answer[0] if isinstance(answer, tuple) else None
                return [state] if answer is UNKNOWN or now == state else []
            case Exists():
                return [state] if answer == (state is not None) else []
            case Swap(_, new, expected):
                # A version that nobody loaded is no version of what is there.
                wins = state == (None if expected is None else self.contents.get(expected, ""))
                if answer is UNKNOWN or answer == wins:
                    return [new] if wins else [] if answer is UNKNOWN else [state]
        return []
