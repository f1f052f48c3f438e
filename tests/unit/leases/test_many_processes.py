"""Several processes on one file store: running together, and killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from podnet.engine.leases import Ipam
from podnet.errors import PoolExhaustedError
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.file import FileStore
from podnet.testing.together import in_processes

POOL = Pool("p", "10.0.0.0/21")


def test_16_processes_with_64_owners_each(tmp_path):
    folder = str(tmp_path / "leases")

    def child(number):
        ipam = Ipam(FileStore(folder, timeout=60), node=f"node-{number}", attempts=2000)
        mine = {}
        for n in range(64):
            owner = Owner(f"container-{number}-{n}", "eth1")
            mine[owner] = ipam.allocate(POOL, owner, network="net").ip
            if n % 4 == 3:  # some come and go, and come again
                ipam.release(owner, pool=POOL, hints=[mine[owner]])
                mine[owner] = ipam.allocate(POOL, owner, network="net").ip
        with open(tmp_path / f"told-{number}", "w") as file:
            json.dump({owner.container_id: str(ip) for owner, ip in mine.items()}, file)

    in_processes(16, child)
    told = {}
    for number in range(16):
        with open(tmp_path / f"told-{number}") as file:
            told.update(json.load(file))
    held = {x.owner.container_id: str(x.ip) for x in Ipam(FileStore(folder)).leases()}
    assert len(told) == 16 * 64
    assert len(set(told.values())) == 16 * 64, "an address was handed out twice"
    assert held == told, "a lease was lost"


def test_a_full_pool_is_shared_out_to_the_last_address(tmp_path):
    pool = Pool("p", "10.0.0.0/27")
    folder = str(tmp_path / "leases")

    def child(number):
        ipam = Ipam(FileStore(folder, timeout=60), attempts=2000)
        refused = 0
        for n in range(10):
            try:
                ipam.allocate(pool, Owner(f"container-{number}-{n}", "eth1"))
            except PoolExhaustedError:
                refused += 1
        with open(tmp_path / f"refused-{number}", "w") as file:
            file.write(str(refused))

    in_processes(4, child)
    refused = sum(int((tmp_path / f"refused-{n}").read_text()) for n in range(4))
    assert len(list(Ipam(FileStore(folder)).leases())) == 30
    assert refused == 40 - 30


WORKER = """
import itertools, random, sys
from podnet.engine.leases import Ipam
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.file import FileStore
folder, seed = sys.argv[1:]
ipam, chance = Ipam(FileStore(folder)), random.Random(seed)
pool = Pool("p", "10.0.0.0/21")
for n in itertools.count():
    owner = Owner(f"container-{seed}-{n}", "eth1")
    ip = ipam.allocate(pool, owner).ip
    print("+", owner.container_id, ip, flush=True)
    if chance.random() < 0.5:
        print("?", owner.container_id, ip, flush=True)
        ipam.release(owner, pool=pool)
        print("-", owner.container_id, ip, flush=True)
"""


def test_killed_at_any_moment(tmp_path):
    """What was told stays; what was not told may be held once; nothing is damaged."""
    folder = str(tmp_path / "leases")
    chance = random.Random(5)
    sure, maybe = {}, {}
    for turn in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, folder, str(turn)], stdout=subprocess.PIPE, text=True
        ) as worker:
            first = worker.stdout.readline()
            time.sleep(chance.random() * 0.04)
            worker.send_signal(signal.SIGKILL)
            for line in [first, *worker.stdout]:
                if line.endswith("\n"):
                    what, container, ip = line.split()
                    {"+": sure, "?": maybe, "-": {}}[what][container] = ip
                    if what != "+":
                        sure.pop(container, None)
                    if what == "-":
                        maybe.pop(container, None)
    # Only what the last line of a killed worker spoke of may be either way.
    ipam = Ipam(FileStore(folder))
    leases = list(ipam.leases())
    held = {x.owner.container_id: str(x.ip) for x in leases}
    assert len({x.ip for x in leases}) == len(leases)
    assert sure.items() <= held.items(), "a lease was lost"
    untold = held.keys() - sure.keys() - maybe.keys()
    assert len(untold) <= 12, "more leases than killed workers are held by nobody"
    assert sure, "the test killed too early to see anything"
    # DEL of everyone who ever was, and nothing is left.
    for lease in leases:
        ipam.release(lease.owner)
    assert list(ipam.leases()) == []
    ipam.allocate(POOL, Owner("after", "eth1"))


@pytest.mark.parametrize("step", ["fsync", "rename", "write", "unlink", "flock"])
def test_killed_at_each_call_of_a_swap(tmp_path, step):
    """A child that dies right before a system call of a swap leaves old or new, and no lock."""
    folder = str(tmp_path / "leases")
    ipam = Ipam(FileStore(folder))
    kept = ipam.allocate(POOL, Owner("kept", "eth1"))
    seen = set()
    for nth in range(4):

        def child(_number, nth=nth):
            calls = [0]
            module = __import__("fcntl") if step == "flock" else os
            right = getattr(module, step)

            def die(*args, **rest):
                if calls[0] == nth:
                    os._exit(0)
                calls[0] += 1
                return right(*args, **rest)

            setattr(module, step, die)
            Ipam(FileStore(folder)).allocate(POOL, Owner(f"child-{nth}", "eth1"))

        in_processes(1, child)
        held = {x.owner.container_id for x in Ipam(FileStore(folder, timeout=1)).leases()}
        assert "kept" in held
        seen.add(f"child-{nth}" in held)
    assert Ipam(FileStore(folder, timeout=1)).release(kept.owner) == (kept,)
    assert True in seen
