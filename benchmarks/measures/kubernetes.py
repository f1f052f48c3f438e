"""The store in a cluster, on the emulator: requests for a lease, and whether that stays so."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

from podnet.engine import registry
from podnet.engine.leases import Ipam, open_ipam
from podnet.engine.owning import Owning
from podnet.model.block import BLOCK_SIZE

from .callers import allocate, median, pool
from .cluster import Cluster
from .figures import Figure, grouped

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLERS = 32


def shared(count: int) -> Iterator[Figure]:
    """Count what 32 callers of one node cost."""
    with Cluster() as cluster, open_ipam(cluster.url, node="bench") as ipam:
        allocate(ipam, pool(), [1 << 40])
        before = cluster.asked()
        begin = time.perf_counter()
        allocate(ipam, pool(), range(count), CALLERS)
        rate = count / (time.perf_counter() - begin)
        writes, reads = (after - then for after, then in zip(cluster.asked(), before, strict=True))
    yield Figure(
        name=f"CRD store, shared, {CALLERS} callers of a node",
        value=10 * writes / count,
        unit="writes/10 leases",
        target=1.1,
        at_most=True,
        counted=True,
        note=f"{rate:.0f} leases/s; {reads / count:.2f} reads a lease",
    )


def open_owning(url: str, folder: str, node: str = "bench") -> Ipam:
    """Return a node's ``Ipam`` that holds blocks."""
    local = registry.open_store(f"file:{os.path.join(folder, node)}")
    return Ipam(Owning(registry.open_store(url), local, node=node), node=node)


def owned(count: int, folder: str) -> Iterator[Figure]:
    """Count what a node costs that holds blocks, all it did told at the end."""
    place = tempfile.mkdtemp(prefix="podnet-bench-", dir=folder)
    try:
        with Cluster() as cluster:
            with open_owning(cluster.url, place) as ipam:
                begin = time.perf_counter()
                waits = allocate(ipam, pool("owned"), range(count), 16)
                rate = count / (time.perf_counter() - begin)
                reads = cluster.asked()[1]
            writes = cluster.asked()[0]  # with those of the close
    finally:
        shutil.rmtree(place)
    yield Figure(
        name="CRD store, owned, 16 callers of a node",
        value=writes / count,
        unit="writes/lease",
        target=1 / 200,
        at_most=True,
        counted=True,
        note=f"{rate:.0f} leases/s, p50 {1000 * median(waits):.1f} ms; "
        f"{reads / count:.2f} reads a lease",
    )


def flat(leases: int, rounds: int, folder: str) -> Iterator[Figure]:
    """Compare the time of a lease in a pool that begins empty and in one with many leases."""
    for mode in ("shared", "owned"):
        place = tempfile.mkdtemp(prefix="podnet-bench-", dir=folder)
        try:
            with Cluster() as empty, Cluster() as full:
                full.fill(leases)
                yield _flat(mode, leases, rounds, place, {"empty": empty.url, "full": full.url})
        finally:
            shutil.rmtree(place)


def _flat(mode: str, leases: int, rounds: int, place: str, urls: dict[str, str]) -> Figure:
    """Allocate in turns, a few blocks each, so that a neighbour's load strikes both alike."""
    ipams = {
        name: open_owning(url, place, name) if mode == "owned" else open_ipam(url, node=name)
        for name, url in urls.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in urls}
    turn = BLOCK_SIZE
    for ipam in ipams.values():  # what is done once: lists, mirrors
        allocate(ipam, pool(mode), range(1 << 40, (1 << 40) + 64), 16)
    for number in range(rounds):
        for name, ipam in ipams.items():
            begin = time.perf_counter()
            allocate(ipam, pool(mode), range(number * turn, (number + 1) * turn), 16)
            spent[name].append((time.perf_counter() - begin) / turn)
    for ipam in ipams.values():
        ipam.close()
    ratio = median([f / e for e, f in zip(spent["empty"], spent["full"], strict=True)])
    return Figure(
        name=f"CRD store, {mode}: with {grouped(leases)} leases, to empty",
        value=ratio,
        unit="times",
        target=1.2,
        at_most=True,
        note=f"{1000 * median(spent['empty']):.2f} ms and {1000 * median(spent['full']):.2f} ms "
        "a lease",
    )
