"""Moving a domain between stores: what blocks and marks say of it, and how they change.

Three rules carry the whole protocol, and no clock is in any of them:

* Of one block at most one of the two stores has an *open* copy, and that one counts. A block that
  is moved is closed at the source first; its content there is what the target's copy is opened
  with, whoever gets to it, so that whoever finds a closed block can finish its move.
* A block that does not exist is decided by the domain's *mark*, one small block beside it. Who
  makes a block puts an empty one there first, then reads the mark, then opens it. Who moves the
  domain sets the mark first, then lists the blocks. Each sees the other, or is seen.
* Blocks are never deleted, so that no version of one comes back.

What a block on the move says stands in its ``holder``, behind a sign that names of nodes do not
begin with: an allocator that knows nothing of moves takes it for another node's, and lets it be.
"""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from podnet.errors import StoreError
from podnet.model.block import Block, block_key, domain_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podnet.model.lease import Lease

RESERVED = "podnet:"
"""What the names of podnet's own domains begin with; they hold no addresses."""
HIDDEN = domain_prefix(RESERVED)[:-1]
"""What their keys begin with."""

_MARKS = f"{RESERVED}moves:"
MARK_PREFIX = domain_prefix(_MARKS)[:-1]
"""What the keys of marks begin with."""
IDENTITY = block_key(f"{RESERVED}store", 4, 0)
"""Where a store keeps who it is."""

_SIGN = "!"
_TAG = "moving:"


class State(enum.Enum):
    """What the entry of a store is worth.

    Attributes:
        VACANT: there is no block.
        OPEN: it counts.
        NEW: somebody is about to make it; it is empty.
        COPY: a rehearsal at the target of a move: what the target would have to keep.
        MOVED: closed at the source; its content counts until the target's is open.
        GONE: as ``MOVED``, and the target's is open; or it was ``NEW``, and may not be opened.
    """

    VACANT = ""
    OPEN = "is"
    NEW = "new"
    COPY = "copy"
    MOVED = "moved"
    GONE = "gone"


_STATES = {state.value: state for state in State if state.value}


def state_of(block: Block | None) -> State:
    """Return what a block is worth.

    Raises:
        StoreError: it says something that this podnet does not know.
    """
    if block is None:
        return State.VACANT
    if not block.holder.startswith(_SIGN):
        return State.OPEN
    word = block.holder[1:].partition(":")[0]
    if word not in _STATES:
        raise StoreError(f"block {block.key}: its holder {block.holder!r} is no node's name")
    return _STATES[word]


def shown(block: Block) -> Block:
    """Return an open block as allocators see it: with the name of its holder and nothing else."""
    if not block.holder.startswith(_SIGN):
        return block
    return evolve(block, holder=_holder(block))


def kept(block: Block) -> Block:
    """Return what a store keeps of an allocator's block; ``shown`` is its reverse."""
    if not block.holder.startswith(_SIGN):
        return block
    return evolve(block, holder=f"{_SIGN}{State.OPEN.value}:{block.holder}")


def _holder(block: Block) -> str:
    return block.holder.partition(":")[2] if block.holder.startswith(_SIGN) else block.holder


def _as(state: State, block: Block) -> Block:
    return evolve(block, holder=f"{_SIGN}{state.value}:{_holder(block)}")


def new(block: Block) -> Block:
    """Return the empty block that stands where ``block`` is about to be made."""
    return _empty(State.NEW, block, 0)


def gone(block: Block) -> Block:
    """Return what the source keeps of a block whose content the target has.

    Its sequence is 0 only if the block was never open: then it may still be made.
    """
    never = state_of(block) is State.NEW
    return _empty(State.GONE, block, 0 if never else max(block.sequence, 1))


def never_open(block: Block | None) -> bool:
    """Tell whether no block was ever open where this is all there is."""
    state = state_of(block)
    return state in (State.VACANT, State.NEW) or (
        state is State.GONE and block is not None and not block.sequence
    )


def _empty(state: State, block: Block, sequence: int) -> Block:
    return Block(
        domain=block.domain,
        version=block.version,
        index=block.index,
        sequence=sequence,
        holder=f"{_SIGN}{state.value}:",
    )


def moved(block: Block) -> Block:
    """Return an open block of the source as closed.

    Blocks are as stores keep them, here and below.
    """
    return _as(State.MOVED, block)


def copied(block: Block, over: Block | None) -> Block:
    """Return the rehearsal of an open block of the source.

    Args:
        block: the source's.
        over: what the target has there; grants of its time never share a number with later ones.
    """
    return _as(State.COPY, _above(block, over))


def opened(block: Block, over: Block | None) -> Block:
    """Return the target's open block, made of the source's closed one."""
    return kept(evolve(_above(block, over), holder=_holder(block)))


def _above(block: Block, over: Block | None) -> Block:
    sequence = max(block.sequence, over.sequence if over else 0)
    return block if sequence == block.sequence else evolve(block, sequence=sequence)


# Joining: the target's domain is in use already, and blocks are merged into its open ones. The
# source's leases are put there one block ahead of its closing, with a tag, so that they can be
# told from the target's own until the source's block is closed.


def tag_of(source: str, part: str) -> str:
    """Return what the claims of a source's leases begin with while they are being joined.

    Args:
        source: identity of the store that they come from.
        part: what stands for their domain there in keys.
    """
    return f"{_TAG}{source}/{part}:"


