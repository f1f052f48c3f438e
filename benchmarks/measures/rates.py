"""Leases in a second."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

from podnet.engine.leases import open_ipam

from .callers import allocate, clients, median, p99, pool
from .figures import Figure, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def best(measure: Callable[[], float], target: float, rounds: int) -> float:
    """Return the best of some rounds; they end when the target is reached.

    Neighbours' load makes a round slower, and nothing makes it faster than it can be.
    """
    found = 0.0
    for _ in range(rounds):
        found = max(found, measure())
        if found >= target:
            break
    return found


def memory(count: int, rounds: int) -> Iterator[Figure]:
    """Measure the memory store, with one caller."""
    spent = [float("inf")]

    def once() -> float:
        with open_ipam("memory:", node="bench") as ipam:
            cpu, begin = time.process_time(), time.perf_counter()
            allocate(ipam, pool(network="10.0.0.0/16"), range(count))
            spent[0] = min(spent[0], time.process_time() - cpu)
            return count / (time.perf_counter() - begin)

    target = 20_000
    value = best(once, target, rounds)
    note = f"{grouped(count / spent[0])} in a second of the processor's"
    yield Figure(name="memory store, 1 thread", value=value, unit="/s", target=target, note=note)


def synchronised(folder: str, count: int = 40) -> float:
    """Return how many small writes to one file the disk takes in a second, one after the other."""
    with tempfile.TemporaryFile(dir=folder) as file:
        begin = time.perf_counter()
        for _ in range(count):
            os.write(file.fileno(), b"podnet\n" * 64)
            os.fsync(file.fileno())
        return count / (time.perf_counter() - begin)


def file(count: int, rounds: int, folder: str) -> Iterator[Figure]:
    """Measure the file store, every lease on the disk before it is told."""
    for threads, target in ((1, None), (16, 2000)):

        def once(threads: int = threads) -> float:
            place = tempfile.mkdtemp(prefix="podnet-bench-", dir=folder)
            try:
                with open_ipam(f"file:{place}", node="bench") as ipam:
                    begin = time.perf_counter()
                    allocate(ipam, pool(), range(count if threads > 1 else count // 8), threads)
                    spent = time.perf_counter() - begin
                return (count if threads > 1 else count // 8) / spent
            finally:
                shutil.rmtree(place)

        value = best(once, target or float("inf"), rounds if target else 1)
        name = f"file store, durable, {threads} thread{'s' * (threads > 1)}"
        note = f"the disk does {grouped(synchronised(folder))} synchronised writes/s now"
        yield Figure(name=name, value=value, unit="/s", target=target, note=note)


def sqlite(count: int, rounds: int, folder: str) -> Iterator[Figure]:
    """Measure SQLite."""
    for processes, threads, target in ((1, 8, None), (8, 1, 500)):
        place = tempfile.mkdtemp(prefix="podnet-bench-", dir=folder)
        try:
            yield _clients(
                "SQLite", f"sqlite:{place}/%s.db", count, processes, threads, target, rounds
            )
        finally:
            shutil.rmtree(place)


def postgresql(count: int, rounds: int, folder: str) -> Iterator[Figure]:
    """Measure PostgreSQL with 32 clients, in few processes and in many."""
    from .postgres import Postgres

    with Postgres(folder) as server:
        for processes in (1, 4, 32):
            target = 1000
            found: list[Figure] = []
            for _ in range(rounds):
                url = server.new_url()
                some = count if processes == 1 else count // 2 if processes == 4 else count // 4
                found.append(
                    _clients("PostgreSQL", url, some, processes, 32 // processes, target, 1)
                )
                if found[-1].reached:
                    break
            yield max(found, key=lambda figure: figure.value or 0.0)


def _clients(
    what: str, url: str, count: int, processes: int, threads: int, target: int | None, rounds: int
) -> Figure:
    best_rate, best_waits = 0.0, [0.0]
    for number in range(rounds):
        place = url % number if "%s" in url else url
        rate, waits = clients(place, pool(), count, processes, threads)
        if rate > best_rate:
            best_rate, best_waits = rate, waits
        if target is None or rate >= target:
            break
    return Figure(
        name=f"{what}, {processes} process{'es' * (processes > 1)} of {threads} "
        f"thread{'s' * (threads > 1)}",
        value=best_rate,
        unit="/s",
        target=target,
        note=f"p50 {1000 * median(best_waits):.1f}, p99 {1000 * p99(best_waits):.0f} ms",
    )


def load() -> str:
    """Return how busy the machine is."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())
