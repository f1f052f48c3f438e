"""podnet and an independent model of whereabouts hand out of the same pools at the same time."""

from __future__ import annotations

import json
import os
import random
import threading
import time

import pytest
from whereabouts_model import (
    STATUS,
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
            if isinstance(error, WhereaboutsError) and "Could not allocate" not in str(error):
                raise
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
    print(truth.by, {"writes": kube.writes, "requests": kube.count()})
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


# --- the nightly reconciler


def start_pod(kube, pod, ips):
    status = [{"name": "net", "interface": "net1", "ips": ips}]
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod,
                "namespace": "ns",
                "annotations": {STATUS: json.dumps(status)},
            },
        }
    )


@pytest.fixture
def days(kubeconfig, monkeypatch):
    """Handles of podnet, each for a later time, with a moment's patience for dead holders."""
    opened = []

    def open_at(seconds):
        store = WhereaboutsStore(Cluster(kubeconfig), clock=lambda: time.time() + seconds)
        opened.append(Ipam(store, node="node-1"))
        return opened[-1]

    yield open_at
    for ipam in opened:
        ipam.close()


@pytest.mark.parametrize("cidr", ["10.0.0.0/24", "fd00::/64"])
def test_nights_of_a_named_network(kube, api, days, cidr):
    """Each night whereabouts deletes the reservations of living pods; nobody's address is lost."""
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    pool = pool_of(cidr, network_name="red")
    conf, plugin = conf_of(pool, network_name="red"), Whereabouts(api, QUICK)
    truth = {}
    for night in range(3):
        ipam = days(night * 86400)
        for n in range(4):
            pod = f"p{night}-{n}"
            if n % 2:
                (ip,) = plugin.add(conf, f"c-{pod}", f"ns/{pod}", "net1")
            else:
                owner = Owner(f"c-{pod}", "net1", "ns", pod, f"uid-{pod}")
                ip = str(ipam.allocate(pool, owner, network="net").ip)
            assert ip not in truth.values()
            truth[pod] = ip
            start_pod(kube, pod, [ip])
        if night:
            # Yesterday's were gone until podnet's first ADD of today.
            assert len(reserved(kube)) == len(truth)
        reconcile(api, pause=0)
        assert reserved(kube) == {}
        assert {str(lease.ip) for lease in ipam.leases(pool)} == set(truth.values())


def test_a_night_with_dead_pods(kube, api, days):
    """Of both, what belongs to living pods stays, and the rest goes; claims stay."""
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    ipam, plugin = days(0), Whereabouts(api, QUICK)
    pool, conf = WIDE, conf_of(WIDE)
    ips = {}
    for n in range(6):
        if n % 2:
            (ips[n],) = plugin.add(conf, f"c{n}", f"ns/p{n}", "net1")
        else:
            owner = Owner(f"c{n}", "net1", "ns", f"p{n}", f"uid-{n}")
            ips[n] = str(ipam.allocate(pool, owner).ip)
        if n < 4:
            start_pod(kube, f"p{n}", [ips[n]])
    claimed = Owner("claim:ns/db", "net1", "ns")
    ips["claim"] = str(ipam.allocate(pool, claimed, claim="ns/db").ip)
    reconcile(api, pause=0)
    left = {ips[n] for n in (0, 1, 2, 3, "claim")}
    assert {str(lease.ip) for lease in ipam.leases(pool)} == left
    assert set(reserved(kube)) == left - {ips["claim"]}
    # Addresses of the dead are free for both, at once.
    assert plugin.add(conf, "c7", "ns/p7", "net1") == [ips[4]]
    later = days(601)
    assert str(later.allocate(pool, Owner("c8", "net1", "ns", "p8")).ip) == ips[5]
    assert ips["claim"] in reserved(kube)
    assert [str(lease.ip) for lease in later.release(claimed, pool=pool)] == [ips["claim"]]


def test_whereabouts_is_not_wedged_by_what_podnet_left(kube, api, days):
    """A pod that podnet served is served by whereabouts next, and the other way round."""
    ipam, plugin = days(0), Whereabouts(api, QUICK)
    web = Owner("c1", "net1", "ns", "web-0", "uid-1")
    first = str(ipam.allocate(WIDE, web).ip)
    # The StatefulSet's next pod, of the same name, on a node with whereabouts.
    assert plugin.add(conf_of(WIDE), "c2", "ns/web-0", "net1") == [first]
    assert ipam.release(web, pool=WIDE) == ()
    # podnet on the node of that very container, after whereabouts was replaced.
    taken = ipam.allocate(WIDE, Owner("c2", "net1", "ns", "web-0", "uid-2"), network="net")
    assert str(taken.ip) == first
    assert [str(lease.ip) for lease in ipam.release(taken.owner, pool=WIDE)] == [first]
    assert reserved(kube) == {}


def test_a_wedge_of_whereabouts_own_is_undone(kube, api, days):
    """wb-seq-015, and issue 409: the other pod is gone for good."""
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    plugin = Whereabouts(api, QUICK)
    (ip,) = plugin.add(conf_of(WIDE), "c1", "ns/p", "net1")
    (one,) = kube.objects(RESERVATIONS)
    one["spec"]["podref"] = "ns/q"
    kube.replace(one)
    wedged = Whereabouts(api, Timing(retry=0.02, request=0.3))
    with pytest.raises(WhereaboutsError):
        wedged.add(conf_of(WIDE), "c2", "ns/p", "net1")
    assert days(0)._store.mend(WIDE.domain)
    assert plugin.add(conf_of(WIDE), "c2", "ns/p", "net1") == [ip]