def joined(
    block: Block, into: Block | None, tag: str
) -> tuple[Block, tuple[tuple[Lease, Lease], ...]]:
    """Return the target's block with the leases that the source's has now, tagged.

    Args:
        block: the source's.
        into: the target's; None for none.
        tag: of the source.

    Returns:
        The block, ``into`` itself if nothing differs, and the pairs of leases, the source's
        first, that two owners have on one address; those of the source are left out.
    """
    before: Mapping[int, Lease] = into.leases if into else {}
    leases = {
        offset: lease
        for offset, lease in before.items()
        if not lease.claim.startswith(tag) or _same_owner(lease, block.leases.get(offset))
    }
    # Above all numbers that either ever gave: a late release of then meets nothing.
    sequence = max(block.sequence, into.sequence if into else 0)
    conflicts = []
    for offset, lease in sorted(block.leases.items()):
        there = leases.get(offset)
        if there is None:
            sequence += 1
            leases[offset] = evolve(lease, claim=tag + lease.claim, sequence=sequence)
        elif not _same_owner(lease, there):
            conflicts.append((lease, there))
    if into is not None and leases == dict(before):
        return into, tuple(conflicts)
    freed = dict(into.freed) if into else {}
    for offset, when in block.freed.items():
        freed[offset] = max(when, freed.get(offset, when))
    freed = {offset: when for offset, when in freed.items() if offset not in leases}
    base = into or Block(domain=block.domain, version=block.version, index=block.index)
    return evolve(base, leases=leases, freed=freed, sequence=sequence), tuple(conflicts)


def settled(block: Block, tag: str) -> Block:
    """Return the target's block with the source's leases as its own; itself if it has none."""
    if not any(lease.claim.startswith(tag) for lease in block.leases.values()):
        return block
    leases = {
        offset: evolve(lease, claim=lease.claim.removeprefix(tag))
        if lease.claim.startswith(tag)
        else lease
        for offset, lease in block.leases.items()
    }
    return evolve(block, leases=leases)


def _same_owner(one: Lease, other: Lease | None) -> bool:
    if other is None:
        return False
    if one.owner.key == other.owner.key:
        return True
    uid = one.owner.pod_uid
    return bool(uid) and (uid, one.owner.ifname) == (other.owner.pod_uid, other.owner.ifname)


class Kind(enum.Enum):
    """What a mark says of a domain in the store that it is in.

    Attributes:
        HOME: nothing; the domain is here, if it is anywhere.
        FROM: it is being moved here; what is not here yet is there.
        TO: it is being moved there.
        JOIN: it is being moved there, where the domain is in use already.
        DONE: it was moved there.
    """

    HOME = "home"
    FROM = "from"
    TO = "to"
    JOIN = "join"
    DONE = "done"


@frozen(kw_only=True)
class Mark:
    """Where a domain is.

    Attributes:
        kind: what is said.
        store: identity of the other store.
        url: URL of the other store, without a password.
        domain: the domain's name in the other store.
    """

    kind: Kind = Kind.HOME
    store: str = ""
    url: str = ""
    domain: str = ""

    @property
    def leads_away(self) -> bool:
        """Whether blocks that are not in this store are in the other."""
        return self.kind in (Kind.TO, Kind.JOIN, Kind.DONE)


def part_of(key: str) -> str:
    """Return the part of a key that stands for its domain."""
    return key.partition("/")[0]


def mark_key(part: str) -> str:
    """Return where the mark of a domain is.

    Args:
        part: what ``part_of`` gives for the domain's keys.
    """
    return block_key(_MARKS + part, 4, 0)


def read_mark(block: Block | None) -> Mark:
    """Return the mark in a block.

    Raises:
        StoreError: there is none in it.
    """
    if block is None or not block.holder:
        return Mark()
    try:
        fields = json.loads(block.holder)
        return Mark(
            kind=Kind(fields["kind"]),
            store=str(fields["store"]),
            url=str(fields["url"]),
            domain=str(fields["domain"]),
        )
    except (ValueError, TypeError, KeyError):
        raise StoreError(f"block {block.key}: {block.holder!r} is no mark of a move") from None


def marked_part(block: Block) -> str:
    """Return the part of keys that a mark's block is about."""
    return block.domain.removeprefix(_MARKS)


def mark_block(part: str, mark: Mark, before: Block | None, sequence: int = 0) -> Block:
    """Return the block that holds a mark.

    Args:
        part: stands for its domain in keys.
        mark: what it says.
        before: what is there now; the sequence counts how often it changed.
        sequence: instead, if not 0.
    """
    fields = {
        "kind": mark.kind.value,
        "store": mark.store,
        "url": mark.url,
        "domain": mark.domain,
    }
    return Block(
        domain=_MARKS + part,
        version=4,
        index=0,
        sequence=sequence or (before.sequence if before else 0) + 1,
        holder=json.dumps(fields),
    )


def identity_block(name: str) -> Block:
    """Return the block by which a store says who it is."""
    return Block(domain=f"{RESERVED}store", version=4, index=0, holder=name)


def without_password(url: str) -> str:
    """Return a store's URL without ``//user:PASSWORD@host`` and ``?password=PASSWORD``."""
    url, mark, query = url.partition("?")
    kept = [each for each in query.split("&") if "password" not in each.partition("=")[0].lower()]
    ending = mark + "&".join(kept) if any(kept) else ""
    head, slashes, rest = url.partition("//")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if slashes and at:
        url = f"{head}//{user.partition(':')[0]}@{host}{slash}{path}"
    return url + ending


def wait_for(block: Block) -> Block:
    """Return a block that its holder is asked to give back."""
    return evolve(block, recalled=True)
