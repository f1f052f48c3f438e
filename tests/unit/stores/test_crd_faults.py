"""The store of IPBlocks while the API server and the way to it misbehave."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from attrs import evolve

from podnet.cluster.answers import MissingError
from podnet.errors import InvalidConfigError, StoreError, TryAgainLaterError
from podnet.manifests.resources import definition
from podnet.manifests.roles import node_rules
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.stores.crd import open as open_store
from podnet.testing.kube.emulator import Drop, Emulator, Refuse, Slow, Throttle

BLOCKS = "ipblocks.ipam.podnet.dev"
INDEX = 0x50000
KEY = "storage/4/050000"
NAME = "storage-10.0.0.0-23"


def lease(n, *, index=INDEX, container=None):
    owner = Owner(
        (container or f"{index:x}{n:x}").ljust(64, "a"),
        "net1",
        "default",
        f"web-{n}",
        f"{index:08x}-{n:04x}-4000-8000-000000000000",
    )
    return Lease(
        domain="storage",
        pool="storage",
        ip=Address(4, (index << 9) + n),
        length=16,
        owner=owner,
        node=f"node-{n % 3}",
        network="storage",
        since=1.7e9 + n / 7,
        sequence=n + 1,
    )


def block(count=1, sequence=None, index=INDEX):
    leases = {n: lease(n, index=index) for n in range(count)}
    top = BLOCK_SIZE if sequence is None else sequence
    return Block(domain="storage", version=4, index=index, leases=leases, sequence=top)


@pytest.fixture
def kube():
    with Emulator([definition()]) as emulator:
        yield emulator


@pytest.fixture
def opened(kube, tmp_path):
    """Opens stores on the emulator, and closes them."""
    stores = []

    def make(**options):
        query = "&".join(f"{name}={value}" for name, value in options.items())
        path = kube.kubeconfig(str(tmp_path))
        stores.append(open_store(f"kubernetes:{path}?{query}"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(opened):
    return opened(timeout=3)


def put(store, new):
    entry = store.load(new.key)
    assert store.swap(new.key, new, entry and entry[1]) is True
    return store.load(new.key)[1]


class TestCost:
    def test_a_swap_is_one_write(self, store, kube):
        version = put(store, block(1))
        kube.forget()
        assert store.swap(KEY, block(2), version) is True
        assert kube.writes == 1
        assert [one.verb for one in kube.log()] == ["patch"], "and nothing is read"

    def test_a_load_of_what_nobody_changed_reads_metadata(self, store, kube):
        put(store, block(BLOCK_SIZE))
        kube.forget()
        store.load(KEY)
        (get,) = kube.log()
        assert get.received < 8_000

    def test_only_what_changed_is_sent(self, store, kube):
        full = block(BLOCK_SIZE)
        put(store, evolve(full, leases={n: x for n, x in full.leases.items() if n != 100}))
        version = store.load(KEY)[1]
        kube.forget()
        assert store.swap(KEY, full, version) is True
        (patch,) = kube.log()
        assert patch.sent < 8_000, "digests of owners and one lease"
        assert patch.received < 8_000

    def test_a_full_block_is_far_from_the_limit_of_objects(self, store, kube):
        full = block(BLOCK_SIZE)
        put(store, full)
        assert store.load(KEY)[0] == full
        assert kube.size(BLOCKS, NAME) < 200 * 1024

    def test_the_metadata_of_a_full_block_stays_small(self, store, kube):
        put(store, block(BLOCK_SIZE))
        kube.forget()
        assert store.seek("storage/4/", lease(3).owner) == [KEY]
        assert [one.verb for one in kube.log()] == ["list"]
        assert kube.log()[0].received < 8_000

    def test_keys_are_listed_without_leases(self, store, kube):
        for n in range(20):
            put(store, block(200, index=INDEX + n))
        kube.forget()
        assert len(store.keys("storage/")) == 20
        assert sum(one.received for one in kube.log()) < 8_000

    def test_one_write_for_each_swap_whatever_the_number_of_blocks(self, store, kube):
        for n in range(40):
            kube.forget()
            put(store, block(1, index=INDEX + n))
            assert kube.writes == 1
            assert len(kube.log()) <= 3

    def test_unchanged_leases_are_not_decoded_again(self, opened):
        one, two = opened(), opened()
        put(one, block(300))
        before = two.load(KEY)[0]
        put(one, block(301))
        after = two.load(KEY)[0]
        assert all(after.leases[n] is before.leases[n] for n in range(300))

    def test_memory_of_blocks_is_bounded(self, store):
        for n in range(40):
            put(store, block(BLOCK_SIZE, index=INDEX + n))
        memory = store._own
        assert memory.leases <= 1 << 14
        assert memory.leases == sum(len(known.kept) for known in memory.blocks.values())
        assert store.load(KEY)[0] == block(BLOCK_SIZE), "forgotten, not lost"


class TestObject:
    def test_it_can_be_read_by_people(self, store, kube):
        put(
            store,
            evolve(block(2), freed={7: 1.7e9 + 0.5}, holder="node-1", recalled=True),
        )
        found = kube.get(BLOCKS, NAME)
        assert found["spec"] == {
            "key": KEY,
            "domain": "storage",
            "family": 4,
            "cidr": "10.0.0.0/23",
            "holder": "node-1",
            "recalled": True,
            "sequence": 512,
            "common": {
                "pool": "storage",
                "length": 16,
                "network": "storage",
                "interface": "net1",
                "namespace": "default",
            },
            "leases": {
                "10.0.0.0": {
                    "container": "500000".ljust(64, "a"),
                    "pod": "web-0",
                    "uid": "00050000-0000-4000-8000-000000000000",
                    "node": "node-0",
                    "since": "2023-11-14T22:13:20Z",
                    "sequence": 1,
                },
                "10.0.0.1": {
                    "container": "500001".ljust(64, "a"),
                    "pod": "web-1",
                    "uid": "00050000-0001-4000-8000-000000000000",
                    "node": "node-1",
                    "since": "2023-11-14T22:13:20.142857Z",
                    "sequence": 2,
                },
            },
            "freed": {"10.0.0.7": "2023-11-14T22:13:20.5Z"},
        }
        assert found["status"] == {"used": 2, "free": 510}
        assert found["metadata"]["labels"] == {
            "ipam.podnet.dev/domain": "storage",
            "ipam.podnet.dev/family": "4",
            "ipam.podnet.dev/holder": "node-1",
        }

    def test_counts_and_labels_follow(self, store, kube):
        put(store, evolve(block(2), holder="node-1"))
        put(store, evolve(block(5), holder="Node Two"))
        found = kube.get(BLOCKS, NAME)
        assert found["status"] == {"used": 5, "free": 507}
        assert found["metadata"]["labels"]["ipam.podnet.dev/holder"].startswith("sha256-")
        put(store, block(0))
        found = kube.get(BLOCKS, NAME)
        assert found["status"] == {"used": 0, "free": 512}
        assert "ipam.podnet.dev/holder" not in found["metadata"]["labels"]
        assert found["spec"]["leases"] == {}

    def test_labels_and_annotations_of_others_stay(self, store, kube):
        put(store, block(1))
        found = kube.get(BLOCKS, NAME)
        found["metadata"]["labels"]["team"] = "net"
        found["metadata"]["annotations"]["note"] = "hello"
        kube.replace(found)
        put(store, block(2))
        meta = kube.get(BLOCKS, NAME)["metadata"]
        assert (meta["labels"]["team"], meta["annotations"]["note"]) == ("net", "hello")

    def test_what_people_change_counts(self, store, kube):
        put(store, block(3))
        found = kube.get(BLOCKS, NAME)
        del found["spec"]["leases"]["10.0.0.1"]
        found["spec"]["leases"]["10.0.0.9"] = {"container": "by-hand", "claim": "reserved:x"}
        kube.replace(found)
        loaded, version = store.load(KEY)
        assert set(loaded.leases) == {0, 2, 9}
        assert loaded.leases[9].owner == Owner("by-hand", "net1", "default")
        assert loaded.leases[9].pool == "storage"
        assert store.seek("storage/", Owner("by-hand", "net1")) == [KEY], (
            "digests are not relied on"
        )
        assert store.swap(KEY, evolve(loaded, recalled=True), version) is True
        assert store.load(KEY)[0] == evolve(loaded, recalled=True)
        assert store.seek("storage/", Owner("by-hand", "net1")) == [KEY]
        assert store.seek("storage/", Owner("nobody", "net1")) == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"leases": {"10.0.9.1": {}}},
                r"spec\.leases\[10\.0\.9\.1\]: is not in 10\.0\.0\.0/23",
            ),
            ({"leases": {"10.0.0.300": {}}}, r"spec\.leases\[10\.0\.0\.300\]: "),
            ({"leases": {"10.0.0.1": {"since": "now"}}}, r"leases\[10\.0\.0\.1\]\.since: 'now'"),
            ({"leases": {"10.0.0.1": {"sequence": -1}}}, r"leases\[10\.0\.0\.1\]\.sequence: -1"),
            ({"leases": {"10.0.0.1": {"length": 33}}}, r"leases\[10\.0\.0\.1\]\.length: 33"),
            ({"freed": {"10.0.0.0": "2023-01-01T00:00:00Z"}}, r"offset 0 is held"),
            ({"freed": {"10.0.0.9": "2023-01-01"}}, r"spec\.freed\[10\.0\.0\.9\]: '2023-01-01'"),
            ({"cidr": "10.0.0.0/24"}, r"spec\.cidr: 10\.0\.0\.0/24 is no block"),
            ({"cidr": "ten"}, r"spec\.cidr: "),
            ({"family": 6}, r"spec\.family: 6 is not that of 10\.0\.0\.0/23"),
            ({"key": "other"}, r"spec\.key: 'other' is not 'storage/4/050000'"),
            ({"sequence": "many"}, r"spec\.sequence: 'many' is no number"),
        ],
    )
    def test_damage_names_object_and_field(self, store, kube, change, message):
        put(store, block(1))
        found = kube.get(BLOCKS, NAME)
        found["spec"] |= change
        kube.replace(found)
        with pytest.raises(StoreError, match=f"IPBlock {NAME} is damaged: .*{message}"):
            store.load(KEY)

    def test_an_object_of_another_name_is_told(self, store, kube):
        put(store, block(1))
        found = kube.get(BLOCKS, NAME)
        found["metadata"] = {"name": "copied"}
        kube.create(found)
        with pytest.raises(StoreError, match="IPBlock copied is damaged"):
            store.keys("")

    def test_finalizers_are_told(self, store, kube):
        version = put(store, block(1))
        found = kube.get(BLOCKS, NAME)
        found["metadata"]["finalizers"] = ["example.com/hold"]
        kube.replace(found)
        version = store.load(KEY)[1]
        with pytest.raises(StoreError, match=r"example\.com/hold"):
            store.swap(KEY, None, version)

    def test_an_older_definition_is_told_instead_of_losing_fields(self, tmp_path):
        manifest = definition()
        spec = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        fields = dict(spec["properties"])
        del fields["recalled"]
        spec = {**spec, "properties": fields}
        schema = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"] = {**schema["properties"], "spec": spec}
        with Emulator([manifest]) as kube:
            store = open_store(f"kubernetes:{kube.kubeconfig(str(tmp_path))}")
            with pytest.raises(StoreError, match="podnet ipam crds"):
                store.swap(KEY, block(1), None)
            store.close()

    def test_a_cluster_without_the_definition_is_told(self, tmp_path):
        with Emulator() as kube:
            store = open_store(f"kubernetes:{kube.kubeconfig(str(tmp_path))}")
            for call in (
                lambda: store.load(KEY),
                lambda: store.swap(KEY, block(1), None),
                lambda: store.keys(""),
                lambda: store.seek("", Owner("a", "b")),
            ):
                with pytest.raises(InvalidConfigError, match="podnet ipam crds"):
                    call()
            store.close()


LOST = [Drop(False), Drop(True), Drop(True, partial=True), Slow(4), Refuse(504, "Timeout")]


class TestLostReplies:
    @pytest.mark.parametrize("fault", LOST[:3])
    def test_creating(self, store, kube, fault):
        kube.fail(fault, verb="create")
        assert store.swap(KEY, block(1), None) is True
        assert store.load(KEY)[0] == block(1)
        assert len(kube.objects(BLOCKS)) == 1

    @pytest.mark.parametrize("fault", LOST)
    def test_replacing(self, opened, kube, fault):
        store = opened(timeout=1)
        version = put(store, block(1))
        kube.fail(fault, verb="patch")
        assert store.swap(KEY, block(2), version) is True
        loaded, new = store.load(KEY)
        assert loaded == block(2)
        assert new != version
        assert store.swap(KEY, block(3), version) is False

    @pytest.mark.parametrize("fault", [Drop(False), Drop(True)])
    def test_many_times(self, store, kube, fault):
        version = put(store, block(1))
        kube.fail(fault, verb="patch", times=5)
        assert store.swap(KEY, block(2), version) is True
        assert store.load(KEY)[0] == block(2)

    @pytest.mark.parametrize("between", [1, 31])
    def test_done_and_others_wrote_since(self, opened, kube, between):
        one, two = opened(), opened()
        version = put(one, block(1))
        others = iter(range(10, 10 + between))

        def write(_):
            for n in others:
                put(two, block(n))

        self.interfere(one, kube, write)
        assert one.swap(KEY, block(2), version) is True
        assert one.load(KEY)[0] == block(10 + between - 1)

    def test_not_done_and_others_wrote_since(self, opened, kube):
        one, two = opened(), opened()
        version = put(one, block(1))
        kube.fail(Drop(False), verb="patch")
        self.interfere(one, None, lambda _: put(two, block(9)))
        assert one.swap(KEY, block(2), version) is False
        assert one.load(KEY)[0] == block(9)

    def test_too_many_wrote_since_to_tell(self, opened, kube):
        one, two = opened(), opened()
        version = put(one, block(1))
        self.interfere(one, kube, lambda _: [put(two, block(n)) for n in range(10, 43)])
        with pytest.raises(StoreError, match="cannot be told"):
            one.swap(KEY, block(2), version)

    def test_created_anew_since(self, opened, kube):
        one, two = opened(), opened()
        version = put(one, block(1))

        def anew(_):
            assert two.swap(KEY, None, two.load(KEY)[1]) is True
            put(two, block(9))

        self.interfere(one, kube, anew)
        with pytest.raises(StoreError, match="cannot be told"):
            one.swap(KEY, block(2), version)

    def interfere(self, store, kube, action):
        """Lose the reply of the next patch, and let others act before it is repeated."""
        if kube is not None:
            kube.fail(Drop(True), verb="patch")
        patch, calls = store._cluster.patch, itertools.count()

        def patched(*args, **options):
            if next(calls) == 1:
                action(store)
            return patch(*args, **options)

        store._cluster.patch = patched

    @pytest.mark.parametrize("fault", [Drop(False), Refuse(504, "Timeout")])
    def test_deleting_that_was_not_done(self, store, kube, fault):
        version = put(store, block(1))
        kube.fail(fault, verb="delete")
        assert store.swap(KEY, None, version) is True
        assert store.load(KEY) is None

    def test_deleting_that_was_done_by_whom(self, store, kube):
        version = put(store, block(1))
        kube.fail(Drop(True), verb="delete")
        with pytest.raises(StoreError, match="cannot be told"):
            store.swap(KEY, None, version)
        assert store.load(KEY) is None

    def test_created_by_another_meanwhile(self, opened, kube):
        one, two = opened(), opened()
        kube.fail(Drop(False), verb="create")
        create, calls = one._cluster.create, itertools.count()

        def created(*args, **options):
            if next(calls) == 1:
                put(two, block(9))
            return create(*args, **options)

        one._cluster.create = created
        with pytest.raises(StoreError, match="cannot be told"):
            one.swap(KEY, block(1), None)
        assert one.load(KEY)[0] == block(9)

    def test_nothing_but_losses_is_an_error(self, opened, kube):
        store = opened(timeout=0.5)
        version = put(store, block(1))
        kube.fail(Drop(False), verb="patch", times=None)
        start = time.monotonic()
        with pytest.raises(StoreError) as caught:
            store.swap(KEY, block(2), version)
        assert time.monotonic() - start < 5
        assert caught.value.code == 11

    @pytest.mark.parametrize("verb", ["create", "patch", "delete"])
    def test_a_write_that_fails_at_once_is_not_repeated_without_a_pause(self, opened, kube, verb):
        store = opened(timeout=1)
        version = None if verb == "create" else put(store, block(1))
        kube.fail(Refuse(500, "InternalError", "failed calling webhook"), verb=verb, times=None)
        kube.forget()
        with pytest.raises(StoreError) as caught:
            store.swap(KEY, None if verb == "delete" else block(2), version)
        assert caught.value.code == 11
        assert kube.writes < 10

    def test_creating_where_nothing_can_be_is_an_error(self, store):
        def create(*_, **__):
            raise MissingError("no such place", status=404)

        store._cluster.create = create
        with pytest.raises(MissingError):
            store.swap(KEY, block(1), None)

    def test_done_and_a_person_changed_it_since(self, opened, kube):
        """Who edits an object leaves podnet's annotations there."""
        store = opened()
        version = put(store, block(2))

        def edit(_):
            found = kube.get(BLOCKS, NAME)
            del found["spec"]["leases"]["10.0.0.1"]
            kube.replace(found)

        self.interfere(store, kube, edit)
        assert store.swap(KEY, block(3), version) is True
        assert set(store.load(KEY)[0].leases) == {0, 2}

    def test_what_follows_a_loss_is_no_certainty(self, store, kube):
        """After a lost reply "nothing was done" must not be said for another reason."""
        version = put(store, block(1))
        kube.fail(Drop(True), verb="patch")
        kube.fail(Throttle(60), verb="patch", times=None)
        with pytest.raises(StoreError, match="was lost"):
            store.swap(KEY, block(2), version)

    def test_every_update_counts_once_while_replies_get_lost(self, opened, kube):
        stores = [opened(timeout=10) for _ in range(3)]
        put(stores[0], evolve(block(0), sequence=0))
        kube.fail(Drop(True), verb="patch", times=None, chance=0.2)
        kube.fail(Drop(False), verb="patch", times=None, chance=0.2)
        kube.fail(Drop(True), verb="get", times=None, chance=0.1)
        kube.fail(Throttle(0), times=None, chance=0.1)
        wins, unknown = [], []

        def count(store):
            mine = 0
            while mine < 15:
                loaded, version = store.load(KEY)
                try:
                    mine += store.swap(KEY, evolve(loaded, sequence=loaded.sequence + 1), version)
                except StoreError:
                    unknown.append(store)
            wins.append(mine)

        threads = [threading.Thread(target=count, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kube.heal()
        assert wins == [15] * 3
        assert 45 <= stores[0].load(KEY)[0].sequence <= 45 + len(unknown)
        assert len(unknown) < 3, "most lost replies are found out about"


class TestConflicts:
    def test_others_win(self, opened):
        one, two = opened(), opened()
        version = put(one, block(1))
        put(two, block(2))
        assert one.swap(KEY, block(3), version) is False
        assert one.swap(KEY, None, version) is False
        assert one.swap(KEY, block(3), None) is False
        assert one.load(KEY)[0] == block(2)

    def test_the_same_version_of_another_object(self, opened, kube):
        """As after an etcd that was restored: the UID tells them apart."""
        store = opened()
        version = put(store, block(1))
        number = version.partition(".")[0]
        other = f"{number}.00000000-0000-4000-8000-000000000000"
        assert store.swap(KEY, block(2), other) is False
        assert store.swap(KEY, None, other) is False
        store._own.recall(KEY).uid = other.partition(".")[2]
        assert store.swap(KEY, block(2), other) is False
        assert store.swap(KEY, block(2), version) is True

    def test_a_version_that_was_never_loaded_here(self, opened):
        one, two = opened(), opened()
        version = put(one, block(1))
        assert two.swap(KEY, block(2), version) is True
        assert one.load(KEY)[0] == block(2)


class TestWeather:
    def test_throttling_is_waited_out(self, store, kube):
        kube.fail(Throttle(1), times=2)
        start = time.monotonic()
        put(store, block(1))
        assert time.monotonic() - start >= 2

    def test_throttling_for_too_long_is_told(self, store, kube):
        kube.fail(Throttle(100), times=None)
        with pytest.raises(TryAgainLaterError):
            store.swap(KEY, block(1), None)
        with pytest.raises(StoreError):
            store.load(KEY)

    def test_expired_tokens_are_replaced(self, kube, tmp_path):
        kube.allow("one", node_rules())
        path = kube.kubeconfig(str(tmp_path), token="one")
        store = open_store(f"kubernetes:{path}")
        put(store, block(1))
        kube.allow("two", node_rules())
        kube.expire("one")
        kube.kubeconfig(str(tmp_path), token="two")
        put(store, block(2))
        assert store.keys("") == [KEY]
        store.close()

    def test_no_more_rights_than_the_role_has_are_needed(self, kube, tmp_path):
        kube.allow("one", node_rules())
        store = open_store(f"kubernetes:{kube.kubeconfig(str(tmp_path), token='one')}")
        for n in range(20):
            version = put(store, block(1, index=INDEX + n))
        for _ in range(8):
            assert store.seek("storage/", lease(0).owner) == [KEY]
        assert store.swap(block(0, index=INDEX + 19).key, None, version) is True
        assert store.keys("") == [block(0, index=INDEX + n).key for n in range(19)]
        assert store._own.seeking.mirror is not None, "the watch's right is needed, too"
        assert store._own.seeking.mirror.wait(5)
        store.close()

    def test_a_role_that_lacks_a_right_is_told(self, kube, tmp_path):
        rules = [{**node_rules()[0], "verbs": ["get", "list", "watch"]}]
        kube.allow("one", rules)
        store = open_store(f"kubernetes:{kube.kubeconfig(str(tmp_path), token='one')}")
        with pytest.raises(StoreError, match="forbidden"):
            store.swap(KEY, block(1), None)
        store.close()

    def test_lists_that_expire_are_begun_anew(self, store, kube):
        for n in range(5):
            put(store, block(1, index=INDEX + n))
        kube.fail(Refuse(410, "Expired"), verb="list")
        assert len(store.keys("")) == 5
        kube.fail(Refuse(410, "Expired"), verb="list")
        assert store.seek("", lease(0).owner) == [KEY]

    def test_slow_and_dropped_reads(self, store, kube):
        put(store, block(1))
        kube.fail(Slow(0.2), verb="get")
        kube.fail(Drop(True), verb="get", times=2)
        assert store.load(KEY)[0] == block(1)

    def test_stale_caches_are_not_asked(self, store, kube):
        put(store, block(1))
        kube.freeze_cache()
        put(store, block(2))
        put(store, block(1, index=INDEX + 1))
        assert store.load(KEY)[0] == block(2)
        assert len(store.keys("")) == 2
        assert len(store.seek("", lease(0, index=INDEX + 1).owner)) == 1
