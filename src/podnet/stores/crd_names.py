"""Keys of blocks as names and labels of Kubernetes objects, and back.

A block's object is called after its domain and addresses, ``storage-192.168.60.0-23``. Names have
to be RFC 1123 subdomains of at most 253 characters; a key that cannot be told in one has an object
called ``key-`` and a digest, and stands in ``spec.key`` only.
"""

from __future__ import annotations

import re

from podnet.manifests.resources import LABEL_DOMAIN, LABEL_FAMILY, LABEL_HOLDER
from podnet.model.addresses import BITS, Address, Prefix
from podnet.model.block import BLOCK_BITS, Block, key_parts

_PLAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NAME_MOST = 253
_LABEL_MOST = 63
_DIGEST = "sha256-"


def object_name(key: str) -> str:
    """Return the name of the object that keeps a key's block; no two keys have the same."""
    parts = key_parts(key)
    if parts is not None:
        domain, version, index = parts
        name = f"{domain}-{_network_name(version, index)}"
        if _PLAIN.fullmatch(domain) and len(name) <= _NAME_MOST:
            return name
    # It has no dot, and the names above end in a network, which has some.
    return f"key-{_digest(key, 40)}"


def block_cidr(version: int, index: int) -> Prefix:
    """Return the addresses of a block."""
    return Prefix(Address(version, index << BLOCK_BITS), BITS[version] - BLOCK_BITS)


def _network_name(version: int, index: int) -> str:
    value, length = index << BLOCK_BITS, BITS[version] - BLOCK_BITS
    if version == 4:
        shown = ".".join(str(byte) for byte in value.to_bytes(4))
    else:
        # "::" and ":" cannot stand in names.
        shown = ".".join(f"{value >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))
    return f"{shown}-{length}"


def labels(key: str, block: Block) -> dict[str, str]:
    """Return the labels that a block is found by."""
    found = {LABEL_DOMAIN: domain_label(key), LABEL_FAMILY: str(block.version)}
    if block.holder:
        found[LABEL_HOLDER] = label_value(block.holder)
    return found


def domain_label(key: str) -> str:
    """Return the value of the label that tells the first part of a key: of blocks, the domain."""
    return label_value(key.partition("/")[0])


def label_value(text: str) -> str:
    """Return a text as a label's value; what none can be is replaced by a digest."""
    fits = len(text) <= _LABEL_MOST and _LABEL.fullmatch(text) and not text.startswith(_DIGEST)
    return text if fits else f"{_DIGEST}{_digest(text, 40)}"


def selector(prefix: str) -> str:
    """Return the label selector of the keys that start with a prefix; empty selects all."""
    return f"{LABEL_DOMAIN}={domain_label(prefix)}" if "/" in prefix else ""


def _digest(text: str, length: int) -> str:
    from hashlib import sha256

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
