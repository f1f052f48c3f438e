"""A store of two tiers: blocks that the node holds are in its own store, all others in the shared.

``Ipam`` over it works as over any store; what is special about handing addresses out of one's own
blocks first is in ``podnet.engine.owning_turn``. docs/explanation/ipam.md tells how and why.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from attrs import evolve, frozen

from podnet.engine.owning_records import Records
from podnet.engine.owning_rooms import Rooms
from podnet.engine.owning_turn import OwnedTurn
from podnet.errors import PodnetError, StoreError, TryAgainLaterError, together
from podnet.ipam import owned
from podnet.ipam.owned import State, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podnet.engine.lanes import Lane, Plan
    from podnet.ipam.owned import Conflict
    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.ports import Queue, Seeker, Store

_LOCAL, _SHARED = "own:", "all:"
_ATTEMPTS = 100
_ROOMS = 256
# Blocks that are looked at in one tick without need.
_LOOKS = 64
_ASK_EVERY = 1.0


@frozen(kw_only=True)
class Manner:
    """How a node deals with the blocks it holds; all in seconds.

    Attributes:
        publish_every: after a change of a block, until the shared store is told; at most one write
            for each block in this time.
        look_every: between looks at whether others want a block back.
        idle_after: until a block without leases is given back.
        trust: after the last look at the shared copy, until a block is used only after another
            one. A node that was cut off or suspended for so long first makes sure that its blocks
            were not taken from it.
        scarce_for: after a block was asked for, until blocks that were given back are taken again.
    """

    publish_every: float = 30.0
    look_every: float = 2.0
    idle_after: float = 300.0
    trust: float = 3600.0
    scarce_for: float = 30.0


class Owning:
    """The shared store, with the blocks that this node holds in a store of its own before it.

    Attributes:
        node: name of the node; no other may have it.
        turn: how ``Ipam`` takes turns over this store.
    """

    turn = OwnedTurn

    def __init__(
        self,
        shared: Store,
        local: Store,
        *,
        node: str,
        resident: bool = True,
        clock: Callable[[], float] = time.time,
        manner: Manner | None = None,
        abandoned: Callable[[], bool] | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        """Use two stores; closing this closes both.

        Args:
            shared: that of all nodes.
            local: this node's own, durable; all processes of the node use it, and nobody else.
            node: its name.
            resident: this process stays, and calls ``tick`` often: it may take blocks. One that
                does not stay can use and give back what the node holds, and takes none.
            clock: seconds since the epoch.
            manner: times.
            abandoned: tells, in a process that does not stay, whether none does on this node any
                more: then what the node holds is given back at the close.
            chance: numbers from 0 to 1; random ones if not given.
        """
        self.node = node
        self.resident = resident
        self.manner = manner or Manner()
        self._abandoned = abandoned or (lambda: False)
        self._shared = shared
        self._local = local
        self._clock = clock
        self._records = Records(
            shared,
            local,
            node=node,
            clock=clock,
            chance=chance or _random,
            trust=self.manner.trust,
        )
        self._rooms: dict[int, Rooms] = {}
        self._asked: dict[str, float] = {}
        self._looks = 0
        if hasattr(shared, "seek"):
            self.seek = self._seek
        if hasattr(shared, "queue"):
            self.queue = cast("Queue", shared).queue

    # A store

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block as it counts, and its version, or None where there is none.

        Raises:
            StoreError: a store is broken.
            TryAgainLaterError: it changed faster than it could be read.
        """
        for _ in range(_ATTEMPTS):
            entry = self._records.load(key)
            if entry is not None:
                return entry[0], _LOCAL + entry[1]
            entry = self._shared.load(key)
            if entry is None or entry[0].holder != self.node:
                return None if entry is None else (entry[0], _SHARED + entry[1])
            # Another process of this node may have taken it between the two looks. If not, it was
            # taken by one with another store of its own, which is lost, or not this node's.
            mine = self._local.load(key)
            if mine is None or state_of(mine[0]) is State.CLAIMING:
                return evolve(entry[0], holder=self.elsewhere), _SHARED + entry[1]
        raise TryAgainLaterError(f"block {key} changes faster than it can be read")

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Raises:
            StoreError: a store is broken; whether the write happened is unknown.
        """
        if expected is None or expected.startswith(_SHARED):
            if new is not None and new.holder == self.elsewhere:
                new = evolve(new, holder=self.node)
            return self._shared.swap(key, new, expected and expected.removeprefix(_SHARED))
        if new is None:
            raise StoreError(f"block {key} is held by {self.node}, and not to be deleted")
        won = True  # or it is unknown
        try:
            won = self._local.swap(key, new, expected.removeprefix(_LOCAL))
        finally:
            if won:
                self._records.changed(key, new)
        return won

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order.

        Raises:
            StoreError: a store is broken.
        """
        return sorted({*self._local.keys(prefix), *self._shared.keys(prefix)})

    def _seek(self, prefix: str, owner: Owner) -> list[str]:
        # The own store first: a block that is given back meanwhile is found in the other.
        mine: Iterable[str]
        if hasattr(self._local, "seek"):
            mine = cast("Seeker", self._local).seek(prefix, owner)
        else:
            mine = self._local.keys(prefix)
        return list(dict.fromkeys([*mine, *cast("Seeker", self._shared).seek(prefix, owner)]))

    def close(self) -> None:
        """Tell what is left to be told, as far as it can be told, and close both stores.

        A process that stays gives back blocks without leases; the others remain the node's. One
        that does not stay tells what it changed. What cannot be told now is told when the node's
        own store is used next.
        """
        with suppress(PodnetError):
            self._tell_at_last()
        self._local.close()
        self._shared.close()

    def _tell_at_last(self) -> None:
        if self.resident:
            self._see_to(self._mine(), self._leave)
        elif self._abandoned():
            self.drain()
        else:
            changed = [key for key, held in self._records.held.items() if held.since is not None]
            self._see_to(changed, self._tell)

    def _leave(self, key: str) -> None:
        self._records.withdraw(key)
        entry = self._records.load(key)
        if entry is not None:
            self._records.settle(key, publish=True, give_back=not entry[0].leases)

    # What is more than a store

    @property
    def elsewhere(self) -> str:
        """Who is shown to hold blocks that bear this node's name and are not in its own store."""
        return f"{self.node} (elsewhere)"

    def owns(self, block: Block) -> bool:
        """Tell whether a block, as ``load`` returned it, is one to hand out of as its holder."""
        return block.holder == self.node

    def rooms(self, plan: Plan, lane: Lane) -> Rooms | None:
        """Return where a plan's addresses are taken from first; None for plans that are shared."""
        rooms = self._rooms.get(id(plan))
        if rooms is not None and rooms.plan is plan:
            return rooms
        if not self._records.keeps or not owned.is_owned(plan.pool, plan.spans):
            return None
        if len(self._rooms) >= _ROOMS:
            for each in self._rooms.values():
                each.lane.ignore(each)
            self._rooms.clear()
        rooms = self._rooms[id(plan)] = Rooms(plan, lane, node=self.node)
        return rooms

    @property
    def generation(self) -> int:
        """Grows when other blocks are held than before."""
        return self._records.generation

    def held(self, prefix: str) -> list[str]:
        """Return the keys of blocks that the node may hold, those used last in front."""
        known = [each for each in list(self._records.held.items()) if each[0].startswith(prefix)]
        used = [key for key, _ in sorted(known, key=lambda each: -each[1].used)]
        return list(dict.fromkeys([*used, *self._local.keys(prefix)]))

    def listed(self, prefix: str) -> Iterable[str]:
        """Return the keys of all blocks that the shared store has."""
        return self._shared.keys(prefix)

    def stirred(self, prefix: str) -> list[str]:
        """Return the keys of blocks that changed otherwise than by ``swap``; each once."""
        return self._records.take_stirred(prefix)

    def claim(self, key: str, empty: Block, fits: Callable[[Block], bool]) -> bool:
        """Take a block that nobody holds; see ``Records.claim``."""
        return self._records.claim(key, empty, fits)

    def look(self, key: str) -> str | None:
        """Look at the shared copy of a block held; what others took away is taken from the block.

        Returns:
            The version of the block, in which there was nothing to be taken away any more; None if
            it is not held any more.
        """
        version = self._records.settle(key)
        return None if version is None else _LOCAL + version

    def tell(self, key: str) -> None:
        """Tell the shared store now what is in a block, if this node holds it.

        Raises:
            StoreError: it is not told.
        """
        self._records.settle(key, publish=True)

    def is_scarce(self, prefix: str) -> bool:
        """Tell whether blocks had to be asked for lately, by this node or of it."""
        when = self._records.scarce.get(prefix)
        return when is not None and abs(self._clock() - when) < self.manner.scarce_for

    def may_ask(self, prefix: str) -> bool:
        """Tell whether to ask for a block without waiting for it: not more often than all second.

        The answer yes is given once.
        """
        now, last = self._clock(), self._asked.get(prefix)
        if last is not None and abs(now - last) < _ASK_EVERY:
            return False
        self._asked[prefix] = now
        return True

    def note_scarce(self, key: str) -> None:
        """Take note that a block is being asked for."""
        self._records.note_scarce(key)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Leases of blocks that were taken from this node by force, the last thousand."""
        return tuple(self._records.conflicts)

    # In the background

    def tick(self) -> None:
        """Do what is due: tell, look, give back; to be called about every second.

        Raises:
            PodnetError: what went wrong with some blocks; the others were seen to.
        """
        held = self._records.held

        def age(key: str) -> float:
            known = held.get(key)
            return float("-inf") if known is None or known.looked is None else known.looked

        self._looks = _LOOKS
        self._see_to(sorted(self._mine(), key=age), self._tend)

    def publish(self) -> None:
        """Tell the shared store everything now.

        Raises:
            PodnetError: as ``tick``.
        """
        self._see_to(self._mine(), self._tell)

    def drain(self) -> None:
        """Give all blocks back, with the leases in them: the node goes away, or leaves this mode.

        Raises:
            PodnetError: as ``tick``.
        """
        self._see_to(self._mine(), lambda key: self._tell(key, give_back=True))

    def _see_to(self, keys: Iterable[str], see_to: Callable[[str], object]) -> None:
        errors = []
        for key in keys:
            try:
                see_to(key)
            except PodnetError as error:
                errors.append(error)
        if errors:
            raise together(errors)

    def _mine(self) -> list[str]:
        return list(self._local.keys(""))

    def _tell(self, key: str, *, give_back: bool = False) -> None:
        self._records.withdraw(key)
        self._records.settle(key, publish=True, give_back=give_back)

    def _tend(self, key: str) -> None:
        held = self._records.held.get(key)
        if held is None:
            self._records.withdraw(key)
            self._records.load(key)
            return
        now, manner = self._clock(), self.manner
        if _is_over(held.idle, manner.idle_after, now):
            self._records.settle(key, give_back=True)
        elif _is_over(held.since, manner.publish_every, now):
            self._records.settle(key, publish=True)
        elif self._looks and _is_over(held.looked, manner.look_every, now):
            self._looks -= 1
            self._records.settle(key)


def _is_over(start: float | None, seconds: float, now: float) -> bool:
    """Tell whether a time is over; clocks that are set back must not make it last for ever."""
    return start is not None and abs(now - start) >= seconds


def _random() -> float:
    return int.from_bytes(os.urandom(2)) / 0xFFFF
