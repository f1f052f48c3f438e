"""Seeking in a resident process: from its mirror, whatever happens to the watch."""

from __future__ import annotations

import time

import pytest
from attrs import evolve

from podnet.manifests.resources import definition
from podnet.model.addresses import Address
from podnet.model.block import Block
from podnet.model.lease import Lease, Owner
from podnet.stores.crd import open as open_store
from podnet.testing import in_processes
from podnet.testing.kube.emulator import Drop, Emulator

BLOCKS = "ipblocks.ipam.podnet.dev"
PREFIX = "storage/4/"


def held(index, *owners, domain="storage"):
    leases = {
        n: Lease(domain=domain, pool="p", ip=Address(4, (index << 9) + n), length=8, owner=owner)
        for n, owner in enumerate(owners)
    }
    return Block(domain=domain, version=4, index=index, leases=leases)


def owner(name):
    return Owner(name, "net1", "default", name, f"uid-{name}")


def put(store, new):
    entry = store.load(new.key)
    assert store.swap(new.key, new, entry and entry[1]) is True


def until(check):
    ends = time.monotonic() + 10
    while not check():
        assert time.monotonic() < ends, "it never came about"
        time.sleep(0.01)


@pytest.fixture
def kube():
    with Emulator([definition()], bookmarks=0.2) as emulator:
        yield emulator


@pytest.fixture
def stores(kube, tmp_path):
    """Two stores, one of which has a mirror of 20 blocks."""
    url = f"kubernetes:{kube.kubeconfig(str(tmp_path))}?timeout=3"
    one, two = open_store(url), open_store(url)
    for n in range(20):
        put(two, held(n, owner(f"c{n}")))
    for _ in range(4):
        one.seek(PREFIX, owner("c0"))
    assert one._own.seeking.mirror.wait(5)
    kube.forget()
    yield one, two
    one.close()
    two.close()


def test_it_asks_the_api_server_nothing(stores, kube):
    one, _ = stores
    for n in range(20):
        assert one.seek(PREFIX, owner(f"c{n}")) == [held(n).key]
        assert one.seek(PREFIX, Owner("new", "net1", "", "", f"uid-c{n}")) == [held(n).key]
    assert one.seek(PREFIX, owner("nobody")) == []
    assert kube.count() == 0


def test_own_swaps_are_seen_at_once(stores, kube):
    one, _ = stores
    kube.stall_watches()
    put(one, held(3, owner("c3"), owner("mine")))
    assert one.seek(PREFIX, owner("mine")) == [held(3).key]
    put(one, held(30, owner("mine-too")))
    assert one.seek(PREFIX, owner("mine-too")) == [held(30).key]
    kube.stall_watches(stalled=False)
    until(lambda: not one._own.seeking.mirror._written)
    assert one.seek(PREFIX, owner("mine")) == [held(3).key]
    put(one, held(3, owner("c3")))
    until(lambda: one.seek(PREFIX, owner("mine")) == [])


def test_swaps_of_others_are_seen_soon(stores):
    one, two = stores
    put(two, held(3, owner("theirs")))
    until(lambda: one.seek(PREFIX, owner("theirs")) == [held(3).key])
    until(lambda: one.seek(PREFIX, owner("c3")) == [])
    assert two.swap(held(3).key, None, two.load(held(3).key)[1]) is True
    until(lambda: one.seek(PREFIX, owner("theirs")) == [])


def test_an_old_change_hides_no_newer_swap_of_this_process(stores, kube):
    """What the watch tells late, of before, does not undo what was written since."""
    one, two = stores
    kube.stall_watches()
    put(two, held(3, owner("before")))
    put(one, held(3, owner("after")))
    kube.stall_watches(stalled=False)
    for _ in range(50):
        assert one.seek(PREFIX, owner("after")) == [held(3).key]
        time.sleep(0.002)
    until(lambda: one.seek(PREFIX, owner("before")) == [])


@pytest.mark.parametrize("how", ["ended", "gone", "cut", "compacted"])
def test_watches_that_end_are_begun_again(stores, kube, how):
    one, two = stores
    if how == "compacted":
        kube.compact()
    kube.end_watches(gone=how == "gone", cut=how in ("cut", "compacted"))
    put(two, held(3, owner("theirs")))
    until(lambda: one.seek(PREFIX, owner("theirs")) == [held(3).key])
    assert one._own.seeking.mirror.wait(5)
    kube.forget()
    assert one.seek(PREFIX, owner("theirs")) == [held(3).key]
    assert kube.count("list") == 0


def test_what_was_deleted_while_there_was_no_watch_is_forgotten(stores, kube):
    one, two = stores
    kube.fail(Drop(False), verb="watch", times=3)
    kube.end_watches(cut=True)
    until(lambda: not one._own.seeking.mirror.current)
    assert two.swap(held(3).key, None, two.load(held(3).key)[1]) is True
    kube.compact()
    assert one.seek(PREFIX, owner("c3")) == [], "it lists while there is no watch"
    until(lambda: one._own.seeking.mirror.current)
    assert one.seek(PREFIX, owner("c3")) == []
    assert one._own.seeking.mirror.count(PREFIX) == 19


def test_owners_that_last_are_listed(stores, kube):
    one, two = stores
    kube.stall_watches()
    claim = Owner("claim:default/vm", "net1", "default")
    put(two, held(3, claim))
    assert one.seek(PREFIX, claim) == [held(3).key]
    assert kube.count("list") == 1


def test_other_domains_are_kept_apart(stores):
    one, two = stores
    put(two, held(1, owner("c1"), domain="other"))
    until(lambda: one._own.seeking.mirror.count("other/") == 1)
    assert one.seek(PREFIX, owner("c1")) == [held(1).key]
    assert one.seek("other/4/", owner("c1")) == ["other/4/000001"]
    assert one.seek("", owner("c1")) == ["other/4/000001", held(1).key]


def test_objects_changed_by_hand_are_always_candidates(stores, kube):
    one, _ = stores
    found = kube.get(BLOCKS, "storage-0.0.6.0-23")
    found["spec"]["leases"]["0.0.6.9"] = {"container": "by-hand", "interface": "net1"}
    kube.replace(found)
    until(lambda: one.seek(PREFIX, Owner("by-hand", "net1")) == [held(3).key])
    block, version = one.load(held(3).key)
    assert one.swap(held(3).key, evolve(block, sequence=5), version) is True
    until(lambda: one.seek(PREFIX, Owner("nobody", "net1")) == [])
    assert one.seek(PREFIX, Owner("by-hand", "net1")) == [held(3).key]


def test_forked_processes_list_for_themselves(stores):
    one, two = stores
    put(two, held(3, owner("theirs")))

    def child(_):
        assert one.seek(PREFIX, owner("theirs")) == [held(3).key]
        assert one._own.seeking.mirror is None

    in_processes(2, child)


def test_closing_ends_it(kube, tmp_path):
    import threading

    before = threading.active_count()
    store = open_store(f"kubernetes:{kube.kubeconfig(str(tmp_path))}")
    for n in range(20):
        put(store, held(n, owner(f"c{n}")))
    for _ in range(4):
        store.seek(PREFIX, owner("c0"))
    assert store._own.seeking.mirror.wait(5)
    store.close()
    threads = [t for t in threading.enumerate() if t.name == "podnet-ipblocks"]
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert threading.active_count() <= before + 2
