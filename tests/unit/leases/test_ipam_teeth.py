"""Address management that is broken on purpose: the machine must catch every one of it."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import Phase

from podnet.engine.turns import Turn
from podnet.errors import PodnetError, PoolExhaustedError, StoreError
from podnet.ipam import grant, pick, space
from podnet.model.addresses import Address
from podnet.model.lease import Owner
from podnet.stores.memory import MemoryStore
from podnet.testing import IpamMachine, run_machine


class LostUpdate(MemoryStore):
    def swap(self, key, new, expected):
        return super().swap(key, new, (self.load(key) or (None, None))[1])


class LosesFreed(MemoryStore):
    def swap(self, key, new, expected):
        return super().swap(key, new and evolve(new, freed={}), expected)


class SixtyFourBits(MemoryStore):
    def swap(self, key, new, expected):
        if new is not None and new.version == 6:
            leases = {
                n: evolve(x, ip=Address(6, x.ip.value % (1 << 64))) for n, x in new.leases.items()
            }
            new = evolve(new, leases=leases)
        return super().swap(key, new, expected)


class SeeksNoPods(MemoryStore):
    def seek(self, prefix, owner):
        return super().seek(prefix, evolve(owner, pod_uid=""))


class SeeksNothing(MemoryStore):
    def seek(self, prefix, owner):
        return []


class ForgetsLastKey(MemoryStore):
    def keys(self, prefix):
        return super().keys(prefix)[:-1]


def run(store=MemoryStore):
    # The first failure is enough. What runs a seed stands for changes with the modules imported.
    for seed in range(8):
        run_machine(
            lambda: IpamMachine(store),
            examples=300,
            steps=30,
            seed=seed,
            phases=[Phase.generate],
            database=None,
        )


def _last_is_lost(monkeypatch):
    right = space.intervals

    def intervals(pool):
        *others, (low, high) = right(pool)
        return (*others, (low, max(low, high - 1)))

    monkeypatch.setattr(space, "intervals", intervals)


def _first_is_lost(monkeypatch):
    right = space.intervals

    def intervals(pool):
        (low, high), *others = right(pool)
        return ((min(low + 1, high), high), *others)

    monkeypatch.setattr(space, "intervals", intervals)


def _one_beyond_the_end(monkeypatch):
    right = space.bounds
    monkeypatch.setattr(space, "bounds", lambda pool: (right(pool)[0], right(pool)[1] + 1))


def _one_before_the_beginning(monkeypatch):
    right = space.bounds
    monkeypatch.setattr(space, "bounds", lambda pool: (right(pool)[0] - 1, right(pool)[1]))


def _network_and_broadcast_are_handed_out(monkeypatch):
    monkeypatch.setattr(space, "usable", lambda network, edges: (network.first, network.last))


def _cuts_changed(monkeypatch, change):
    right = space.subtract
    monkeypatch.setattr(
        space, "subtract", lambda spans, cuts: right(spans, sorted(map(change, cuts)))
    )


def _excludes_end_too_early(monkeypatch):
    _cuts_changed(monkeypatch, lambda cut: (cut[0], max(cut[0], cut[1] - 1)))


def _excludes_begin_too_late(monkeypatch):
    _cuts_changed(monkeypatch, lambda cut: (min(cut[0] + 1, cut[1]), cut[1]))


def _excludes_end_too_late(monkeypatch):
    _cuts_changed(monkeypatch, lambda cut: (cut[0], cut[1] + 1))


def _without(monkeypatch, **parts):
    right = space.intervals
    monkeypatch.setattr(space, "intervals", lambda pool: right(evolve(pool, **parts)))


def _gateway_is_handed_out(monkeypatch):
    _without(monkeypatch, gateway=None)


def _reserved_is_handed_out(monkeypatch):
    _without(monkeypatch, reserved=())


def _excluded_is_handed_out_on_request(monkeypatch):
    monkeypatch.setattr(space, "why_not", lambda pool, address: None)
    _without(monkeypatch, exclude=())


def _late_release_frees_the_successor(monkeypatch):
    def end(block, lease, *, now):
        return grant._without(block, [n for n, x in block.leases.items() if x.ip == lease.ip], now)

    monkeypatch.setattr(grant, "end", end)


def _late_release_by_owner(monkeypatch):
    def end(block, lease, *, now):
        mine = lease.ip, lease.owner.key
        gone = [n for n, x in block.leases.items() if (x.ip, x.owner.key) == mine]
        return grant._without(block, gone, now)

    monkeypatch.setattr(grant, "end", end)


def _revokes(monkeypatch, chosen):
    def revoke(block, owner, *, pool=None, network=None, now):
        gone = [n for n, x in block.leases.items() if chosen(x, owner, pool)]
        return grant._without(block, gone, now)

    monkeypatch.setattr(grant, "revoke", revoke)


def _release_by_interface(monkeypatch):
    _revokes(
        monkeypatch,
        lambda x, owner, pool: x.owner.ifname == owner.ifname and pool in (None, x.pool),
    )


def _release_by_container(monkeypatch):
    _revokes(
        monkeypatch,
        lambda x, owner, pool: x.owner.container_id == owner.container_id,
    )


def _release_by_pod(monkeypatch):
    """The late DEL of an old container takes the address from the new one."""
    _revokes(
        monkeypatch,
        lambda x, owner, pool: x.owner.pod_uid == owner.pod_uid and pool in (None, x.pool),
    )


def _release_of_every_pool(monkeypatch):
    _revokes(monkeypatch, lambda x, owner, pool: x.owner.key == owner.key)


def _release_takes_one(monkeypatch):
    """Nothing is freed, although it is told."""
    right = grant.revoke

    def revoke(block, owner, **rest):
        _, gone = right(block, owner, **rest)
        return evolve(block), gone

    monkeypatch.setattr(grant, "revoke", revoke)


def _released_at_no_time(monkeypatch):
    right = grant._without
    monkeypatch.setattr(grant, "_without", lambda block, gone, now: right(block, gone, 0.0))


def _granted_and_resting(monkeypatch):
    """What is held is told to be free since its last release."""
    right = grant._with

    def held(block, offset, lease):
        return evolve(right(block, offset, lease), freed=block.freed)

    monkeypatch.setattr(grant, "_with", held)


def _sequence_stands_still(monkeypatch):
    right = grant.grant

    def granted(block, value, pool, owner, **rest):
        return right(evolve(block, sequence=0), value, pool, owner, **rest)

    monkeypatch.setattr(grant, "grant", granted)


def _sequence_of_eight(monkeypatch):
    """It begins anew after a few grants, as a counter of few bits does."""
    right = grant._with

    def counted(block, offset, lease):
        return right(block, offset, evolve(lease, sequence=lease.sequence % 8))

    monkeypatch.setattr(grant, "_with", counted)


def _finds(monkeypatch, find):
    monkeypatch.setattr(grant, "find", lambda *of, **_rest: find(*of))


def _new_address_every_time(monkeypatch):
    _finds(monkeypatch, lambda block, pool, owner: None)


def _container_alone_counts(monkeypatch):
    right = grant.find
    _finds(
        monkeypatch,
        lambda block, pool, owner: right(block, pool, Owner(owner.container_id, owner.ifname)),
    )


def _pools_are_confused(monkeypatch):
    """An owner's lease of one pool is taken for that of another."""

    def find(block, pool, owner):
        return next((x for x in block.leases.values() if x.owner.key == owner.key), None)

    _finds(monkeypatch, find)


