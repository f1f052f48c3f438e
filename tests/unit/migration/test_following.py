from __future__ import annotations

from itertools import chain

import pytest

import podnet.testing
from podnet.engine.leases import Ipam
from podnet.engine.migration import Migration
from podnet.engine.migration_follow import Following, follow
from podnet.engine.migration_ground import identify, load_identity, load_mark
from podnet.engine.migration_rename import Renamed, part
from podnet.errors import StoreError, TryAgainLaterError
from podnet.ipam import migrate
from podnet.ipam.migrate import Kind, Mark, State, state_of
from podnet.model.block import Block, block_key
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.file import FileStore
from podnet.stores.memory import MemoryStore
from podnet.testing import IpamMachine, in_processes, in_threads, run_machine
from podnet.testing.ground_contract import contract_key
from podnet.testing.store_history import Keys, check_store, work

LAN = Pool("lan", "10.0.0.0/24")
KEY = block_key("lan", 4, 0x50000)
KEYS = [contract_key(n) for n in range(3)]
WEB, DB = Owner("web", "eth1"), Owner("db", "eth1")


class FollowingContract(podnet.testing.StoreContract):
    """What follows is a store like any other, but for its listings.

    They may show a block that is about to be made, which loading then does not.
    """

    seeks = True

    def test_threads_are_linearizable(self):
        with self.opened() as store:
            found = in_threads(4, lambda n: work(store, f"thread-{n}", keys=KEYS, steps=30))
            check_store(each for each in chain(*found) if not isinstance(each.call, Keys))

    def test_processes_are_linearizable(self):
        self.needs("multi_process")
        with self.opened() as store:
            found = in_processes(
                4, lambda n: work(self.reopen(store), f"process-{n}", keys=KEYS, steps=30)
            )
            check_store(each for each in chain(*found) if not isinstance(each.call, Keys))


class TestFollowing(FollowingContract):
    def open(self):
        return Following(MemoryStore())


class TestFollowingFiles(FollowingContract):
    durable = True
    multi_process = True

    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path):
        self.folder, self.count = tmp_path, 0

    def open(self):
        self.count += 1
        return Following(FileStore(str(self.folder / str(self.count)), durable=False))

    def reopen(self, store):
        return Following(FileStore(store.home._folder, durable=False))


def test_address_management_over_it_agrees_with_a_set():
    run_machine(lambda: IpamMachine(lambda: Following(MemoryStore())), examples=40, steps=30)


def moved(url_of_the_new_store="test:new", **options):
    """Return two stores with a lease, moved from the first to the second."""
    old, new = MemoryStore(), MemoryStore()
    lease = Ipam(old).allocate(LAN, WEB)
    migration = Migration(old, new, source_url="test:old", target_url=url_of_the_new_store)
    assert migration.run("lan", **options).complete
    return old, new, lease


def test_who_still_uses_the_old_store_works_on_the_new_one():
    old, new, lease = moved()
    ipam = Ipam(Following(old, opener={"test:new": new}.__getitem__))
    assert ipam.allocate(LAN, WEB).ip == lease.ip
    other = ipam.allocate(LAN, DB)
    assert [str(e.ip) for e in Ipam(new).leases("lan")] == ["10.0.0.1", "10.0.0.2"]
    assert list(ipam.leases("lan")) == list(Ipam(new).leases("lan"))
    assert ipam.release(other) == (other,)
    assert [e.owner for e in Ipam(new).leases()] == [WEB]
    assert [state_of(old.load(key)[0]) for key in old.keys("lan/")] == [State.GONE]


def test_the_old_store_keeps_no_leases_that_are_not_true_any_more():
    old, _, _ = moved()
    assert not old.load(KEY)[0].leases


def test_a_store_that_cannot_be_opened_is_asked_again_later():
    old, _, _ = moved("nonsense:x")
    with pytest.raises(
        TryAgainLaterError, match="domain lan was moved to nonsense:x, which cannot"
    ):
        Following(old).load(KEY)


def test_another_store_of_the_same_url_is_not_taken_for_the_target():
    old, _, _ = moved("file:/var/lib/podnet/new")
    other = MemoryStore()
    ipam = Ipam(Following(old, opener=lambda _: other))
    for call in (lambda: ipam.allocate(LAN, WEB), lambda: ipam.release(WEB, pool=LAN)):
        with pytest.raises(TryAgainLaterError, match="another one on this machine"):
            call()
    assert list(other.keys("")) == []


def test_a_block_that_the_target_has_lost_is_not_handed_out():
    old, new, _ = moved()
    new.swap(KEY, None, new.load(KEY)[1])
    with pytest.raises(TryAgainLaterError, match="neither where it was nor where it went"):
        Ipam(Following(old, opener=lambda _: new)).allocate(LAN, DB)


