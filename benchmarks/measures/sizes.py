"""What a process that stays pays for each lease held, and what opening a large pool takes."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from podnet.engine.leases import open_ipam

from .blocks import fill
from .callers import allocate, median, owner, pool
from .cluster import Cluster
from .figures import Figure, grouped

if TYPE_CHECKING:
    from collections.abc import Iterator


def resident() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def memory_store(leases: int) -> dict[str, float]:
    """Fill a memory store; return bytes for each lease. In a process of its own."""
    with open_ipam("memory:", node="bench") as ipam:
        allocate(ipam, pool(), range(1 << 40, (1 << 40) + 600))
        before = resident()
        where = pool()
        for number in range(leases):
            ipam.allocate(where, owner(number), network="bench")
        return {"bytes": (resident() - before) / leases}


def handle(url: str, leases: int) -> dict[str, float]:
    """Open a store with leases, use it, and return seconds and bytes. In a process of its own."""
    with open_ipam("memory:") as ipam:  # modules that all stores need
        allocate(ipam, pool(), range(600))
    before = resident()
    begin = time.perf_counter()
    with open_ipam(url, node="bench") as ipam:
        ipam.allocate(pool(), owner(0), network="bench")
        opened = time.perf_counter() - begin
        # Indexes are built little by little, and mirrors in the background.
        early = allocate(ipam, pool(), range(1, 120))
        time.sleep(0.5)
        later = allocate(ipam, pool(), range(120, 140))
        used = resident() - before
    return {"opened": opened, "early": max(early), "later": median(later), "bytes": used / leases}


def _apart(call: str, *arguments: object) -> dict[str, float]:
    """Run a function of this module in a fresh interpreter."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = (
        f"import json, sys; sys.path.insert(0, {here!r}); from measures import sizes; "
        f"print(json.dumps(sizes.{call}(*json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory(leases: int) -> Iterator[Figure]:
    """Measure the memory of a held lease."""
    yield Figure(
        name=f"memory store with {grouped(leases)} leases",
        value=_apart("memory_store", leases)["bytes"],
        unit="bytes/lease",
        target=400,
        at_most=True,
    )


def handles(leases: int, folder: str) -> Iterator[Figure]:
    """Measure opening a pool with many leases, and the memory that it takes from then on."""
    place = tempfile.mkdtemp(prefix="podnet-bench-", dir=folder)
    try:
        for what, url in (("file", f"file:{place}/files"), ("SQLite", f"sqlite:{place}/leases.db")):
            _fill(url, leases)
            yield from _opened(f"{what} store", url, leases)
        with Cluster() as cluster:
            cluster.fill(leases)
            yield from _opened("CRD store", cluster.url, leases)
    finally:
        shutil.rmtree(place)


def _fill(url: str, leases: int) -> None:
    from podnet.engine import registry
    from podnet.stores.file import FileStore

    scheme, _, path = url.partition(":")
    store = FileStore(path, durable=False) if scheme == "file" else registry.open_store(url)
    fill(store, leases)
    store.close()


def _opened(what: str, url: str, leases: int) -> Iterator[Figure]:
    found = _apart("handle", url, leases)
    count = f"{grouped(leases)} leases"
    yield Figure(
        name=f"{what}, {count}: open and allocate",
        value=found["opened"],
        unit="s",
        target=5,
        at_most=True,
        note=f"then {1000 * found['early']:.0f} ms at most, and {1000 * found['later']:.1f} ms "
        "when all is known",
    )
    yield Figure(
        name=f"{what}, {count}: memory of its handle",
        value=found["bytes"],
        unit="bytes/lease",
        target=400,
        at_most=True,
    )
