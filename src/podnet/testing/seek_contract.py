"""The part of the store contract about ``seek``, for stores that have it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.model.lease import Owner
from podnet.testing.ground_contract import (
    DOMAIN,
    StoreGround,
    clear,
    contract_block,
    contract_key,
    package_of,
    put,
    version_of,
)
from podnet.testing.machines import is_of, quick
from podnet.testing.strategies import blocks, owners
from podnet.testing.together import in_processes, in_threads

if TYPE_CHECKING:
    from podnet.model.block import Block
    from podnet.ports import Seeker, Store

PREFIX = f"{DOMAIN}/4/"
KEYS = [contract_key(n) for n in range(4)]
ODD_NAMES = (
    *("%", "_", "*", "[a]", "?", "'", '"', "\\", "a|b", "a:b", "a b", "a/b"),
    *("ä", "a\u0308", "日本", "😀", "x" * 999),
)
OWNER = Owner("container-5", "eth1", "default", "pod-5", "uid-5")


def held_by(key: str, *owners: Owner) -> Block:
    """Return a block in which each of the owners has a lease."""
    block = contract_block(key)
    lease = block.leases[0]
    first = lease.ip.value
    leases = {
        n: evolve(lease, ip=evolve(lease.ip, value=first + n), owner=owner)
        for n, owner in enumerate(owners)
    }
    return evolve(block, leases=leases, freed={})


def sought(store: Store, owner: Owner, prefix: str = PREFIX) -> list[str]:
    """Return what ``seek`` finds; every key has the prefix."""
    found = list(cast("Seeker", store).seek(prefix, owner))
    assert [key for key in found if not key.startswith(prefix)] == []
    return found


class SeekContract(StoreGround):
    """Part of ``StoreContract``; each test is skipped where ``seeks`` is False."""

    def test_seeks_what_it_says(self) -> None:
        """A store that has ``seek`` says so, that the contract holds it to it."""
        with self.opened() as store:
            assert callable(getattr(store, "seek", None)) == self.seeks, (
                f"seeks is {self.seeks}, and the store {'lacks' if self.seeks else 'has'} seek"
            )

    def test_seeks_nothing_in_an_empty_store(self) -> None:
        """There is nothing, and that is no error."""
        self.needs("seeks")
        with self.opened() as store:
            assert sought(store, OWNER) == []

    def test_seeks_by_container_and_by_pod(self) -> None:
        """The same container, or the same pod in a new one, on the same interface."""
        self.needs("seeks")
        with self.opened() as store:
            for n, key in enumerate(KEYS):
                put(store, held_by(key, Owner("other", "eth1"), evolve(OWNER, ifname=f"eth{n}")))
            assert KEYS[1] in sought(store, OWNER)
            assert KEYS[1] in sought(store, Owner(OWNER.container_id, "eth1"))
            assert KEYS[1] in sought(store, evolve(OWNER, container_id="new"))
            assert KEYS[3] in sought(store, evolve(OWNER, container_id="new", ifname="eth3"))

    def test_seeks_in_every_block(self) -> None:
        """An owner with leases of several pools is found in each of their blocks."""
        self.needs("seeks")
        with self.opened() as store:
            for key in KEYS:
                put(store, held_by(key, OWNER))
            assert set(sought(store, OWNER)) >= set(KEYS)

    def test_seeks_among_many_blocks(self) -> None:
        """Blocks that nobody asked for in a long time are not forgotten."""
        self.needs("seeks")
        keys = [contract_key(n) for n in range(100)]
        holders = [Owner(f"c-{n}", "eth1") for n in range(100)]
        with self.opened() as store:
            for key, owner in zip(keys, holders, strict=True):
                put(store, held_by(key, owner))
            for n in range(0, 100, 7):
                put(store, held_by(keys[n], Owner("other", "eth1"), holders[n]))
            for key, owner in zip(keys, holders, strict=True):
                assert key in sought(store, owner)

    def test_seeks_under_the_prefix_only(self) -> None:
        """Another domain's blocks are no answer, and the empty prefix means all."""
        self.needs("seeks")
        near, far = contract_key(0), contract_key(0, DOMAIN + "-2")
        with self.opened() as store:
            for key in (near, far):
                put(store, held_by(key, OWNER))
            assert sought(store, OWNER) == [near]
            assert sought(store, OWNER, f"{DOMAIN}-2/") == [far]
            assert set(sought(store, OWNER, "")) == {near, far}
            assert sought(store, OWNER, f"{DOMAIN}/6/") == []

    def test_seeks_after_every_change(self) -> None:
        """Grant, renewal, move to another block, release, delete and grant anew are seen."""
        self.needs("seeks")
        one, two = KEYS[:2]
        renewed = evolve(OWNER, container_id="renewed")
        with self.opened() as store:
            put(store, held_by(one, Owner("other", "eth1")))
            put(store, held_by(one, Owner("other", "eth1"), OWNER))
            assert one in sought(store, OWNER)
            put(store, held_by(one, renewed))
            assert one in sought(store, Owner("renewed", "eth1"))
            put(store, held_by(two, Owner("x", "eth0"), renewed))
            assert {one, two} <= set(sought(store, renewed))
            put(store, held_by(one))
            assert two in sought(store, renewed)
            assert store.swap(two, None, version_of(store, two)) is True
            put(store, held_by(two, OWNER))
            assert two in sought(store, OWNER)
            put(store, held_by(one, OWNER))
            assert {one, two} <= set(sought(store, OWNER))

    def test_seeks_as_before_after_a_swap_that_lost(self) -> None:
        """What was not swapped in hides nothing of what is there."""
        self.needs("seeks")
        with self.opened() as store:
            stale = put(store, held_by(KEYS[0]))
            put(store, held_by(KEYS[0], OWNER))
            assert store.swap(KEYS[0], held_by(KEYS[0], Owner("x", "eth1")), stale) is False
            assert store.swap(KEYS[0], None, stale) is False
            assert KEYS[0] in sought(store, OWNER)

    def test_seeks_odd_names(self) -> None:
        """Names are texts: nothing in them is a pattern or ends them."""
        self.needs("seeks")
        with self.opened() as store:
            for name in ODD_NAMES:
                for owner in (Owner(name, name), Owner("c", name, "n", "p", name)):
                    put(store, held_by(KEYS[0], Owner("other", "eth1"), owner))
                    assert KEYS[0] in sought(store, owner), name
                    assert KEYS[0] in sought(store, Owner(owner.container_id, name)), name

    def test_seeks_any_owner_of_any_block(self) -> None:
        """Whatever is swapped in, each owner is found where it has a lease."""
        self.needs("seeks")
        turns = st.integers(1, 3).flatmap(lambda n: blocks(domain=DOMAIN, version=4, index=n))
        with self.opened() as store:

            @quick()
            @given(turns=st.lists(turns, max_size=4), stranger=owners())
            def finds(turns: list[Block], stranger: Owner) -> None:
                clear(store)
                model: dict[str, Block] = {}
                for block in turns:
                    put(store, block)
                    model[block.key] = block
                held = {lease.owner for block in turns for lease in block.leases.values()}
                for owner in (stranger, *held):
                    wanted = {
                        key
                        for key, block in model.items()
                        if any(is_of(lease.owner, owner) for lease in block.leases.values())
                    }
                    assert wanted <= set(sought(store, owner))

            finds()

    def test_threads_seek_what_they_swapped(self) -> None:
        """As soon as a swap has returned, ``seek`` knows it, whatever other threads do."""
        self.needs("seeks")
        with self.opened() as store:
            in_threads(
                self.threads,
                lambda n: _come_and_go(store, f"thread-{n}", 10),
                shaking=package_of(store),
            )

    def test_handles_seek_what_others_swapped(self) -> None:
        """Another handle's grants, renewals and deletes are known at once."""
        self.needs("seeks")
        self.needs("multi_process")
        with self.opened() as one, contextlib.closing(self.reopen(one)) as two:
            assert sought(two, OWNER) == []
            put(one, held_by(KEYS[0], OWNER))
            assert KEYS[0] in sought(two, OWNER)
            renewed = evolve(OWNER, container_id="renewed", pod_uid="")
            put(two, held_by(KEYS[0], renewed))
            assert KEYS[0] in sought(one, renewed)
            put(one, held_by(KEYS[1], renewed))
            assert {*KEYS[:2]} <= set(sought(two, renewed))
            assert two.swap(KEYS[0], None, version_of(two, KEYS[0])) is True
            assert KEYS[1] in sought(one, renewed)
            put(two, held_by(KEYS[0], OWNER))
            assert KEYS[0] in sought(one, OWNER)
            put(one, held_by(KEYS[2], OWNER))
            assert {KEYS[0], KEYS[2]} <= set(sought(two, OWNER))

    def test_processes_seek_what_they_swapped(self) -> None:
        """Forked processes, on handles of their own and inherited ones, find their leases."""
        self.needs("seeks")
        self.needs("multi_process")
        with self.opened() as store:
            put(store, held_by(KEYS[0], OWNER))
            assert KEYS[0] in sought(store, OWNER)

            def child(number: int) -> None:
                mine = store if number % 2 else self.reopen(store)
                _come_and_go(mine, f"process-{number}", 10)

            in_processes(4, child)
            for number in range(4):
                assert sought(store, Owner(f"process-{number}-9", "eth1")), number


def _come_and_go(store: Store, name: str, times: int) -> None:
    """Take a lease in one block after the other; give all but the last back."""
    for turn in range(times):
        key, owner = (
            KEYS[turn % len(KEYS)],
            Owner(f"{name}-{turn}", "eth1", "", "", f"{name}{turn}"),
        )
        _change(store, key, owner, hold=True)
        assert key in sought(store, owner), f"{owner} is not found right after its swap"
        assert key in sought(store, evolve(owner, container_id="new")), "nor by its pod"
        if turn < times - 1:
            _change(store, key, owner, hold=False)


def _change(store: Store, key: str, owner: Owner, *, hold: bool) -> None:
    while True:
        block, version = store.load(key) or (held_by(key), None)
        others = [x.owner for _, x in sorted(block.leases.items()) if x.owner != owner]
        if store.swap(key, held_by(key, *others, *([owner] if hold else [])), version):
            return
