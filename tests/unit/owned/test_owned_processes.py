"""Nodes that are processes, over real stores: running together, killed, and coming again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from podnet.engine import registry
from podnet.engine.house import House
from podnet.engine.leases import Ipam, open_ipam
from podnet.engine.owning import Manner, Owning
from podnet.engine.owning_ipam import OwnedIpam, local_folder, two_tiers
from podnet.engine.settings import Settings
from podnet.errors import InvalidConfigError
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.testing.together import in_processes, in_threads

# Four blocks for three nodes, and no more addresses than needed.
POOL = Pool("p", "10.0.0.0/21", mode="owned")
EAGER = Manner(publish_every=0.3, look_every=0.02, idle_after=1.0, scarce_for=1.0)


def node_of(url, folder, name):
    store = two_tiers(registry.open_store(url), url, folder, node=name, resident=True, manner=EAGER)
    ipam = OwnedIpam(store, patience=60.0)
    ipam.in_background(0.02)
    return ipam


@pytest.fixture(params=["file", "sqlite"])
def url(request, tmp_path):
    if request.param == "sqlite":
        pytest.importorskip("sqlalchemy")
        return f"sqlite:///{tmp_path}/leases.db"
    return f"file:{tmp_path}/leases"


def test_nodes_share_out_a_pool(url, tmp_path):
    """Together they want more than their own blocks, so that they have to ask each other."""
    registry.open_store(url).close()

    def child(number):
        with node_of(url, str(tmp_path / f"node-{number}"), f"node-{number}") as ipam:
            told = {}
            for n in range(60):
                owner = Owner(f"c-{number}-{n}", "eth1")
                told[owner.container_id] = str(ipam.allocate(POOL, owner).ip)
                if n % 3 == 2:
                    ipam.release(owner, pool=POOL)
                    del told[owner.container_id]
            small = Pool("small", "10.9.0.0/24", mode="owned")
            for n in range(20):
                owner = Owner(f"s-{number}-{n}", "eth1")
                told[owner.container_id] = str(ipam.allocate(small, owner).ip)
            # Others ask until all have theirs.
            time.sleep(3)
            return told

    answers = in_processes(3, child)
    told = {container: ip for each in answers for container, ip in each.items()}
    assert len(told) == 3 * 60
    assert len(set(told.values())) == 3 * 60, "an address was handed out twice"
    store = registry.open_store(url)
    held = {x.owner.container_id: str(x.ip) for x in Ipam(store).leases()}
    store.close()
    assert held == told


WORKER = """
import itertools, random, sys
sys.path.insert(0, sys.argv[5])
from test_owned_processes import POOL, node_of
from podnet.model.lease import Owner
url, folder, name, turn = sys.argv[1:5]
ipam, chance = node_of(url, folder, name), random.Random(name + turn)
print("!", flush=True)
for n in itertools.count():
    owner = Owner(f"{name}-{turn}-{n}", "eth1")
    ip = ipam.allocate(POOL, owner).ip
    print("+", owner.container_id, ip, flush=True)
    if chance.random() < 0.8:
        print("?", owner.container_id, ip, flush=True)
        ipam.release(owner, pool=POOL)
        print("-", owner.container_id, ip, flush=True)
    if chance.random() < 0.02:
        ipam.drain()
