"""One turn of serving a batch: read what is needed, decide every request, swap what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from podnet.engine.lanes import ALL_TAKEN
from podnet.engine.requests import Allocation, Change, Draft, Freed
from podnet.engine.shortage import exhausted, held_by, not_free
from podnet.errors import AddressUnavailableError, PodnetError
from podnet.ipam import grant, space
from podnet.ipam.pick import Ask, Requested
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block, block_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podnet.engine.lanes import Lane, Plan
    from podnet.engine.requests import Request
    from podnet.model.lease import Lease, Owner
    from podnet.ports import Picker, Store


# Blocks that are recalled at once, and how many waits go by until others are as well.
_RECALLS = 4
_PATIENT = 50
# Blocks of a large pool that are looked at before a new one is begun.
_LOOKS = 3


class Turn:
    """One attempt at a batch. What is lost to others goes into the next turn."""

    def __init__(self, store: Store, lane: Lane, *, node: str, now: float) -> None:
        """Begin with nothing read."""
        self._store = store
        self._lane = lane
        self._node = node
        self._now = now
        self._fresh: dict[int, str | None] = {}
        self._broken: dict[int, PodnetError] = {}
        self._drafts: dict[int, Draft] = {}
        self._granted: list[Lease] = []
        self._looked: set[int] = set()

    def run(self, requests: Iterable[Request]) -> list[Request]:
        """Decide and swap; return those that have to be tried again."""
        again: list[Request] = []
        for request in requests:
            try:
                if isinstance(request, Allocation):
                    done = self._allocate(request)
                elif isinstance(request, Change):
                    done = self._change(request)
                if not done:
                    again.append(request)
            except PodnetError as error:
                request.refuse(error)
        for index, draft in self._drafts.items():
            again += self._swap(index, draft)
        return again

    def _swap(self, index: int, draft: Draft) -> list[Request]:
        lane = self._lane
        try:
            won = self._store.swap(lane.key(index), draft.block, draft.version)
        except BaseException as failure:
            lane.forget(index)
            for rider in draft.riders:
                rider.refuse(failure, unknown=True)
            if isinstance(failure, PodnetError):
                return []
            raise
        if not won:
            lane.forget(index)
            return draft.riders
        lane.swapped(index, draft.block, draft.gone, draft.come, usable=self._usable(draft.block))
        for rider in draft.riders:
            rider.settled = True
        return []

    def _change(self, request: Change) -> bool:
        block = self._block(request.index)
        if block is None:
            request.settled = True
            return True
        new, request.gone = request.decide(block)
        if request.gone:
            self._draft(request, new, gone=request.gone)
        elif (draft := self._drafts.get(request.index)) is not None:
            draft.riders.append(request)  # what others of this batch took may yet be lost
        else:
            request.settled = True
        return True

    def _allocate(self, request: Allocation) -> bool:
        """Return False where only another turn can tell."""
        plan = request.plan
        request.lease, request.new = None, False  # what an earlier turn gave was lost
        self._look(plan)
        lease = self._find(plan, request.owner)
        if lease is not None:
            return self._renew(request, lease)
        for index in request.asked:
            if index not in self._fresh:
                self._load(index)
        value = self._choose(request)
        if value is None:
            return self._none_left(request)
        index = value >> BLOCK_BITS
        block = self._block(index) or Block(
            domain=self._lane.domain, version=self._lane.version, index=index
        )
        new, lease = grant.grant(
            block,
            value,
            plan.pool,
            request.owner,
            node=self._node,
            network=request.network,
            now=self._now,
            claim=request.claim,
        )
        request.lease, request.new = lease, True
        self._granted.append(lease)
        self._lane.last[plan.pool.name] = lease.ip
        self._draft(request, new, come=(lease,))
        return True

    def _renew(self, request: Allocation, lease: Lease) -> bool:
        wanted = request.wanted
        if wanted is not None and wanted != lease.ip:
            raise AddressUnavailableError(
                f"{wanted} was asked for, but {request.owner} already holds {lease.ip} of pool "
                f"{lease.pool!r}"
            )
        block = self._block(lease.ip.value >> BLOCK_BITS)
        assert block is not None
        new, renewed = grant.renew(
            block,
            lease,
            request.owner,
            node=self._node,
            network=request.network,
            now=self._now,
            anew=self._is_overtaken(block, lease),
            pool=request.plan.pool,
        )
        if new is not block and not self._usable(block):
            return self._recall(request, [block.index])
        request.lease = renewed
        if new is not block:
            self._draft(request, new, gone=(lease,), come=(renewed,))
            return True
        draft = self._drafts.get(block.index)
        if draft is None:
            request.settled = True
        else:  # a lease of this very batch: the outcome is the same
            draft.riders.append(request)
        return True

    def _is_overtaken(self, block: Block, lease: Lease) -> bool:  # noqa: ARG002 - for others
        """Tell whether the lease may have been ended already, where this turn does not see it."""
        return False

    def _is_certain(self, block: Block | None) -> bool:  # noqa: ARG002 - for others
        """Tell whether what is held in a block is held for certain."""
        return True

    def _draft(
        self,
        request: Request,
        new: Block,
        *,
        gone: Iterable[Lease] = (),
        come: Iterable[Lease] = (),
    ) -> None:
        draft = self._drafts.get(new.index)
        if draft is None:
            draft = self._drafts[new.index] = Draft(self._fresh[new.index], new)
        draft.block = new
        draft.riders.append(request)
        draft.gone += gone
        draft.come += come
        self._lane.mark(new.index, new.taken if self._usable(new) else ALL_TAKEN)

    def _block(self, index: int) -> Block | None:
        """Return a block as it will be when this turn is done."""
        draft = self._drafts.get(index)
        if draft is not None:
            return draft.block
        if index not in self._fresh:
            self._load(index)
        entry = self._lane.blocks.get(index)
        if entry is None and self._fresh[index] is not None:
            # It was let go because others came after it.
            self._load(index)
            entry = self._lane.blocks.get(index)
        return None if entry is None else entry[0]

    def _load(self, index: int) -> None:
        if index in self._broken:
            raise self._broken[index]
        lane = self._lane
        key = lane.key(index)
        try:
            entry = self._store.load(key)
            if entry is not None:
                lane.check(key, index, entry[0])
        except PodnetError as error:
            self._broken[index] = error
            raise
        self._fresh[index] = None if entry is None else entry[1]
        lane.see(index, entry, usable=entry is not None and self._usable(entry[0]))

    def _usable(self, block: Block) -> bool:
        return not block.holder

    def _look(self, plan: Plan) -> None:
        """Read all blocks of a small pool, so that nothing in it is old knowledge."""
        if id(plan) not in self._looked:
            for index in plan.indexes:
                if index not in self._fresh:
                    self._load(index)
            self._looked.add(id(plan))

    def _look_everywhere(self, plan: Plan) -> None:
        """Read all blocks of a large pool: only that shows that nothing is free."""
        here = set()
        for key in self._store.keys(self._lane.prefix):
            index = block_index(key)
            if plan.touches(index):
                here.add(index)
                if index not in self._fresh:
                    self._load(index)
        for index in [each for each in self._lane.inside(plan) if each not in here]:
            if index not in self._drafts and self._fresh.get(index) is None:
                self._lane.forget(index)

    def _find(self, plan: Plan, owner: Owner) -> Lease | None:
        """Return the lease of the pool that the owner has, this very container's first."""
        earlier = None
        name = plan.pool.name
        for index in self._where(plan, owner):
            block = self._block(index)
            lease = None if block is None else grant.find(block, name, owner, within=plan.pool)
            if lease is not None:
                if lease.owner.key == owner.key:
                    return lease
                earlier = earlier or lease
        for lease in self._granted:
            if lease.pool == name and lease.owner.key == owner.key:
                return lease
        return earlier

    def _where(self, plan: Plan, owner: Owner) -> Iterator[int]:
        """Return the indexes of blocks where a lease of the owner may be."""
        if plan.indexes:
            keys: Iterable[str] = self._lane.owners.seek(owner)
        elif (seek := getattr(self._store, "seek", None)) is not None:
            keys = seek(self._lane.prefix, owner)
        else:
            keys = self._store.keys(self._lane.prefix)
        for key in keys:
            index = block_index(key)
            if plan.touches(index):
                yield index

    def _choose(self, request: Allocation) -> int | None:
        plan, wanted = request.plan, request.wanted
        if wanted is None:
            if plan.indexes:
                return self._pick(request, plan.picker)
            value = self._explored(request)
            if value is None and not self._is_waiting(request):
                self._look_everywhere(plan)
                value = self._pick(request, plan.picker)
            return value
        if why := space.why_not(plan.pool, wanted):
            raise AddressUnavailableError(
                f"requested address {wanted} {why}, pool {plan.pool.name!r}"
            )
        block = self._block(wanted.value >> BLOCK_BITS)
        holder = None if block is None else block.leases.get(wanted.value % BLOCK_SIZE)
        if block is not None and not self._usable(block):
            return None  # only its holder knows whether it is free
        if holder is not None and not self._is_certain(block):
            return None
        if holder is not None and wanted.value >> BLOCK_BITS in self._drafts:
            return None  # what others of this batch take may yet be lost to others still
        if holder is not None:
            raise AddressUnavailableError(
                f"requested address {wanted} of pool {plan.pool.name!r} is held", held_by(holder)
            )
        return self._pick(request, Requested())

    def _explored(self, request: Allocation) -> int | None:
        """Look into a few blocks that exist before one is begun; blocks are kept for good.

        Reading all of a large pool's blocks would take seconds, so that what this process does not
        know of counts as full until nothing else is left.
        """
        plan, lane = request.plan, self._lane
        if not lane.listed(plan):
            lane.list(plan, map(block_index, self._store.keys(lane.prefix)))
        value = self._pick(request, plan.picker)
        for _ in range(_LOOKS):
            if value is not None and lane.exists(value >> BLOCK_BITS):
                break
            index = lane.next_unseen(plan, request.owner)
            if index is None:
                break
            if index not in self._fresh:
                self._load(index)
            value = self._pick(request, plan.picker)
        return value

    def _pick(self, request: Allocation, picker: Picker) -> int | None:
        plan, lane = request.plan, self._lane
        ask = self._ask(request, len(lane.order))
        while True:
            value = None
            for free in self._free(request):
                value = picker.pick(free, ask)
                if value is not None:
                    break
            if value is None:
                return None
            index = value >> BLOCK_BITS
            bit = 1 << (value % BLOCK_SIZE)
            if not space.covers(plan.spans, value) or lane.taken.get(index, 0) & bit:
                raise not_free(value)
            if index in self._fresh:
                return value
            # What is known of a large pool's blocks may be old; now it is not.
            self._load(index)
            if not lane.taken.get(index, 0) & bit:
                return value

    def _ask(self, request: Allocation, blocks: int) -> Ask:
        return Ask(
            pool=request.plan.pool,
            owner=request.owner,
            node=self._node,
            requested=request.wanted,
            last=self._last(request.plan),
            freed=Freed(self._lane.blocks),
            now=self._now,
            blocks=blocks,
        )

    def _free(self, request: Allocation) -> Iterator[space.Free]:
        """Return what is free and has rested, then what is free."""
        plan, lane = request.plan, self._lane
        rest = 0.0 if request.wanted is not None else plan.pool.cool_down
        if rest:
            taken = dict(lane.taken)
            for index, (block, _) in lane.blocks.items():
                if block.freed and index in taken:
                    taken[index] |= grant.resting(block, self._now - rest)
            yield space.Free(plan.spans, taken, lane.order)
        yield space.Free(plan.spans, lane.taken, lane.order, plan.full)

    def _last(self, plan: Plan) -> Address | None:
        pool = plan.pool
        cursor = getattr(self._store, "cursor", None)
        if cursor is not None and not self._granted:
            last: Address | None = cursor(pool.domain, pool.name)
            return last
        if pool.name in self._lane.last:
            return self._lane.last[pool.name]
        leases = (
            lease
            for block, _ in self._lane.blocks.values()
            for lease in block.leases.values()
            if lease.pool == pool.name
        )
        latest = max(leases, key=lambda lease: lease.since, default=None)
        return None if latest is None else latest.ip

    def _none_left(self, request: Allocation) -> bool:
        """Refuse, if a second look shows the same: blocks are read one after the other."""
        plan, lane, wanted = request.plan, self._lane, request.wanted
        here = list(lane.inside(plan)) if wanted is None else [wanted.value >> BLOCK_BITS]
        if any(index in self._drafts for index in here):
            return False  # what others of this batch take may yet be lost to others still
        if held := [index for index in here if index in lane.foreign]:
            return self._recall(request, held)
        versions = {index: self._fresh.get(index) for index in here}
        if wanted is None and (len(versions) <= 1 or request.seen_before(versions)):
            blocks = (block for index in here if (block := self._block(index)) is not None)
            raise exhausted(plan.pool, plan.spans, blocks)
        return False

    def _is_waiting(self, request: Allocation) -> bool:
        """Tell whether a block that was asked for has not come back, so that it is that or nothing.

        Now and then the answer is no, for the sake of what became free elsewhere.
        """
        asked = [index for index in request.asked if index in self._lane.foreign]
        return bool(asked) and request.rounds % _PATIENT > 0

    def _recall(self, request: Allocation, held: list[int]) -> bool:
        """Ask for blocks back that others hold; what is free in them only they know for certain.

        Not for all of them at once: those with most room first, and others when these do not come.
        """
        asked: dict[int, str] = {}
        room = self._lane.foreign
        known = {index for index in request.asked if index in room}
        most = 0 if known and request.rounds % _PATIENT else _RECALLS
        new = 0
        for index in sorted(held, key=lambda x: (x not in known, room.get(x, 0).bit_count())):
            if index in self._drafts or (new >= most and index not in known):
                break
            block = self._block(index)
            if block is None or self._usable(block):
                return False  # it has come back
            if not block.recalled:
                new += 1
                self._store.swap(
                    self._lane.key(index), evolve(block, recalled=True), self._fresh[index]
                )
                del self._fresh[index]
            asked[index] = block.holder
        if not asked:
            return False
        request.asked, request.waits = tuple(asked), tuple(sorted(set(asked.values())))
        request.settled = True
        return True
