"""Those who ask for addresses: threads and processes that call ``allocate`` as fast as they can."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING

from podnet.engine.leases import Ipam, open_ipam
from podnet.model.lease import Owner
from podnet.model.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

_LONGEST = 600.0
# Calls of each process before the time counts: statements are compiled, connections opened.
_WARM = 16


def owner(number: int) -> Owner:
    """Return an owner as a runtime names them."""
    return Owner(f"{number:064x}", "eth1", "default", f"pod-{number}", f"uid-{number}")


def pool(mode: str = "shared", network: str = "10.0.0.0/12") -> Pool:
    """Return the pool that all benchmarks take from."""
    return Pool("bench", network, mode=mode)


def allocate(ipam: Ipam, where: Pool, numbers: Iterable[int], threads: int = 1) -> list[float]:
    """Have threads allocate an address for each number; return how long each call took."""
    waits: list[float] = []
    owners = [owner(number) for number in numbers]
    errors: list[BaseException] = []

    def call(mine: list[Owner]) -> None:
        try:
            for each in mine:
                begin = time.perf_counter()
                ipam.allocate(where, each, network="bench")
                waits.append(time.perf_counter() - begin)
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=call, args=(owners[n::threads],)) for n in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if errors:
        raise errors[0]
    return waits


def _client(
    url: str, where: Pool, numbers: range, threads: int, ready: Barrier, told: Queue[object]
) -> None:
    try:
        with open_ipam(url, node=f"node-{numbers.start}") as ipam:
            first = 1 << 40 | numbers.start << 8
            allocate(ipam, where, range(first, first + _WARM), min(threads, _WARM))
            ready.wait(_LONGEST)
            waits = allocate(ipam, where, numbers, threads)
            told.put((time.time(), waits))
    except BaseException as error:
        ready.abort()
        told.put(f"{type(error).__name__}: {error}")
        raise


def clients(
    url: str, where: Pool, count: int, processes: int, threads: int
) -> tuple[float, list[float]]:
    """Have processes with threads allocate ``count`` addresses; each has opened the store before.

    Returns:
        Addresses in a second, all together, and how long each call took.
    """
    context = multiprocessing.get_context("spawn")
    ready: Barrier = context.Barrier(processes + 1)
    told: Queue[object] = context.Queue()
    part = count // processes
    running = [
        context.Process(
            target=_client,
            args=(url, where, range(n * part, (n + 1) * part), threads, ready, told),
        )
        for n in range(processes)
    ]
    for each in running:
        each.start()
    try:
        ready.wait(_LONGEST)
    except threading.BrokenBarrierError:
        raise RuntimeError(f"a client failed: {told.get(timeout=5)}") from None
    begin = time.time()
    found = [told.get(timeout=_LONGEST) for _ in running]
    for each in running:
        each.join()
    waits: list[float] = []
    end = begin
    for one in found:
        if not isinstance(one, tuple):
            raise RuntimeError(f"a client failed: {one}")
        end = max(end, one[0])
        waits += one[1]
    return len(waits) / (end - begin), waits


def median(values: list[float]) -> float:
    """Return the middle one."""
    return sorted(values)[len(values) // 2]


def p99(values: list[float]) -> float:
    """Return what 1 of 100 is above."""
    return sorted(values)[int(len(values) * 0.99)]
