"""podnet and an independent model of whereabouts hand out of the same pools at the same time."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
from whereabouts_model import (
    Api,
    Conf,
    IPPool,
    Range,
    Timing,
    Whereabouts,
    WhereaboutsError,
    normalized_range,
    reconcile,
)

from podnet.cluster.door import Cluster
from podnet.engine.leases import Ipam
from podnet.errors import PoolExhaustedError
from podnet.ipam.whereabouts import PoolRef
from podnet.model.addresses import parse_prefix
from podnet.model.lease import Owner
from podnet.model.pool import INNER, SHARED, Pool
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing.kube.emulator import Emulator

NAMESPACE = "kube-system"
POOLS = "ippools.whereabouts.cni.cncf.io"
RESERVATIONS = "overlappingrangeipreservations.whereabouts.cni.cncf.io"
OPERATIONS = 10_000 if os.environ.get("PODNET_TEST_LONG") else 500
# whereabouts polls twice a second; tests have no time for that.
QUICK = Timing(lease=10.0, renew=8.0, retry=0.02, request=30.0)


@pytest.fixture
def kube():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def kubeconfig(kube, tmp_path):
    return kube.kubeconfig(str(tmp_path), namespace=NAMESPACE)


@pytest.fixture
def api(kube):
    api = Api(kube.url, NAMESPACE)
    yield api
    api.close()


def pool_of(cidr, *, network_name="", unique=True, last=None):
    network = parse_prefix(cidr)
    ref = PoolRef(network=network, network_name=network_name, unique=unique)
    return Pool(cidr, cidr, last=last, domain=ref.domain, edges=INNER, picker="lowest", mode=SHARED)


def conf_of(*pools, network_name="", overlapping=True):
    ranges = tuple(Range(str(pool.network), end=str(pool.last or "")) for pool in pools)
    return Conf(ranges, network_name, overlapping)


class Truth:
    """Who has which address, as told to those who asked."""

    def __init__(self):
        self.lock = threading.Lock()
        self.held = {}
        self.by = {"podnet": 0, "whereabouts": 0, "exhausted": 0}

    def take(self, ip, owner, who):
        with self.lock:
            assert ip not in self.held, f"{ip} is {self.held[ip]}'s and was given to {owner}"
            self.held[ip] = owner
            self.by[who] += 1

    def give(self, ip, owner):
        with self.lock:
            assert self.held.pop(ip) == owner


class Worker:
    """Pods that come and go on one node."""

    def __init__(self, name, truth, pools, most):
        self.name, self.truth, self.pools, self.most = name, truth, pools, most
        self.random = random.Random(name)
        self.mine = []
        self.count = 0

    def work(self, steps):
        for _ in range(steps):
            if self.mine and (len(self.mine) >= self.most or self.random.random() < 0.45):
                self.end(self.random.randrange(len(self.mine)))
            else:
                self.start()

    def start(self):
        self.count += 1
        pool, pod = self.random.choice(self.pools), f"{self.name}-{self.count}"
        try:
            ip = self.add(pool, f"c-{pod}", pod)
        except (PoolExhaustedError, WhereaboutsError) as error:
            if isinstance(error, WhereaboutsError):
                assert "Could not allocate" in str(error), error
            with self.truth.lock:
                self.truth.by["exhausted"] += 1
            return
        self.truth.take(ip, pod, type(self).__name__.lower())
        self.mine.append((pool, pod, ip))
        if self.random.random() < 0.1:
            assert self.add(pool, f"c-{pod}", pod) == ip

    def end(self, number=0):
        pool, pod, ip = self.mine.pop(number)
        self.truth.give(ip, pod)
        self.remove(pool, f"c-{pod}", pod, ip)

    def close(self):
        pass


class Podnet(Worker):
    def __init__(self, kubeconfig, *args):
        super().__init__(*args)
        self.ipam = Ipam(WhereaboutsStore(Cluster(kubeconfig)), node=self.name, attempts=2000)

    def owner(self, container, pod):
        return Owner(container, "net1", "ns", pod, f"uid-{pod}")

    def close(self):
        self.ipam.close()

    def add(self, pool, container, pod):
        return str(self.ipam.allocate(pool, self.owner(container, pod), network="net").ip)

    def remove(self, pool, container, pod, ip):
        gone = self.ipam.release(self.owner(container, pod), pool=pool)
        assert [str(lease.ip) for lease in gone] == [ip]


class WhereaboutsNode(Worker):
    def __init__(self, api, *args, network_name="", overlapping=True):
        super().__init__(*args)
        self.plugin = Whereabouts(api, QUICK)
        self.network_name, self.overlapping = network_name, overlapping

    def conf(self, pool):
        return conf_of(pool, network_name=self.network_name, overlapping=self.overlapping)

    def add(self, pool, container, pod):
        return self.plugin.add(self.conf(pool), container, f"ns/{pod}", "net1")[0]

    def remove(self, pool, container, pod, ip):
        assert self.plugin.delete(self.conf(pool), container, f"ns/{pod}", "net1") is None


WhereaboutsNode.__name__ = "Whereabouts"


def in_parallel(actions):
    failures = []

    def run(action):
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def seen_by_podnet(kubeconfig, pools):
    with Ipam(WhereaboutsStore(Cluster(kubeconfig))) as ipam:
        return {
            str(lease.ip): lease.owner.pod_name
            for domain in {pool.domain for pool in pools}
            for lease in ipam.leases(domain)
        }


def seen_by_whereabouts(api, pools, network_name=""):
    found = {}
    for cidr in {str(pool.network) for pool in pools}:
        name = "-".join(filter(None, (network_name, normalized_range(cidr))))
        pool = IPPool(api, api("GET", api.path("ippools", name)))
        found |= {str(each.ip): each.podref.partition("/")[2] for each in pool.reservations()}
    return found


def reserved(kube):
    objects = kube.objects(RESERVATIONS)
    return {each["metadata"]["name"]: each["spec"]["podref"] for each in objects}


WIDE = pool_of("10.0.0.0/24", last="10.0.0.18")
NARROW = pool_of("10.0.0.0/28")
APART = pool_of("10.0.0.0/24", last="10.0.0.18", unique=False)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("pools", "overlapping"),
    [((WIDE,), True), ((WIDE, NARROW), True), ((APART,), False)],
    ids=["one-pool", "two-overlapping-pools", "without-reservations"],
)
def test_they_share_pools(kube, kubeconfig, api, pools, overlapping):
    """No address is held twice, both see all leases, and at the end nothing is left."""
    truth = Truth()
    workers = [Podnet(kubeconfig, f"p{n}", truth, pools, 5) for n in range(2)]
    workers += [
        WhereaboutsNode(api, f"w{n}", truth, pools, 5, overlapping=overlapping) for n in range(2)
    ]
    rounds = max(2, OPERATIONS // 500)
    for _ in range(rounds):
        in_parallel([lambda w=w: w.work(OPERATIONS // 4 // rounds) for w in workers])
        assert seen_by_podnet(kubeconfig, pools) == truth.held
        assert seen_by_whereabouts(api, pools) == truth.held
        if overlapping:
            assert reserved(kube) == {ip: f"ns/{pod}" for ip, pod in truth.held.items()}
    assert truth.by["podnet"] > OPERATIONS // 10
    assert truth.by["whereabouts"] > OPERATIONS // 10
    print(truth.by, dict(writes=kube.writes, requests=kube.count()))
    # Each takes turns with the other in ending what the other began.
    for worker in workers:
        other = workers[(workers.index(worker) + 2) % 4]
        for pool, pod, ip in worker.mine:
            other.remove(pool, f"c-{pod}", pod, ip)
    assert all(not each["spec"]["allocations"] for each in kube.objects(POOLS))
    assert reserved(kube) == {}
    for worker in workers:
        worker.close()
    for lease in kube.objects("leases.coordination.k8s.io"):
        assert not lease["spec"]["holderIdentity"]
