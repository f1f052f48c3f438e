"""Stores that are broken on purpose: the contract must catch every one of them."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import json
import time

import pytest
from attrs import evolve

from podnet.model.block import Block
from podnet.testing import StoreContract


class Good:
    """A correct store to break: blocks in a dictionary, versions from a counter."""

    def __init__(self):
        self.blocks = {}
        self.numbers = itertools.count(1)

    def load(self, key):
        return self.blocks.get(key)

    def new_version(self, key, new):
        return str(next(self.numbers))

    def swap(self, key, new, expected):
        current = self.blocks.get(key)
        if (current[1] if current else None) != expected:
            return False
        if new is None:
            self.blocks.pop(key, None)
        else:
            self.blocks[key] = (new, self.new_version(key, new))
        return True

    def keys(self, prefix):
        return sorted(key for key in self.blocks if key.startswith(prefix))

    def close(self):
        pass


class LostUpdate(Good):
    """Overwrites whatever is there."""

    def swap(self, key, new, expected):
        current = self.blocks.get(key)
        return super().swap(key, new, current[1] if current else None)


class CheckThenAct(Good):
    """Compares and replaces in two steps that others can get between."""

    def swap(self, key, new, expected):
        current = self.blocks.get(key)
        if (current[1] if current else None) != expected:
            return False
        time.sleep(0.001)
        self.blocks[key] = (new, self.new_version(key, new))
        return True


class VersionsPerBlock(Good):
    """Counts versions from 1 again when a block is created anew (ABA)."""

    def new_version(self, key, new):
        current = self.blocks.get(key)
        return str(int(current[1]) + 1 if current else 1)


class VersionsByContent(Good):
    """Takes a digest of the content for a version: it comes back with the content."""

    def new_version(self, key, new):
        return hashlib.sha256(json.dumps(new.to_document()).encode()).hexdigest()


class DeletesAnything(Good):
    """Does not compare versions when it deletes."""

    def swap(self, key, new, expected):
        if new is None:
            return self.blocks.pop(key, None) is not None or expected is None
        return super().swap(key, new, expected)


class CreatesOnUpdate(Good):
    """Creates a block where the expected version is gone (an upsert)."""

    def swap(self, key, new, expected):
        if key not in self.blocks and new is not None:
            expected = None
        return super().swap(key, new, expected)


class SaysYes(Good):
    """Reports a win to the loser."""

    def swap(self, key, new, expected):
        super().swap(key, new, expected)
        return True


class Like(Good):
    """Takes a prefix for a pattern, as an unescaped SQL LIKE does."""

    def keys(self, prefix):
        pattern = prefix.replace("%", "*").replace("_", "?") + "*"
        return sorted(key for key in self.blocks if fnmatch.fnmatchcase(key, pattern))


class FoldsCase(Good):
    """Does not tell upper from lower case, as a case-insensitive collation does."""

    def load(self, key):
        return super().load(key.lower())

    def swap(self, key, new, expected):
        return super().swap(key.lower(), new, expected)


class CutsKeys(Good):
    """Keeps 255 characters of a key, as a VARCHAR column may."""

    def load(self, key):
        return super().load(key[:255])

    def swap(self, key, new, expected):
        return super().swap(key[:255], new, expected)


class Unordered(Good):
    """Lists keys as they came."""

    def keys(self, prefix):
        return [key for key in self.blocks if key.startswith(prefix)]


class Listing(Good):
    """Goes on listing what was deleted."""

    def __init__(self):
        super().__init__()
        self.ever = set()

    def swap(self, key, new, expected):
        self.ever.add(key)
        return super().swap(key, new, expected)

    def keys(self, prefix):
        return sorted(key for key in self.ever if key.startswith(prefix))


class SixtyFourBits(Good):
    """Keeps 64 bits of a number, as an integer column does."""

    def swap(self, key, new, expected):
        if new is not None:
            new = evolve(new, index=new.index % (1 << 64), sequence=new.sequence % (1 << 63))
        return super().swap(key, new, expected)


class DropsLeases(Good):
    """Keeps 255 of a block's leases."""

    def swap(self, key, new, expected):
        if new is not None:
            new = evolve(new, leases=dict(sorted(new.leases.items())[:255]))
        return super().swap(key, new, expected)


