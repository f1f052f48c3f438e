from __future__ import annotations

import signal

import pytest

import podnet.testing
from podnet.engine.leases import Ipam
from podnet.errors import InvalidConfigError
from podnet.model.block import Block
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores import memory
from podnet.testing import in_processes


class TestMemoryStore(podnet.testing.StoreContract):
    seeks = True

    def open(self):
        return memory.MemoryStore()


def test_url_without_a_name_is_a_new_store():
    memory.open("memory:").swap("a", Block(domain="d", version=4, index=0), None)
    assert memory.open("memory:").load("a") is None


def test_url_with_a_name_is_one_store():
    name = "memory:test_url_with_a_name"
    memory.open(name).swap("a", Block(domain="d", version=4, index=0), None)
    assert memory.open(name).load("a") is not None


@pytest.mark.parametrize("url", ["file:x", "memory", ""])
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidConfigError, match="is not memory:"):
        memory.open(url)


def test_a_child_forked_in_the_middle_of_a_swap_goes_on():
    """Another thread has the lock, and has changed the owners but not the blocks, or the blocks."""
    store = memory.MemoryStore()
    ipam = Ipam(store)
    pool, gone, there = Pool("p", "10.0.0.0/16"), Owner("gone", "e"), Owner("there", "e")
    for n in range(50):
        ipam.allocate(pool, there if n == 9 else Owner(f"c{n}", "e"), requested=f"10.0.{2 * n}.7")
    (key,) = store.seek("", there)
    store._owners.remove(key, there)
    store._owners.add(key, gone)

    def child(_number):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        assert store.seek("", there) == [key]
        assert store.seek("", gone) == []
        assert Ipam(store).release(there)
        assert len(list(Ipam(store).leases())) == 49

    with store._lock:
        in_processes(1, child)