def _interfaces_are_confused(monkeypatch):
    def find(block, pool, owner):
        mine = owner.container_id, pool
        return next(
            (x for x in block.leases.values() if (x.owner.container_id, x.pool) == mine), None
        )

    _finds(monkeypatch, find)


def _renews(monkeypatch, change):
    right = grant.renew

    def renew(block, lease, owner, **rest):
        new, renewed = right(block, lease, owner, **rest)
        if new is block:
            return block, lease
        renewed = change(renewed, lease)
        return evolve(new, leases={**new.leases, lease.ip.value % 512: renewed}), renewed

    monkeypatch.setattr(grant, "renew", renew)


def _renewal_keeps_the_container(monkeypatch):
    _renews(monkeypatch, lambda new, old: evolve(new, owner=old.owner))


def _renewal_keeps_the_number(monkeypatch):
    _renews(monkeypatch, lambda new, old: evolve(new, sequence=old.sequence))


def _sixty_four_bits(monkeypatch):
    right = grant.grant

    def granted(block, value, pool, owner, **rest):
        return right(block, value % (1 << 64), pool, owner, **rest)

    monkeypatch.setattr(grant, "grant", granted)


def _highest_first(monkeypatch):
    monkeypatch.setattr(
        pick.Lowest, "pick", lambda self, free, ask: max((b for _, b in free), default=None)
    )


