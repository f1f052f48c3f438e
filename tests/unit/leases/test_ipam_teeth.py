"""Address management that is broken on purpose: the machine must catch every one of it."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import Phase

from podnet.engine.turns import Turn
from podnet.errors import PoolExhaustedError
from podnet.ipam import grant, pick, space
from podnet.model.lease import Owner
from podnet.stores.memory import MemoryStore
from podnet.testing import IpamMachine, run_machine


class LostUpdate(MemoryStore):
    def swap(self, key, new, expected):
        current = self.load(key)
        return super().swap(key, new, current[1] if current else None)


def run(store=MemoryStore):
    # The same runs each time, and the first failure is enough.
    run_machine(
        lambda: IpamMachine(store),
        examples=300,
        steps=30,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
    )


def _last_is_lost(monkeypatch):
    right = space.intervals
    monkeypatch.setattr(
        space, "intervals", lambda pool: (*right(pool)[:-1], _shorter(right(pool)[-1]))
    )


def _shorter(span):
    return span[0], max(span[0], span[1] - 1)


def _one_beyond_the_end(monkeypatch):
    right = space.bounds
    monkeypatch.setattr(space, "bounds", lambda pool: (right(pool)[0], right(pool)[1] + 1))


def _excludes_end_too_early(monkeypatch):
    right = space.subtract
    monkeypatch.setattr(
        space,
        "subtract",
        lambda spans, cuts: right(spans, [(a, b - 1) if b > a else (a, b) for a, b in cuts]),
    )


def _gateway_is_handed_out(monkeypatch):
    right = space.intervals
    monkeypatch.setattr(space, "intervals", lambda pool: right(_without_gateway(pool)))


def _without_gateway(pool):
    return evolve(pool, gateway=None)


def _late_release_frees_the_successor(monkeypatch):
    def by_pod(block, lease):
        return grant._without(block, lambda held: held.ip == lease.ip)

    monkeypatch.setattr(grant, "end", by_pod)


def _release_by_owner_only(monkeypatch):
    monkeypatch.setattr(
        grant,
        "end",
        lambda block, lease: grant._without(
            block, lambda held: (held.ip, held.owner.key) == (lease.ip, lease.owner.key)
        ),
    )


def _release_by_interface(monkeypatch):
    def revoke(block, owner, *, pool=None, network=None):
        return grant._without(
            block, lambda held: held.owner.ifname == owner.ifname and pool in (None, held.pool)
        )

    monkeypatch.setattr(grant, "revoke", revoke)


def _sequence_stands_still(monkeypatch):
    right = grant.grant

    def broken(block, value, pool, owner, **rest):
        new, lease = right(evolve(block, sequence=0), value, pool, owner, **rest)
        return new, lease

    monkeypatch.setattr(grant, "grant", broken)


def _new_address_every_time(monkeypatch):
    monkeypatch.setattr(grant, "find", lambda block, pool, owner: None)


def _container_alone_counts(monkeypatch):
    right = grant.find

    def find(block, pool, owner):
        return right(block, pool, Owner(owner.container_id, owner.ifname))

    monkeypatch.setattr(grant, "find", find)


def _sixty_four_bits(monkeypatch):
    def grant64(block, value, pool, owner, **rest):
        return right(block, value % (1 << 64), pool, owner, **rest)

    right = grant.grant
    monkeypatch.setattr(grant, "grant", grant64)


def _highest_first(monkeypatch):
    monkeypatch.setattr(
        pick.Lowest, "pick", lambda self, free, ask: max((b for _, b in free), default=None)
    )


def _sweeps_other_nodes(monkeypatch):
    right = grant.sweep

    def sweep(block, *, network, node, valid):
        for each in ("node-0", "node-1", "node-2"):
            block, _ = right(block, network=network, node=each, valid=valid)
        return right(block, network=network, node=node, valid=valid)

    monkeypatch.setattr(grant, "sweep", sweep)


def _gives_up_on_a_lost_race(monkeypatch):
    right = Turn.run

    def once(self, requests):
        for request in right(self, requests):
            request.refuse(PoolExhaustedError("no luck"))
        return []

    monkeypatch.setattr(Turn, "run", once)


BROKEN = [
    _last_is_lost,
    _one_beyond_the_end,
    _excludes_end_too_early,
    _gateway_is_handed_out,
    _late_release_frees_the_successor,
    _release_by_owner_only,
    _release_by_interface,
    _sequence_stands_still,
    _new_address_every_time,
    _container_alone_counts,
    _sixty_four_bits,
    _highest_first,
    _sweeps_other_nodes,
    _gives_up_on_a_lost_race,
]


@pytest.mark.parametrize("breaks", BROKEN)
def test_broken_allocator_is_caught(breaks, monkeypatch):
    breaks(monkeypatch)
    with pytest.raises((AssertionError, KeyError, PoolExhaustedError, ExceptionGroup)):
        run()


def test_lost_update_is_caught():
    with pytest.raises((AssertionError, ExceptionGroup)):
        run(LostUpdate)