class Seconds(Good):
    """Keeps whole seconds of times."""

    def swap(self, key, new, expected):
        if new is not None:
            leases = {n: evolve(x, since=float(int(x.since))) for n, x in new.leases.items()}
            new = evolve(new, leases=leases)
        return super().swap(key, new, expected)


class Remembers(Good):
    """A second handle that answers from what it read before."""

    def __init__(self, other=None):
        super().__init__()
        self.blocks = other.blocks if other else self.blocks
        self.numbers = other.numbers if other else self.numbers
        self.seen = {}

    def load(self, key):
        if key not in self.seen:
            self.seen[key] = super().load(key)
        return self.seen[key]

    def swap(self, key, new, expected):
        won = super().swap(key, new, expected)
        self.seen.pop(key, None)
        return won


class Forgets(Good):
    """Claims to be durable and is not."""


CAUGHT_BY = [
    (LostUpdate, "test_does_not_create_twice"),
    (LostUpdate, "test_replaces_the_version_that_was_loaded"),
    (LostUpdate, "test_agrees_with_a_dictionary"),
    (CheckThenAct, "test_one_of_many_threads_creates"),
    (CheckThenAct, "test_threads_lose_no_update"),
    (VersionsPerBlock, "test_versions_never_come_back"),
    (VersionsPerBlock, "test_agrees_with_a_dictionary"),
    (VersionsByContent, "test_versions_never_come_back"),
    (VersionsByContent, "test_replacing_by_the_same_content_is_a_replacement"),
    (DeletesAnything, "test_deletes_the_version_that_was_loaded"),
    (CreatesOnUpdate, "test_does_not_replace_what_is_gone"),
    (SaysYes, "test_does_not_create_twice"),
    (FoldsCase, "test_keeps_keys_apart"),
    (CutsKeys, "test_keeps_keys_apart"),
    (Unordered, "test_keeps_keys_apart"),
    (Listing, "test_does_not_replace_what_is_gone"),
    (SixtyFourBits, "test_keeps_every_value"),
    (DropsLeases, "test_keeps_a_full_block"),
    (Seconds, "test_keeps_a_full_block"),
    (Remembers, "test_handles_see_each_other"),
    (Forgets, "test_blocks_outlive_the_store"),
]


def contract_of(store):
    class Contract(StoreContract):
        durable = multi_process = True

        def open(self):
            return store()

        def reopen(self, opened):
            return store(opened) if store is Remembers else store()

    return Contract()


@pytest.mark.parametrize(("store", "test"), CAUGHT_BY)
def test_broken_store_is_caught(store, test):
    with pytest.raises(AssertionError):
        getattr(contract_of(store), test)()


def test_wildcards_in_prefixes_are_caught():
    with pytest.raises(AssertionError):
        contract_of(Like).test_keys_start_with_the_prefix("a_")


@pytest.mark.parametrize("test", sorted({test for _, test in CAUGHT_BY}))
def test_the_store_they_break_is_sound(test):
    contract = contract_of(Good)
    contract.durable = contract.multi_process = False
    try:
        getattr(contract, test)()
    except pytest.skip.Exception:
        assert test in ("test_handles_see_each_other", "test_blocks_outlive_the_store")


def test_a_process_that_fails_fails_the_test(capfd):
    from podnet.testing.together import in_processes

    def child(number):
        assert number != 1, "as planned"

    with pytest.raises(AssertionError, match="exit codes"):
        in_processes(2, child)
    assert "as planned" in capfd.readouterr().err


def test_blocks_are_immutable_values():
    block = Block(domain="d", version=4, index=0)
    with pytest.raises(TypeError):
        block.leases[0] = None
