"""What is asked of the blocks of a lane, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define, field

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_BITS, BLOCK_SIZE, Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podnet.engine.lanes import Plan
    from podnet.model.lease import Lease, Owner

    Decide = Callable[[Block], tuple[Block, tuple[Lease, ...]]]


@define(eq=False, kw_only=True)
class Request:
    """Something to be done to the blocks of one lane, and what came of it.

    Attributes:
        what: says it in an error.
        settled: it is done, or refused.
        error: why it is refused.
        unknown: the error came from the swap itself: whether it was done is not known.
    """

    what: str
    settled: bool = False
    error: BaseException | None = None
    unknown: bool = False

    def refuse(self, error: BaseException, *, unknown: bool = False) -> None:
        """Settle it with an error."""
        self.settled, self.error, self.unknown = True, error, unknown


@define(eq=False, kw_only=True)
class Allocation(Request):
    """An owner wants an address.

    Attributes:
        plan: of the pool.
        owner: for whom.
        network: CNI network it is for.
        wanted: this address or none.
        claim: what keeps the address; empty for a usual lease.
        lease: the answer.
        new: it was not held before.
        waits: nodes that hold the blocks where the only free addresses may be, asked to give
            them back.
        asked: the blocks that they were asked for.
        rounds: how often it has been tried before, waiting for them.
    """

    plan: Plan
    owner: Owner
    network: str
    wanted: Address | None
    claim: str = ""
    lease: Lease | None = None
    new: bool = False
    waits: tuple[str, ...] = ()
    asked: tuple[int, ...] = ()
    rounds: int = 0
    _before: dict[int, str | None] | None = None

    def seen_before(self, versions: dict[int, str | None]) -> bool:
        """Tell whether an earlier look showed the same."""
        same, self._before = versions == self._before, versions
        return same


@define(eq=False, kw_only=True)
class Change(Request):
    """A block is to be replaced by what a function makes of it, unless that takes nothing away.

    Attributes:
        index: which block.
        decide: returns the new block and what it took away.
        gone: the answer.
    """

    index: int
    decide: Decide
    gone: tuple[Lease, ...] = ()


@define(eq=False)
class Draft:
    """A block as it is to be swapped in, and whose requests ride on it."""

    version: str | None
    block: Block
    riders: list[Request] = field(factory=list)
    gone: list[Lease] = field(factory=list)
    come: list[Lease] = field(factory=list)


class Freed(Mapping[int, float]):
    """Free addresses to the time of their release, of the blocks at hand."""

    def __init__(self, blocks: dict[int, tuple[Block, str]]) -> None:
        self._blocks = blocks

    def get(self, value: int, default: object = None) -> object:  # type: ignore[override]  # as dict's
        """Return when a number was released, as ``dict.get``."""
        entry = self._blocks.get(value >> BLOCK_BITS)
        return default if entry is None else entry[0].freed.get(value % BLOCK_SIZE, default)

    def __getitem__(self, value: int) -> float:
        return self._blocks[value >> BLOCK_BITS][0].freed[value % BLOCK_SIZE]

    def __iter__(self) -> Iterator[int]:
        for block, _ in self._blocks.values():
            for offset in block.freed:
                yield block.first + offset

    def __len__(self) -> int:
        return sum(len(block.freed) for block, _ in self._blocks.values())
