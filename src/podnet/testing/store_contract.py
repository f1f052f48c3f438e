"""The contract of the Store seam, for any store.

A store of your own is held to it with a subclass::

    class TestMyStore(podnet.testing.StoreContract):
        def open(self):
            return MyStore()
"""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.model.addresses import Address
from podnet.model.block import BLOCK_SIZE, Block
from podnet.model.lease import Lease, Owner
from podnet.testing.allocating_contract import AllocatingContract
from podnet.testing.ground_contract import (
    DOMAIN,
    clear,
    contract_block,
    contract_key,
    loaded,
    put,
    version_of,
)
from podnet.testing.machines import StoreMachine, quick, run_machine
from podnet.testing.seek_contract import SeekContract
from podnet.testing.sharing_contract import SharingContract
from podnet.testing.strategies import blocks

ODD_KEYS = (
    "a",
    "a/b",
    "a/b/c",
    "a/c",
    "A/b",
    "ab",
    "a_b",
    "a%b",
    "a//b",
    "/",
    "//",
    "a/",
    "/a",
    ".",
    "..",
    "../a",
    ".hidden",
    "a/.",
    "a/..",
    "a/.lock",
    ".lock",
    "%",
    "%%",
    "%2F",
    "a%2Fb",
    "*",
    "a*",
    "?",
    "[a]",
    "\\",
    "a b",
    " a",
    "'; DROP TABLE blocks; --",
    '"',
    "ä",
    "a\u0308",
    "日本/語",
    "😀",
    "x" * 300,
    "x" * 299 + "y",
    "x" * 300 + "/" + "y" * 300,
    "4/0000ff",
)
KEY = contract_key(0)
NEVER = contract_key(1)