def _sweeps(monkeypatch, chosen):
    def sweep(block, *, network, node, valid, now):
        gone = [
            n
            for n, x in block.leases.items()
            if x.owner.key not in valid and chosen(x, network, node)
        ]
        return grant._without(block, gone, now)

    monkeypatch.setattr(grant, "sweep", sweep)


def _sweeps_other_nodes(monkeypatch):
    _sweeps(monkeypatch, lambda x, network, node: x.network == network and not x.claim)


def _sweeps_other_networks(monkeypatch):
    _sweeps(monkeypatch, lambda x, network, node: x.node == node and not x.claim)


def _sweeps_claims(monkeypatch):
    _sweeps(monkeypatch, lambda x, network, node: (x.node, x.network) == (node, network))


def _sweeps_by_container(monkeypatch):
    """Of a container that lives, an interface that is gone keeps its address."""

    def sweep(block, *, network, node, valid, now):
        alive = {container for container, _ in valid}
        gone = [
            n
            for n, x in block.leases.items()
            if (x.node, x.network, x.claim) == (node, network, "")
            and x.owner.container_id not in alive
        ]
        return grant._without(block, gone, now)

    monkeypatch.setattr(grant, "sweep", sweep)


def _gives_up_on_a_lost_race(monkeypatch):
    right = Turn.run

    def once(self, requests):
        for request in right(self, requests):
            request.refuse(PoolExhaustedError("no luck"))
        return []

    monkeypatch.setattr(Turn, "run", once)


def _win_is_not_looked_at(monkeypatch):
    right = Turn._swap

    def swap(self, index, draft):
        for rider in right(self, index, draft):
            rider.settled = True
        return []

    monkeypatch.setattr(Turn, "_swap", swap)


BROKEN = [
    _last_is_lost,
    _first_is_lost,
    _one_beyond_the_end,
    _one_before_the_beginning,
    _network_and_broadcast_are_handed_out,
    _excludes_end_too_early,
    _excludes_begin_too_late,
    _excludes_end_too_late,
    _gateway_is_handed_out,
    _reserved_is_handed_out,
    _excluded_is_handed_out_on_request,
    _late_release_frees_the_successor,
    _late_release_by_owner,
    _release_by_interface,
    _release_by_container,
    _release_by_pod,
    _release_of_every_pool,
    _release_takes_one,
    _released_at_no_time,
    _granted_and_resting,
    _sequence_stands_still,
    _sequence_of_eight,
    _new_address_every_time,
    _container_alone_counts,
    _pools_are_confused,
    _interfaces_are_confused,
    _renewal_keeps_the_container,
    _renewal_keeps_the_number,
    _sixty_four_bits,
    _highest_first,
    _sweeps_other_nodes,
    _sweeps_other_networks,
    _sweeps_claims,
    _sweeps_by_container,
    _gives_up_on_a_lost_race,
    _win_is_not_looked_at,
]


@pytest.mark.parametrize("breaks", BROKEN)
def test_broken_allocator_is_caught(breaks, monkeypatch):
    breaks(monkeypatch)
    # Also what the code under test raises against itself is a catch; a mistake in here is none.
    with pytest.raises((AssertionError, PodnetError)):
        run()


@pytest.mark.parametrize(
    "store",
    [LostUpdate, LosesFreed, SixtyFourBits, SeeksNoPods, SeeksNothing, ForgetsLastKey],
)
def test_broken_store_is_caught(store):
    with pytest.raises((AssertionError, StoreError)):
        run(store)
