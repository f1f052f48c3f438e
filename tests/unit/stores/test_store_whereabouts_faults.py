"""Lost replies, killed processes and others who are faster, in whereabouts' objects."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from attrs import evolve

from podnet.cluster.answers import UnknownOutcomeError, UnreachableError
from podnet.cluster.door import Cluster
from podnet.engine.leases import Ipam
from podnet.errors import PodnetError, StoreError, TryAgainLaterError
from podnet.ipam.whereabouts import PoolRef
from podnet.model.addresses import Address, parse_prefix
from podnet.model.block import BLOCK_BITS, Block, block_key
from podnet.model.lease import Lease, Owner
from podnet.model.pool import INNER, SHARED, Pool
from podnet.stores import whereabouts_lease
from podnet.stores.whereabouts import open as open_by_url
from podnet.stores.whereabouts_rivals import Rivals
from podnet.stores.whereabouts_store import WhereaboutsStore
from podnet.testing.kube.emulator import Drop, Emulator, Refuse, Throttle

NAMESPACE = "kube-system"
POOLS = "ippools.whereabouts.cni.cncf.io"
RESERVATIONS = "overlappingrangeipreservations.whereabouts.cni.cncf.io"
LEASE = "leases.coordination.k8s.io"
WEB = Owner("c-web", "net1", "ns", "web", "uid-web")
DB = Owner("c-db", "net1", "ns", "db", "uid-db")
REF = PoolRef(network=parse_prefix("10.0.0.0/24"))
POOL = Pool(
    "10.0.0.0/24", "10.0.0.0/24", domain=REF.domain, edges=INNER, picker="lowest", mode=SHARED
)
NATIVE = Pool("native", "10.3.0.0/24", picker="lowest")
KEY = block_key(REF.domain, 4, 0x0A000000 >> BLOCK_BITS)


@pytest.fixture
def kube():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def kubeconfig(kube, tmp_path):
    return kube.kubeconfig(str(tmp_path), namespace=NAMESPACE)


@pytest.fixture
def open_store(kubeconfig, monkeypatch):
    # A killed holder is waited for.
    monkeypatch.setattr(whereabouts_lease, "DURATION", 1)
    monkeypatch.setattr(whereabouts_lease, "_MARGIN", 0.0)
    stores = []

    def open_one(wrap=lambda cluster: cluster, **options):
        stores.append(WhereaboutsStore(wrap(Cluster(kubeconfig)), **options))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def held(kube):
    return {
        key: entry["podref"]
        for pool in kube.objects(POOLS)
        for key, entry in pool["spec"]["allocations"].items()
    }


def reserved(kube):
    return {x["metadata"]["name"]: x["spec"]["podref"] for x in kube.objects(RESERVATIONS)}


def reserve(kube, name, podref):
    """Reserve an address as whereabouts does."""
    kube.create(
        {
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "OverlappingRangeIPReservation",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"podref": podref, "ifname": "net1"},
        }
    )


WRITES = [
    ("create", POOLS),
    ("patch", POOLS),
    ("create", RESERVATIONS),
    ("delete", RESERVATIONS),
    ("create", LEASE),
    ("update", LEASE),
]


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-applied"])
@pytest.mark.parametrize(("verb", "resource"), WRITES)
def test_a_lost_reply_changes_nothing_for_the_caller(kube, open_store, verb, resource, applied):
    ipam = Ipam(open_store())
    kube.fail(Drop(applied=applied), verb=verb, resource=resource)
    assert str(ipam.allocate(POOL, WEB).ip) == "10.0.0.1"
    assert str(ipam.allocate(POOL, DB).ip) == "10.0.0.2"
    assert held(kube) == {"1": "ns/web", "2": "ns/db"}
    assert reserved(kube) == {"10.0.0.1": "ns/web", "10.0.0.2": "ns/db"}
    assert [lease.owner for lease in ipam.release(WEB, pool=POOL)] == [WEB]
    ipam.release(DB, pool=POOL)
    assert held(kube) == {}
    assert reserved(kube) == {}


def only(*owners):
    """The first block, with addresses from .1 on for some owners."""
    index = 0x0A000000 >> BLOCK_BITS
    leases = {
        n: Lease(domain=REF.domain, pool="p", ip=Address(4, 0x0A000000 + n), length=24, owner=owner)
        for n, owner in enumerate(owners, 1)
    }
    return Block(domain=REF.domain, version=4, index=index, leases=leases, sequence=len(leases))


@pytest.mark.parametrize(
    ("verb", "resource"), [("create", LEASE), ("create", POOLS), ("create", RESERVATIONS)]
)
def test_writes_that_fail_at_once_end_and_are_not_repeated_without_a_pause(
    kube, open_store, verb, resource
):
    rule = kube.fail(Refuse(500), verb=verb, resource=resource, times=None)
    store = open_store(timeout=1, patience=1)
    start = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.swap(KEY, only(WEB), None)
    assert caught.value.code == 11
    assert time.monotonic() - start < 4
    assert rule.struck < 12


@pytest.mark.parametrize("domain", [REF.domain, "native"])
def test_a_namespace_that_does_not_exist_is_told(kube, tmp_path, domain):
    path = kube.kubeconfig(str(tmp_path), namespace="nowhere")
    store = WhereaboutsStore(Cluster(path))
    block = Block(domain=domain, version=4, index=0x0A000000 >> BLOCK_BITS)
    lease = evolve(only(WEB).leases[1], domain=domain)
    start = time.monotonic()
    with pytest.raises(StoreError, match='"nowhere" not found'):
        store.swap(block.key, evolve(block, leases={1: lease}), None)
    assert time.monotonic() - start < 1
    store.close()


def test_threads_wait_for_others_at_the_same_time(kube, open_store):
    kube.create(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "whereabouts", "namespace": NAMESPACE},
            "spec": {"holderIdentity": "ns/other", "leaseDurationSeconds": 600},
        }
    )
    store, took = open_store(patience=0.5), []

    def work():
        start = time.monotonic()
        with pytest.raises(TryAgainLaterError):
            store.swap(KEY, only(WEB), None)
        took.append(time.monotonic() - start)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 5
    assert max(took) < 1.2


def test_one_request_ends_before_the_lease_has_run_out(kubeconfig):
    store = open_by_url(f"whereabouts:{kubeconfig}?timeout=60")
    most = store._cluster._timeout
    assert 2 * most < whereabouts_lease.DURATION, "a renewal, and the write after it"
    store.close()


class TestRenewals:
    @pytest.fixture
    def leader(self, kubeconfig):
        cluster = Cluster(kubeconfig)
        yield whereabouts_lease.Leader(cluster, NAMESPACE, "whereabouts")
        cluster.close()

    @pytest.fixture(autouse=True)
    def _always(self, monkeypatch):
        monkeypatch.setattr(whereabouts_lease, "_RENEW_AFTER", -1.0)
        monkeypatch.setattr(whereabouts_lease, "_RENEW_MOST", 0.5)

    def holder(self, kube):
        (lease,) = kube.objects(LEASE)
        return lease["spec"]["holderIdentity"]

    @pytest.mark.parametrize("applied", [True, False])
    def test_lost_replies_take_nothing_away(self, kube, leader, applied):
        with leader.leading(1) as held:
            kube.fail(Drop(applied=applied), verb="update", resource=LEASE, times=3)
            held.keep()
            kube.heal()
            assert self.holder(kube) == held.identity
        assert self.holder(kube) == ""

    def test_no_reply_at_all_is_told_as_such(self, kube, leader):
        with leader.leading(1) as held:
            kube.fail(Drop(applied=False), verb="update", resource=LEASE, times=None)
            with pytest.raises(UnreachableError, match="cannot renew"):
                held.keep()
            kube.heal()
        assert self.holder(kube) == ""

    def test_a_lost_reply_to_giving_it_up(self, kube, leader):
        for applied in (True, False):
            with leader.leading(1):
                kube.fail(Drop(applied=applied), verb="update", resource=LEASE)
            assert self.holder(kube) == ""

    def test_another_holder_is_told(self, kube, leader):
        with leader.leading(1) as held:
            (lease,) = kube.objects(LEASE)
            lease["spec"]["holderIdentity"] = "ns/other"
            kube.replace(lease)
            with pytest.raises(whereabouts_lease.LeaseLostError):
                held.keep()
        assert self.holder(kube) == "ns/other"


def test_a_write_that_may_still_be_done_is_not_said_to_be_lost(kube, open_store):
    """Its reply is lost, and then it turns out that the address is reserved."""
    store = open_store()
    assert store.swap(KEY, only(WEB), None)
    _, version = store.load(KEY)
    patch, stuck = store._cluster.patch, []

    def stick(*args, **options):
        if stuck:
            return patch(*args, **options)
        stuck.append((args, options))
        reserve(kube, "10.0.0.2", "ns/q")
        raise UnknownOutcomeError("no reply")

    store._cluster.patch = stick
    with pytest.raises(UnknownOutcomeError, match="may still be carried out"):
        store.swap(KEY, only(WEB, DB), version)
    args, options = stuck[0]
    patch(*args, **options)
    assert held(kube) == {"1": "ns/web", "2": "ns/db"}


def test_a_reservation_whose_reply_was_lost_is_taken_back(kube, open_store, monkeypatch):
    store = open_store()
    reserving = Rivals.reserve

    def late(self, *args):
        reserve(kube, "10.0.0.2", "ns/q")
        return reserving(self, *args)

    monkeypatch.setattr(Rivals, "reserve", late)
    kube.fail(Drop(applied=True), verb="create", resource=RESERVATIONS)
    assert store.swap(KEY, only(WEB, DB), None) is False
    assert held(kube) == {}
    assert reserved(kube) == {"10.0.0.2": "ns/q"}


def test_throttling_is_waited_for(kube, open_store):
    ipam = Ipam(open_store())
    for verb, resource in WRITES:
        kube.fail(Throttle(seconds=0), verb=verb, resource=resource)
    ipam.allocate(POOL, WEB)
    ipam.release(WEB, pool=POOL)
    assert held(kube) == {}
    assert reserved(kube) == {}


@pytest.mark.parametrize("pool", [POOL, NATIVE], ids=["whereabouts", "native"])
def test_a_lost_reply_that_others_wrote_over_is_found_in_the_history(open_store, pool):
    """Up to eight writes later; after more it is said to be unknown, never that it was not done."""
    store, other = open_store(), open_store()
    ipam = Ipam(store)
    ipam.allocate(pool, WEB)
    key = next(iter(store.keys("")))
    for later, known in ((3, True), (9, False)):
        block, version = store.load(key)
        write = type(store._pools).write

        def overtaken(self, found, change, later=later, write=write):
            written = write(self, found, change)
            if self is store._pools:
                for _ in range(later):
                    there, tag = other.load(key)
                    assert other.swap(key, evolve(there, sequence=there.sequence + 1), tag)
                raise UnknownOutcomeError("planned")
            return written

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(store._pools), "write", overtaken)
            if known:
                assert store.swap(key, block, version) is True
            else:
                with pytest.raises(UnknownOutcomeError, match="changed again"):
                    store.swap(key, block, version)


def test_of_two_who_expect_the_same_only_one_wins_though_replies_are_lost(kube, open_store):
    kube.fail(Drop(applied=True), verb="patch", resource=POOLS, times=None, chance=0.5)
    stores = [open_store(), open_store()]
    block, version = Block(domain=REF.domain, version=4, index=0x0A000000 >> BLOCK_BITS), None
    for turn in range(1, 20):
        won = [store.swap(KEY, evolve(block, sequence=turn), version) for store in stores]
        assert won == [True, False]
        block, version = stores[1].load(KEY)
        assert block.sequence == turn
        stores.reverse()


class TestTheLastMoment:
    """A reservation of somebody else's appears between the look and the write."""

    def appears(self, kube, monkeypatch, podref="ns/q"):
        has_taken = Rivals.has_taken

        def late(self, ref, around, steps, leading):
            answer = has_taken(self, ref, around, steps, leading)
            for step in steps if not kube.objects(RESERVATIONS) else ():
                reserve(kube, str(step.address), podref)
            return answer

        monkeypatch.setattr(Rivals, "has_taken", late)

    def test_the_entry_is_taken_back(self, kube, open_store, monkeypatch):
        """Else the pod of the reservation, or of the entry, would never be answered again (1.7)."""
        self.appears(kube, monkeypatch)
        store = open_store()
        assert str(Ipam(store).allocate(POOL, WEB).ip) == "10.0.0.2"
        assert held(kube) == {"2": "ns/web"}
        assert reserved(kube) == {"10.0.0.1": "ns/q", "10.0.0.2": "ns/web"}

    def test_what_was_there_before_is_there_again(self, kube, open_store, monkeypatch):
        store = open_store()
        store.swap(KEY, Block(domain=REF.domain, version=4, index=0x0A000000 >> BLOCK_BITS), None)
        Ipam(store).allocate(POOL, DB)
        kube.delete(RESERVATIONS, "10.0.0.1", NAMESPACE)
        before = store.load(KEY)
        lease = before[0].leases[1]
        come = evolve(lease, ip=evolve(lease.ip, value=lease.ip.value + 1), owner=WEB)
        self.appears(kube, monkeypatch)
        # One goes, one comes: all or nothing.
        assert store.swap(KEY, evolve(before[0], leases={2: come}), before[1]) is False
        assert store.load(KEY)[0] == before[0]
        assert held(kube) == {"1": "ns/db"}

    def test_only_what_came_is_taken_out_if_others_went_on(self, kube, open_store, monkeypatch):
        self.appears(kube, monkeypatch)
        store, other = open_store(), open_store()
        reserve = Rivals.reserve

        def after_another(self, ref, steps, leading):
            if self is store._rivals and held(kube) == {"1": "ns/web"}:
                block, version = other.load(KEY)
                assert other.swap(KEY, evolve(block, sequence=77), version)
            return reserve(self, ref, steps, leading)

        monkeypatch.setattr(Rivals, "reserve", after_another)
        assert str(Ipam(store).allocate(POOL, WEB).ip) == "10.0.0.2"
        assert held(kube) == {"2": "ns/web"}
        assert store.load(KEY)[0].sequence == 78

    def test_a_reservation_that_cannot_be_made_undoes_the_entry(self, kube, open_store):
        kube.fail(Refuse(403, "Forbidden", "no"), verb="create", resource=RESERVATIONS)
        store = open_store()
        with pytest.raises(StoreError, match="no"):
            Ipam(store).allocate(POOL, WEB)
        assert held(kube) == {}
        assert str(Ipam(store).allocate(POOL, WEB).ip) == "10.0.0.1"

    def test_a_reservation_that_cannot_be_deleted_is_left_over_and_known_as_such(
        self, kube, open_store
    ):
        store = open_store()
        ipam = Ipam(store)
        ipam.allocate(POOL, WEB)
        kube.fail(Refuse(403, "Forbidden", "no"), verb="delete", resource=RESERVATIONS)
        assert ipam.release(WEB, pool=POOL)
        assert reserved(kube) == {"10.0.0.1": "ns/web"}
        assert str(ipam.allocate(POOL, DB).ip) == "10.0.0.1"
        assert reserved(kube) == {"10.0.0.1": "ns/db"}