class StoreContract(SeekContract, SharingContract, AllocatingContract):
    """Subclass it as ``Test…`` and return a new, empty store from ``open``.

    Attributes:
        durable: what was swapped in is there when the store is opened again; needs ``reopen``.
        multi_process: several processes may use the same blocks at once; needs ``reopen``.
        seeks: it has ``seek`` (``podnet.ports.Seeker``).
        odd_keys: it takes any printable text for a key; False for a store that keeps blocks
            under their own keys only.
        threads: threads of the concurrency tests.
    """

    def test_is_empty_when_new(self) -> None:
        """There are no keys, and loading any gives None."""
        with self.opened() as store:
            assert list(store.keys("")) == []
            assert store.load(KEY) is None

    def test_creates(self) -> None:
        """None is replaced by a block."""
        with self.opened() as store:
            assert store.swap(KEY, contract_block(KEY, 1), None) is True
            block, version = loaded(store, KEY)
            assert block == contract_block(KEY, 1)
            assert isinstance(version, str)
            assert version

    def test_does_not_create_twice(self) -> None:
        """Who expects nothing where a block is loses, and changes nothing."""
        with self.opened() as store:
            store.swap(KEY, contract_block(KEY, 1), None)
            before = store.load(KEY)
            assert store.swap(KEY, contract_block(KEY, 2), None) is False
            assert store.swap(KEY, None, None) is False
            assert store.load(KEY) == before

    def test_replaces_the_version_that_was_loaded(self) -> None:
        """The loaded version wins once."""
        with self.opened() as store:
            version = put(store, contract_block(KEY, 1))
            assert store.swap(KEY, contract_block(KEY, 2), version) is True
            assert loaded(store, KEY)[0] == contract_block(KEY, 2)
            assert version_of(store, KEY) != version
            assert store.swap(KEY, contract_block(KEY, 3), version) is False
            assert loaded(store, KEY)[0] == contract_block(KEY, 2)

    def test_does_not_replace_what_is_gone(self) -> None:
        """Who expects a version where nothing is loses, and creates nothing."""
        with self.opened() as store:
            version = put(store, contract_block(KEY, 1))
            store.swap(KEY, None, version)
            assert store.swap(KEY, contract_block(KEY, 2), version) is False
            assert store.swap(NEVER, contract_block(NEVER, 2), version) is False
            assert store.load(KEY) is None
            assert store.load(NEVER) is None
            assert list(store.keys("")) == []

    def test_deletes_the_version_that_was_loaded(self) -> None:
        """A stale version deletes nothing; deleting nothing where nothing is succeeds."""
        with self.opened() as store:
            stale = put(store, contract_block(KEY, 1))
            store.swap(KEY, contract_block(KEY, 2), stale)
            assert store.swap(KEY, None, stale) is False
            assert store.load(KEY) is not None
            assert store.swap(KEY, None, version_of(store, KEY)) is True
            assert store.load(KEY) is None
            assert store.swap(KEY, None, None) is True

    def test_versions_never_come_back(self) -> None:
        """Not with the same content, nor for a block created anew (ABA)."""
        with self.opened() as store:
            seen: set[str] = set()
            for turn in range(12):
                version = put(store, contract_block(KEY, turn % 2))
                assert version not in seen, "a version came back"
                seen.add(version)
                if turn % 3 == 0:
                    assert store.swap(KEY, None, version) is True
            for old in seen - {version_of(store, KEY)}:
                assert store.swap(KEY, contract_block(KEY, 9), old) is False

    def test_replacing_by_the_same_content_is_a_replacement(self) -> None:
        """Of two who expect the same version one wins, even if both bring what is there."""
        with self.opened() as store:
            version = put(store, contract_block(KEY, 1))
            assert store.swap(KEY, contract_block(KEY, 1), version) is True
            assert store.swap(KEY, contract_block(KEY, 1), version) is False

    def test_keeps_keys_apart(self) -> None:
        """Any printable text is a key of its own; case, dots and wildcards count."""
        self.needs("odd_keys")
        with self.opened() as store:
            for n, key in enumerate(ODD_KEYS):
                assert store.swap(key, contract_block(key, n), None) is True, key
            for n, key in enumerate(ODD_KEYS):
                assert loaded(store, key)[0] == contract_block(key, n), key
            assert list(store.keys("")) == sorted(ODD_KEYS)
            for n, key in enumerate(ODD_KEYS):
                assert store.swap(key, None, version_of(store, key)) is True, key
                assert list(store.keys("")) == sorted(ODD_KEYS[n + 1 :])

    @pytest.mark.parametrize(
        "prefix", ["a", "a/", "a/b", "a_", "a%", "A", "*", "x" * 300, "ä", "z"]
    )
    def test_keys_start_with_the_prefix(self, prefix: str) -> None:
        """A prefix is text, not a path nor a pattern; keys come in order."""
        self.needs("odd_keys")
        with self.opened() as store:
            for key in ODD_KEYS:
                store.swap(key, contract_block(key), None)
            assert list(store.keys(prefix)) == sorted(k for k in ODD_KEYS if k.startswith(prefix))

    def test_keys_of_blocks_come_in_the_order_of_addresses(self) -> None:
        """The keys of one domain and family are those under its prefix, and sorted."""
        with self.opened() as store:
            for domain in (DOMAIN, DOMAIN + "-2", "Contract"):
                for n in (7, 300, 2):
                    put(store, contract_block(contract_key(n, domain), n))
            found = list(store.keys(f"{DOMAIN}/4/"))
            assert found == [contract_key(n) for n in (2, 7, 300)]
            assert len(list(store.keys(""))) == 9
            assert list(store.keys(f"{DOMAIN}/6/")) == []

    def test_keeps_every_value(self) -> None:
        """What is loaded equals what was swapped in: numbers of any size, names of any script."""
        with self.opened() as store:

            @quick()
            @given(block=blocks())
            def keeps(block: Block) -> None:
                clear(store)
                put(store, block)
                assert loaded(store, block.key)[0] == block

            keeps()

    def test_keeps_every_change(self) -> None:
        """Any block may be replaced by any other of its key: nothing of the former is left."""
        with self.opened() as store:

            @quick()
            @given(turns=st.lists(blocks(domain=DOMAIN, version=4, index=1), max_size=4))
            def keeps(turns: list[Block]) -> None:
                clear(store)
                for block in turns:
                    put(store, block)
                    assert loaded(store, block.key)[0] == block

            keeps()

    @pytest.mark.parametrize(
        "change",
        [
            {"sequence": 1 << 70},
            {"freed": {}},
            {"freed": {1: 1.7e9, 511: 1.7e9 + 0.25}},
            {"holder": "node-7"},
            {"holder": "node-7", "recalled": True},
            {"leases": {}},
        ],
        ids=lambda change: "-".join(change) + f"-{len(repr(change))}",
    )
    def test_keeps_a_change_of_one_field(self, change: dict[str, object]) -> None:
        """Also of one that tells nothing about leases."""
        before = contract_block(KEY, 5)
        after = evolve(before, **change)  # type: ignore[arg-type] # fields by name
        with self.opened() as store:
            for block in (before, after, before):
                put(store, block)
                assert loaded(store, KEY)[0] == block

    @pytest.mark.parametrize("field", ["owner", "claim", "sequence", "node", "since", "pool"])
    def test_keeps_a_change_of_one_lease(self, field: str) -> None:
        """A lease that changes hands is another one, on the same address."""
        before = evolve(contract_block(KEY, 5), sequence=9)
        values = {"owner": Owner("other", "eth1"), "claim": "default/web-0", "sequence": 9}
        values |= {"node": "node-2", "since": 1.7e9 + 1 / 3, "pool": ""}
        changed = evolve(before.leases[5], **{field: values[field]})  # type: ignore[arg-type]
        after = evolve(before, leases={5: changed})
        with self.opened() as store:
            for block in (before, after, before):
                put(store, block)
                assert loaded(store, KEY)[0] == block

    def test_keeps_a_full_block(self) -> None:
        """512 leases fit, and so do the times of 512 releases."""
        block = contract_block(contract_key(BLOCK_SIZE))
        owner = Owner("c" * 64, "eth1", "namespace", "pod" * 20, "u" * 36)
        leases = {
            n: Lease(
                domain=block.domain,
                pool="pool",
                ip=Address(4, block.first + n),
                length=16,
                owner=owner,
                since=1.7e9 + n / 7,
                sequence=n,
            )
            for n in range(BLOCK_SIZE)
        }
        full = evolve(block, leases=leases, sequence=BLOCK_SIZE, freed={})
        rested = evolve(full, leases={}, freed={n: lease.since + 60 for n, lease in leases.items()})
        with self.opened() as store:
            for each in (full, rested, full):
                put(store, each)
                assert loaded(store, full.key)[0] == each

    def test_keeps_many_blocks(self) -> None:
        """A block that nobody asked for in a long time is the same as one just swapped in."""
        keys = [contract_key(n) for n in range(100)]
        with self.opened() as store:
            for turn in range(2):
                for n, key in enumerate(keys):
                    put(store, contract_block(key, n + turn))
                for n, key in enumerate(keys):
                    assert loaded(store, key)[0] == contract_block(key, n + turn)
            assert store.swap(keys[0], None, version_of(store, keys[0])) is True
            assert list(store.keys("")) == keys[1:]

    def test_values_cannot_be_changed_from_outside(self) -> None:
        """Neither through what was given nor through what was loaded."""
        block = contract_block(KEY, 1)
        leases: dict[int, Lease] = {}
        with self.opened() as store:
            put(store, evolve(block, leases=leases))
            leases[0] = block.leases[1]
            found = loaded(store, KEY)[0]
            assert not found.leases
            with pytest.raises((TypeError, AttributeError)):
                found.leases[0] = leases[0]  # type: ignore[index]

    def test_agrees_with_a_dictionary(self) -> None:
        """Whatever the order of calls, answers are those of a dictionary with versions."""
        run_machine(lambda: StoreMachine(self.open), examples=30, steps=30)

    def test_closing_twice_is_allowed(self) -> None:
        """The second close does nothing."""
        store = self.open()
        store.close()
        store.close()
