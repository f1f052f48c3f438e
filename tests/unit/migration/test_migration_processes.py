"""Real processes: allocators on both sides, and a mover that is killed again and again.

Each address that a process is given it writes down by making a file of its name, which fails if
somebody has the address: no clock and no log has to be trusted.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from podnet.engine.leases import Ipam
from podnet.engine.migration import Migration
from podnet.engine.migration_follow import follow
from podnet.engine.migration_ground import load_mark
from podnet.engine.registry import open_store
from podnet.ipam.migrate import Kind, State, state_of

WORKER = """
import os, random, sys, time
from podnet.engine.leases import Ipam
from podnet.engine.migration_follow import follow
from podnet.errors import PodnetError
from podnet.model.lease import Owner
from podnet.model.pool import Pool

url, name, claims, stop, seed, bounds = sys.argv[1:]
chance = random.Random(int(seed))
first, last = bounds.split("-")
pool = Pool("wide", "10.0.0.0/16", first=first, last=last, domain="lan")
held, count = {}, 0
while not os.path.exists(stop):
    # A new one each time, as a plugin's process has it.
    store = follow(url)
    ipam = Ipam(store, node=name)
    try:
        if held and chance.random() < 0.45:
            owner = chance.choice(sorted(held, key=str))
            os.unlink(os.path.join(claims, held.pop(owner)))
            gone = None
            while gone is None:
                try:
                    gone = ipam.release(owner, pool=pool)
                except PodnetError as error:
                    assert error.code in (11, 106), error
        else:
            pod = f"{name}-{count}"
            owner = Owner(pod, "net1", "default", pod, pod)
            count += 1
            if count == 15:
                open(f"{stop}.{name}", "w").close()
            while owner not in held:
                try:
                    ip = str(ipam.allocate(pool, owner, network="net").ip)
                except PodnetError as error:
                    if error.code == 100:
                        break
                    assert error.code in (11, 106), error
                    continue
                os.close(os.open(os.path.join(claims, ip), os.O_CREAT | os.O_EXCL))
                held[owner] = ip
    finally:
        store.close()
print(count, *(f"{o.container_id}={ip}" for o, ip in held.items()))
"""

MOVER = """
import os, signal, sys
from podnet.engine.migration import Migration
from podnet.engine.registry import open_store

old, new, merge, left = sys.argv[1], sys.argv[2], sys.argv[3] == "merge", int(sys.argv[4])

class Fatal:
    def __init__(self, store):
        self.store = store
        self.keys, self.close = store.keys, store.close

    def load(self, key):
        return self.store.load(key)

    def swap(self, key, new, expected):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        won = self.store.swap(key, new, expected)
        return won

stores = [Fatal(open_store(url)) for url in (old, new)]
done = Migration(*stores, source_url=old, target_url=new).run("lan", merge=merge)
sys.exit(0 if done.complete else 3)
"""


@pytest.fixture(autouse=True)
def _end_all():
    yield
    while RUNNING:
        with RUNNING.pop() as process:
            process.kill()


RUNNING = []


def python(code, *args):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    RUNNING.append(process)
    return process


def urls(kind, folder):
    return {"file": f"file:{folder}", "sqlite": f"sqlite:////{str(folder).lstrip('/')}.db"}[kind]


@pytest.mark.parametrize(
    ("old_kind", "new_kind", "merge"),
    [
        ("file", "file", False),
        ("file", "sqlite", False),
        ("sqlite", "file", False),
        ("file", "file", True),
    ],
)
def test_pods_come_and_go_while_the_mover_is_killed(tmp_path, old_kind, new_kind, merge):
    if "sqlite" in (old_kind, new_kind):
        pytest.importorskip("sqlalchemy")
    old, new = urls(old_kind, tmp_path / "old"), urls(new_kind, tmp_path / "new")
    claims, stop = tmp_path / "claims", tmp_path / "stop"
    claims.mkdir()
    low, high = "10.0.1.200-10.0.2.40", "10.0.2.41-10.0.2.140"

    def works(url, name, bounds):
        return python(WORKER, url, name, str(claims), str(stop), name, bounds)

    workers = [works(old, "1", low), works(old, "2", low)]
    if merge:  # its owners use the new store already
        workers.append(works(new, "3", high))
    wait_for([f"{stop}.{n + 1}" for n in range(len(workers))])
    for kills in itertools.count():
        mover = python(MOVER, old, new, "merge" if merge else "", str(1 + 2 * kills))
        _, error = mover.communicate(timeout=60)
        assert mover.returncode in (0, -signal.SIGKILL), error
        if len(workers) < 3 and has_begun(old, new):
            workers.append(works(new, "3", low))  # a node whose setting was changed too early
        if mover.returncode == 0:
            break
    assert kills > 2
    wait_for([f"{stop}.{n + 1}" for n in range(3)])
    stop.touch()
    told = {}
    for worker in workers:
        out, error = worker.communicate(timeout=60)
        assert worker.returncode == 0, error
        told.update(pair.split("=") for pair in out.split()[1:])
    assert_all_is_there(old, new, told)
    assert sorted(os.listdir(claims)) == sorted(told.values())


def wait_for(paths):
    deadline = time.monotonic() + 60
    while not all(map(os.path.exists, paths)):
        assert time.monotonic() < deadline, paths
        time.sleep(0.05)


def has_begun(old, new):
    stores = [open_store(url) for url in (old, new)]
    try:
        return any(load_mark(store, "lan")[0].kind is not Kind.HOME for store in stores)
    finally:
        for store in stores:
            store.close()


def assert_all_is_there(old, new, told):
    source, target = open_store(old), open_store(new)
    try:
        assert Migration(source, target, source_url=old, target_url=new).run("lan").complete
        left = [k for k in source.keys("lan/") if state_of(source.load(k)[0]) is not State.GONE]
        assert left == []
    finally:
        source.close()
        target.close()
    for url in (old, new):
        with Ipam(follow(url)) as ipam:
            found = {lease.owner.container_id: str(lease.ip) for lease in ipam.leases("lan")}
        assert found == told
