from __future__ import annotations

import pytest

import podnet.testing
from podnet.errors import InvalidConfigError
from podnet.model.block import Block
from podnet.stores import memory


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
