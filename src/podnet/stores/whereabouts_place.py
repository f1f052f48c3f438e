"""Where the block of a key is: in one of whereabouts' pools, or in an IPPool of its own."""

from __future__ import annotations

from hashlib import sha256

from attrs import frozen

from podnet.ipam.whereabouts import PoolRef, pool_of_domain
from podnet.model.block import block_key, key_parts
from podnet.stores.whereabouts_pool import PREFIX

FIRST_PART = PREFIX + "first-part"
"""Label: a digest of the part of a key before its first slash; of blocks, that is the domain."""


@frozen
class Place:
    """Where a key's block is.

    Attributes:
        key: the key.
        name: of the IPPool.
        ref: which of whereabouts' pools; None for a pool that is this block's alone.
        domain: of the block; empty if the key does not tell it.
        index: of the block, if it is in one of whereabouts' pools.
    """

    key: str
    name: str
    ref: PoolRef | None
    domain: str = ""
    index: int = 0


def place_of(key: str) -> Place:
    """Return where a key's block is."""
    parts = key_parts(key)
    ref = None if parts is None else pool_of_domain(parts[0])
    if parts is not None and ref is not None and ref.network.version == parts[1]:
        return Place(key, ref.name, ref, ref.domain, parts[2])
    # No network's name can begin like this and go on with a range.
    digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return Place(key, f"podnet-{digest[:40]}", None, parts[0] if parts else "")


def ref_of_prefix(prefix: str) -> PoolRef | None:
    """Return the pool of whereabouts' that all keys under a prefix are of, or None."""
    head, slash, _ = prefix.partition("/")
    parts = key_parts(block_key("x", 4, 0).replace("x", head, 1)) if slash else None
    return None if parts is None else pool_of_domain(parts[0])


def first_part(key: str) -> str:
    """Return the value of the label for a key, or a prefix with a slash."""
    return sha256(key.partition("/")[0].encode("utf-8", "surrogatepass")).hexdigest()[:40]