def test_marks_that_lead_in_a_circle_are_told():
    stores = {"test:a": MemoryStore(), "test:b": MemoryStore()}
    names = {url: identify(store) for url, store in stores.items()}
    for url, other in (("test:a", "test:b"), ("test:b", "test:a")):
        mark = Mark(kind=Kind.DONE, store=names[other], url=other, domain="lan")
        block = migrate.mark_block("lan", mark, None)
        stores[url].swap(block.key, block, None)
    with pytest.raises(StoreError, match="in a circle"):
        Following(stores["test:a"], opener=stores.__getitem__).load(KEY)


def test_a_chain_of_moves_is_followed():
    old, new, lease = moved()
    newest = MemoryStore()
    opener = {"test:new": new, "test:newest": newest}.__getitem__
    Migration(new, newest, source_url="test:new", target_url="test:newest").run("lan")
    ipam = Ipam(Following(old, opener=opener))
    assert ipam.allocate(LAN, WEB).ip == lease.ip
    assert len(list(ipam.leases())) == 1
    assert ipam.release(WEB)
    assert list(Ipam(newest).leases()) == []


def test_marks_and_identities_are_hidden():
    old, new, _ = moved()
    for store in (old, new):
        following = Following(store, opener=lambda _: new)
        assert list(following.keys("")) == [KEY]
        assert following.load(migrate.IDENTITY) is None
        with pytest.raises(StoreError, match="what it knows of moves"):
            following.swap(migrate.mark_key("lan"), Block(domain="x", version=4, index=0), None)


def test_holders_that_look_like_states_are_kept():
    store = MemoryStore()
    block = Block(domain="lan", version=4, index=0x50000, holder="!moved:x", sequence=3)
    following = Following(store)
    assert following.swap(KEY, block, None)
    assert following.load(KEY)[0] == block
    assert state_of(store.load(KEY)[0]) is State.OPEN
    assert following.swap(KEY, block, following.load(KEY)[1])


def test_a_holder_of_a_later_podnet_is_an_error():
    store = MemoryStore()
    store.swap(KEY, Block(domain="lan", version=4, index=0x50000, holder="!later:"), None)
    with pytest.raises(StoreError, match="is no node's name"):
        Following(store).load(KEY)


def test_what_else_a_store_offers_is_offered():
    class Odd(MemoryStore):
        def cursor(self, domain, pool):
            return domain, pool

    assert Following(Odd()).cursor("a", "b") == ("a", "b")
    assert not hasattr(Following(MemoryStore()), "cursor")
    assert hasattr(Following(MemoryStore()), "seek")


def test_the_stores_that_were_opened_are_closed():
    class Closing(MemoryStore):
        closed = 0

        def close(self):
            self.closed += 1

    new = Closing()
    old, _, _ = moved()
    (entry,) = [old.load(migrate.mark_key("lan"))]
    identify(new)
    mark = Mark(kind=Kind.DONE, store=load_identity(new), url="test:new", domain="lan")
    block = migrate.mark_block("lan", mark, entry[0])
    old.swap(block.key, block, entry[1])
    following = Following(old, opener=lambda _: new)
    following.load(block_key("lan", 4, 1))
    following.close()
    assert new.closed == 1


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("postgresql://app:secret@db/podnet", "postgresql://app@db/podnet"),
        ("postgresql://app@db/podnet", "postgresql://app@db/podnet"),
        ("postgresql://db/podnet?user=a&password=secret&x=1", "postgresql://db/podnet?user=a&x=1"),
        ("postgresql://db/podnet?sslPassword=secret", "postgresql://db/podnet"),
        ("file:/var/lib/podnet", "file:/var/lib/podnet"),
        ("kubernetes:", "kubernetes:"),
    ],
)
def test_marks_have_no_passwords(url, without):
    assert migrate.without_password(url) == without
    _, new, _ = moved()
    old = MemoryStore()
    Ipam(old).allocate(Pool("wan", "10.1.0.0/24"), WEB)
    Migration(old, new, source_url="test:x", target_url=url).run("wan")
    assert load_mark(old, "wan")[0].url == without


def test_follow_opens_by_url():
    store = follow("memory:test_follow")
    assert store.swap(KEY, Block(domain="lan", version=4, index=0x50000, sequence=1), None)
    assert follow("memory:test_follow").load(KEY) is not None


def test_a_domain_under_another_name():
    base = MemoryStore()
    Ipam(base).allocate(Pool("p", "10.0.0.0/24", domain="there"), WEB)
    Ipam(base).allocate(Pool("p", "10.0.0.0/24", domain="other"), WEB)
    store = Renamed(base, part("here"), "there")
    assert list(store.keys("here/")) == [block_key("here", 4, 0x50000)]
    assert list(store.keys("here/4/")) == [block_key("here", 4, 0x50000)]
    assert list(store.keys("here/6/")) == []
    assert list(store.seek("here/4/", WEB)) == [block_key("here", 4, 0x50000)]
    block, version = store.load(block_key("here", 4, 0x50000))
    assert (block.domain, block.leases[1].domain) == ("here", "here")
    assert store.swap(block.key, block, version)
    assert base.load(block_key("there", 4, 0x50000))[0].leases[1].domain == "there"
    with pytest.raises(StoreError, match="too long a name"):
        Renamed(base, part("x" * 300), "there")
