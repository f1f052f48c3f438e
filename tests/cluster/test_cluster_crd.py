"""The store of IPBlocks keeps its contract on a real API server."""

from __future__ import annotations

import threading
import time

import pytest
from attrs import evolve

from podnet.errors import StoreError
from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.testing import StoreContract

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="class")
def handles(request, open_store, empty):
    request.cls.handle = staticmethod(open_store)
    request.cls.empty = staticmethod(empty)


@pytest.mark.usefixtures("handles")
class TestContract(StoreContract):
    durable = True
    multi_process = True
    seeks = True

    def open(self):
        self.empty()
        return self.handle()

    def reopen(self, store):
        return self.handle()


@pytest.fixture
def store(open_store, empty):
    empty()
    found = open_store()
    yield found
    found.close()


def held(index, *names):
    leases = {
        n: Lease(
            domain="storage",
            pool="p",
            ip=Address(4, (index << 9) + n),
            length=8,
            owner=Owner(name.ljust(64, "a"), "net1", "default", "web-" + name, "uid-" + name),
            since=1.7e9 + n / 7,
        )
        for n, name in enumerate(names)
    }
    return Block(domain="storage", version=4, index=index, leases=leases)


def put(store, new):
    entry = store.load(new.key)
    assert store.swap(new.key, new, entry and entry[1]) is True


def test_a_full_block(store, admin, blocks):
    full = held(0x50000, *(f"{n:x}" for n in range(BLOCK_SIZE)))
    put(store, full)
    assert store.load(full.key)[0] == full
    changed = evolve(full, leases={n: x for n, x in full.leases.items() if n % 3})
    put(store, changed)
    assert store.load(full.key)[0] == changed
    found = admin.get(blocks, "storage-10.0.0.0-23")
    assert found["status"] == {"used": len(changed.leases), "free": 512 - len(changed.leases)}
    assert found["metadata"]["generation"] == 2, "digests of owners rely on it"


def test_damage_by_hand(store, admin, blocks):
    put(store, held(0x50000, "a"))
    change = {"spec": {"leases": {"10.9.9.9": {}}}}
    admin.patch(blocks, "storage-10.0.0.0-23", change)
    with pytest.raises(StoreError, match="is damaged"):
        store.load(held(0x50000).key)


def test_the_mirror(store, open_store):
    for n in range(20):
        put(store, held(0x50000 + n, f"c{n}"))
    other = open_store()
    first = held(0x50000, "c0")
    for _ in range(4):
        assert other.seek("storage/", first.leases[0].owner) == [first.key]
    assert other._own.seeking.mirror.wait(30)
    new = held(0x50003, "theirs")
    put(store, new)
    ends = time.monotonic() + 30
    while other.seek("storage/", new.leases[0].owner) != [new.key]:
        assert time.monotonic() < ends
        time.sleep(0.05)
    other.close()


def test_one_of_many_wins(store, open_store):
    stores = [open_store() for _ in range(4)]
    put(store, held(0x50000))
    key, version = held(0x50000).key, store.load(held(0x50000).key)[1]
    won = []

    def swap(n):
        won.append(stores[n].swap(key, held(0x50000, f"c{n}"), version))

    threads = [threading.Thread(target=swap, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]
    for one in stores:
        one.close()
