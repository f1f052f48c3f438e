"""The names that the store and the settings tell of: a misspelt one is told, once nothing fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import NetworkNotFoundError

if TYPE_CHECKING:
    from podnet.cli.ipam_common import Opened

# More names than these help nobody who has misspelt one.
_SHOWN = 20


def require_known(here: Opened, **asked: str | None) -> None:
    """Refuse a name that is told of nowhere; the whole store is read for it.

    Args:
        here: the store and the settings.
        asked: ``domain``, ``pool``, ``network`` and ``node``; None and empty texts name nothing.

    Raises:
        NetworkNotFoundError: there is nothing of that name; the message has those that there are.
        StoreError: the store is broken.
    """
    asked = {kind: name for kind, name in asked.items() if name}
    known = names(here) if asked else {}
    for kind, name in asked.items():
        if name not in known[kind]:
            raise NetworkNotFoundError(f"no {kind} is called {name!r}", shown(known[kind]))


def names(here: Opened) -> dict[str, set[str]]:
    """Return the names of domains, pools, networks and nodes.

    Raises:
        StoreError: the store is broken.
    """
    from podnet.engine.usage_leases import read_block
    from podnet.engine.usage_pools import defined

    domains: set[str] = set()
    pools: set[str] = set()
    networks: set[str] = set()
    nodes = {here.settings.node}
    for pool, told in defined(here.house).pools:
        domains.add(pool.domain)
        pools.add(pool.name)
        networks |= {*told, *(name.rpartition("/")[2] for name in told)}
    for key in here.store.keys(""):
        block = read_block(here.store, key, [])
        if block is None:
            continue
        domains.add(block.domain)
        nodes.add(block.holder)
        for lease in block.leases.values():
            pools.add(lease.pool)
            networks.add(lease.network)
            nodes.add(lease.node)
    found = {"domain": domains, "pool": pools, "network": networks, "node": nodes}
    return {kind: each - {""} for kind, each in found.items()}


def shown(known: set[str]) -> str:
    """Tell which names there are."""
    if not known:
        return "none is known here"
    more = ", …" if len(known) > _SHOWN else ""
    return f"known are {', '.join(sorted(known)[:_SHOWN])}{more}"