def test_old_knowledge_of_the_pool_deletes_nothing(kube, open_store):
    """By it, the reservation of an address that was handed out since looks left over."""
    store, other = open_store(), open_store()
    store.swap(KEY, Block(domain=REF.domain, version=4, index=0x0A000000 >> BLOCK_BITS), None)
    block, version = store.load(KEY)
    lease = Ipam(other).allocate(POOL, WEB)
    mine = evolve(lease, owner=DB)
    assert store.swap(KEY, evolve(block, leases={1: mine}, sequence=9), version) is False
    assert held(kube) == {"1": "ns/web"}
    assert reserved(kube) == {"10.0.0.1": "ns/web"}


def test_old_knowledge_of_the_pool_mends_nothing(kube, open_store):
    """By it, the reservation of an address that was released since looks missing."""
    store, other = open_store(), open_store()
    store._clock = lambda: time.time() + 601
    Ipam(other).allocate(POOL, WEB)
    block, version = store.load(KEY)
    mine = evolve(block.leases[1], ip=evolve(block.leases[1].ip, value=0x0A000002), owner=DB)
    Ipam(other).release(WEB, pool=POOL)
    assert store.swap(KEY, evolve(block, leases={**block.leases, 2: mine}), version) is False
    assert held(kube) == {}
    assert reserved(kube) == {}