"""


def test_nodes_are_killed_at_any_moment(url, tmp_path):
    """What was told stays; what was not told may be held once; nothing is held twice or lost."""
    registry.open_store(url).close()
    chance = random.Random(7)
    sure, maybe = {}, {}
    here = __file__.rpartition("/")[0]
    for turn in range(6):
        workers = []
        for number in range(3):
            name = f"node-{number}"
            folder = str(tmp_path / name)
            command = [sys.executable, "-c", WORKER, url, folder, name, str(turn), here]
            workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for worker in workers:
            assert worker.stdout.readline() == "!\n"
        for worker in workers:
            time.sleep(chance.random() * 0.3)
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            with worker:
                for line in worker.stdout:
                    if line.endswith("\n"):
                        _note(line.split(), sure, maybe)
    assert len(sure) > 20
    for number in range(3):
        with node_of(url, str(tmp_path / f"node-{number}"), f"node-{number}") as ipam:
            ipam.drain()
    store = registry.open_store(url)
    leases = list(Ipam(store).leases())
    assert {store.load(key)[0].holder for key in store.keys("")} == {""}
    store.close()
    held = {lease.owner.container_id: str(lease.ip) for lease in leases}
    assert len(set(held.values())) == len(leases), "an address is held twice"
    for container, ip in sure.items():
        assert held.get(container) == ip, f"{container} has lost {ip}"
    unknown = held.keys() - sure.keys() - maybe.keys()
    # Granted, and the node was killed before it said so: at most one for each kill.
    assert len(unknown) <= 18


def _note(words, sure, maybe):
    what, container, ip = words
    if what == "+":
        sure[container] = ip
    elif what == "?":
        maybe[container] = sure.pop(container)
    else:
        del maybe[container]


def test_threads_of_a_node_take_no_more_blocks_than_they_need(url, tmp_path):
    registry.open_store(url).close()
    with node_of(url, str(tmp_path / "own"), "a") as ipam:
        told = in_threads(
            8, lambda n: [ipam.allocate(POOL, Owner(f"c{n}-{m}", "eth1")).ip for m in range(20)]
        )
        assert len({ip for each in told for ip in each}) == 160
        ipam.publish()
        store = registry.open_store(url)
        assert [store.load(key)[0].holder for key in store.keys("")] == ["a"]
        store.close()


# How it is opened


def test_open_ipam_with_a_folder_of_the_node(tmp_path):
    url, folder = f"file:{tmp_path}/leases", str(tmp_path / "own")
    with open_ipam(url, node="a", local=folder) as ipam:
        lease = ipam.allocate(POOL, Owner("c1", "eth1"))
        assert registry.open_store(url).load("p/4/" + f"{lease.ip.value >> 9:06x}")[0].holder == "a"
    with open_ipam(url, node="a", local=folder, background=False) as ipam:
        assert ipam.allocate(POOL, Owner("c1", "eth1")).ip == lease.ip
        ipam.tick()
        assert ipam.trouble is None
        assert ipam.conflicts == ()


@pytest.mark.parametrize(
    ("url", "node", "what"),
    [
        ("memory:", "", "a node with a name"),
        ("host-local:/tmp/x", "a", "cannot be held"),
        ("whereabouts:", "a", "cannot be held"),
    ],
)
def test_what_cannot_be_owned_is_refused(url, node, what, tmp_path, monkeypatch):
    monkeypatch.setattr(
        registry, "open_store", lambda _url: registry.resolve(registry.STORES["memory"])("memory:")
    )
    with pytest.raises(InvalidConfigError, match=what):
        open_ipam(url, node=node, local=str(tmp_path))


def test_stores_of_two_urls_have_two_folders(tmp_path):
    assert local_folder("/x", "file:/a") != local_folder("/x", "file:/b")
    assert local_folder("/x", "file:/a").startswith("/x/")


def test_the_thread_survives_trouble(tmp_path):
    url = f"file:{tmp_path}/leases"
    with node_of(url, str(tmp_path / "own"), "a") as ipam:
        ipam.allocate(POOL, Owner("c1", "eth1"))
        ipam._owning.tick, right = _broken, ipam._owning.tick
        _until(lambda: ipam.trouble is not None)
        assert "by hand" in str(ipam.trouble)
        ipam._owning.tick = right
        _until(lambda: ipam.trouble is None)


def _broken():
    raise InvalidConfigError("broken by hand")


def _until(ready):
    for _ in range(500):
        if ready():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to be so")


# CNI


def settings(tmp_path, **options):
    return Settings(
        state_dir=str(tmp_path / "state"),
        store=f"file:{tmp_path}/leases",
        node="a",
        **options,
    )


def test_plugins_know_nothing_of_blocks_unless_the_node_holds_some(tmp_path):
    with House(settings(tmp_path, owned=True)) as house:
        assert not isinstance(house.store(), Owning)
        house.tick()


def test_a_process_that_stays_takes_blocks_and_plugins_use_them(tmp_path):
    owner = Owner("c1", "eth1")
    with House(settings(tmp_path, owned=True), resident=True) as agent:
        ipam = Ipam(agent.store(), node="a")
        lease = ipam.allocate(POOL, owner)
        agent.tick()
        with House(settings(tmp_path)) as plugin:
            assert isinstance(plugin.store(), Owning)
            short = Ipam(plugin.store(), node="a")
            assert short.holds(owner, POOL) == lease
            assert short.release(owner, pool=POOL) == (lease,)
            short.allocate(POOL, Owner("c2", "eth1"))
            assert len(list(Ipam(registry.open_store(plugin.settings.store)).leases())) == 0
        # It has told at its end.
        assert len(list(Ipam(registry.open_store(agent.settings.store)).leases())) == 1
        assert [x.owner.container_id for x in ipam.leases()] == ["c2"]
    with House(settings(tmp_path)) as plugin:
        # The agent has just gone and may be back in a moment.
        Ipam(plugin.store(), node="a").allocate(POOL, Owner("c3", "eth1"))
    assert _holders(tmp_path) == {"a"}


def test_what_an_agent_left_behind_is_given_back_after_a_while(tmp_path, monkeypatch):
    with House(settings(tmp_path, owned=True), resident=True) as agent:
        Ipam(agent.store(), node="a").allocate(POOL, Owner("c1", "eth1"))
        with House(settings(tmp_path)) as plugin:
            later = time.time() + 400.0
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda: later)
                Ipam(plugin.store(), node="a").allocate(POOL, Owner("c2", "eth1"))
                plugin.close()
        # It stays, whatever the time of its last sign.
        assert _holders(tmp_path) == {"a"}
    later = time.time() + 400.0
    monkeypatch.setattr(time, "time", lambda: later)
    with House(settings(tmp_path)) as plugin:
        Ipam(plugin.store(), node="a").allocate(POOL, Owner("c3", "eth1"))
    assert _holders(tmp_path) == {""}
    assert len(list(Ipam(registry.open_store(f"file:{tmp_path}/leases")).leases())) == 3


def _holders(tmp_path):
    store = registry.open_store(f"file:{tmp_path}/leases")
    return {store.load(key)[0].holder for key in store.keys("")}