class KilledError(BaseException):
    pass


class Killer:
    """A connection that ends for good at one write, before or after it takes effect."""

    def __init__(self, cluster, at, *, after):
        self.cluster, self.left, self.after = cluster, at, after
        self.dead = False

    def __getattr__(self, name):
        found = getattr(self.cluster, name)
        if not callable(found) or name == "close":
            return found

        def call(*args, **options):
            if self.dead:
                raise KilledError
            writes = name in ("create", "replace", "patch", "delete")
            self.left -= writes
            if not writes or self.left >= 0:
                return found(*args, **options)
            self.dead = True
            if self.after:
                found(*args, **options)
            raise KilledError

        return call


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("what", ["allocate", "release", "first"])
def test_a_kill_at_any_write_leaves_nothing_that_time_does_not_heal(
    kube, open_store, what, at, after
):
    healthy = Ipam(open_store())
    if what != "first":
        healthy.allocate(POOL, DB)
    if what == "release":
        healthy.allocate(POOL, WEB)
    victim = Ipam(open_store(lambda cluster: Killer(cluster, at, after=after)))
    try:
        if what == "release":
            victim.release(WEB, pool=POOL)
        else:
            victim.allocate(POOL, WEB)
    except (KilledError, PodnetError):
        pass
    else:
        assert at >= 3, "it was not killed"
    # The runtime tries again, elsewhere: a release once more, or the pod's ADD and DEL.
    if what != "release":
        lease = healthy.allocate(POOL, WEB)
        assert str(lease.ip) == ("10.0.0.1" if what == "first" else "10.0.0.2")
    healthy.release(WEB, pool=POOL)
    assert healthy._store.mend(POOL.domain)
    rest = {} if what == "first" else {"1": "ns/db"}
    assert held(kube) == rest
    assert reserved(kube) == {f"10.0.0.{key}": podref for key, podref in rest.items()}


def test_threads_of_one_store_take_turns(kube, open_store):
    """Several domains at once, which need one Lease: nobody waits for a poll of itself."""
    store = open_store()
    ipam = Ipam(store)
    pools = [
        Pool(c, c, domain=PoolRef(network=parse_prefix(c)).domain, edges=INNER, mode=SHARED)
        for c in ("10.0.0.0/24", "10.0.0.0/25", "10.1.0.0/24")
    ]
    leases, failures = [], []

    def work(number):
        try:
            for n, pool in enumerate(itertools.islice(itertools.cycle(pools), 9)):
                owner = Owner(f"c{number}-{n}", "net1", "ns", f"p{number}-{n}")
                leases.append(ipam.allocate(pool, owner))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({lease.ip for lease in leases}) == 36
    assert set(reserved(kube)) == {str(lease.ip) for lease in leases}
