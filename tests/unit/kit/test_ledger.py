"""The ledger of the simulation, and its end: each of their complaints can come."""

from __future__ import annotations

import pytest
from attrs import evolve

from podnet.engine.leases import Ipam
from podnet.errors import AddressUnavailableError, PoolExhaustedError, StoreError
from podnet.model.addresses import parse_address
from podnet.model.lease import Lease, Owner
from podnet.model.pool import Pool
from podnet.testing import Simulation, World
from podnet.testing.ledger import Ledger, Op, pod_of
from podnet.testing.simulation import plain_node

POOL = Pool("p", "10.0.0.0/30", domain="d")
ONE, TWO = "10.0.0.1", "10.0.0.2"
MAY = {"p": (ONE, TWO)}
WEB, DB = (Owner(f"{name}-0", "eth0", "ns", name, f"uid-{name}") for name in ("web", "db"))
NEXT = evolve(WEB, container_id="web-1")


def lease(owner, ip=ONE, sequence=1, **rest):
    known = {"domain": "d", "pool": "p", "length": 30, "node": "n", "network": "net", **rest}
    return Lease(ip=parse_address(ip), owner=owner, sequence=sequence, **known)


def asks(owner, **rest):
    return Op(what="allocate", node="n", pool=POOL, owner=owner, **rest)


@pytest.fixture
def ledger():
    return Ledger(MAY)


def told(ledger, held, among=()):
    """An owner is told a lease that is in the store, among others."""
    op = asks(held.owner)
    ledger.begin(op)
    ledger.observe([held, *among])
    ledger.answered(op, held)
    return held


def test_an_address_held_twice(ledger):
    with pytest.raises(AssertionError, match="held twice"):
        ledger.observe([lease(WEB), lease(DB, sequence=2)])


def test_an_address_taken_away(ledger):
    told(ledger, lease(WEB))
    with pytest.raises(AssertionError, match="was taken from"):
        ledger.observe([])


def test_an_address_given_to_another(ledger):
    told(ledger, lease(WEB))
    with pytest.raises(AssertionError, match="is held by"):
        ledger.observe([lease(DB, sequence=2)])


def test_an_address_told_without_a_lease(ledger):
    op = asks(WEB)
    ledger.begin(op)
    with pytest.raises(AssertionError, match="was taken from"):
        ledger.answered(op, lease(WEB))


def test_a_number_told_twice(ledger):
    ledger.observe([lease(WEB)])
    with pytest.raises(AssertionError, match="one number"):
        ledger.observe([lease(DB)])


def test_a_number_that_goes_back(ledger):
    ledger.observe([lease(WEB, sequence=5)])
    ledger.observe([])
    with pytest.raises(AssertionError, match="is older than"):
        ledger.observe([lease(DB, sequence=4)])


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"owner": DB}, {}),
        ({"pool": "q"}, {}),
        ({"domain": "e"}, {}),
        ({"ip": parse_address("10.0.0.3")}, {}),
        ({}, {"requested": TWO}),
    ],
)
def test_an_answer_to_another_question(ledger, change, asked):
    op, answer = asks(WEB, **asked), evolve(lease(WEB), **change)
    ledger.begin(op)
    ledger.observe([answer])
    with pytest.raises(AssertionError):
        ledger.answered(op, answer)


def test_a_second_address(ledger):
    first = told(ledger, lease(WEB))
    op = asks(WEB)
    ledger.begin(op)
    ledger.observe([first, lease(WEB, TWO)])
    with pytest.raises(AssertionError, match=r"holds 10\.0\.0\.1 and was given 10\.0\.0\.2"):
        ledger.answered(op, lease(WEB, TWO))


def test_a_refusal_while_one_is_free(ledger):
    op = asks(WEB)
    ledger.begin(op)
    ledger.observe([lease(DB)])
    with pytest.raises(AssertionError, match=r"10\.0\.0\.2.* were free all the time"):
        ledger.refused(op, PoolExhaustedError("full"))


def turns(ledger, op):
    """One address is taken after the other was freed: never all, and each for a while."""
    ledger.observe([lease(DB)])
    ledger.begin(op)
    ledger.observe([])
    ledger.observe([lease(DB, TWO)])


def test_a_refusal_while_one_or_another_is_free(ledger):
    op = asks(WEB)
    turns(ledger, op)
    with pytest.raises(AssertionError, match="one or another"):
        ledger.refused(op, PoolExhaustedError("full"))


def test_a_refusal_while_one_or_another_is_free_may_be_allowed():
    ledger, op = Ledger(MAY, strict=False), asks(WEB)
    turns(ledger, op)
    ledger.refused(op, PoolExhaustedError("full"))


def test_a_refusal_with_nothing_free_is_right(ledger):
    op = asks(WEB)
    ledger.begin(op)
    ledger.observe([lease(DB), lease(DB, TWO)])
    ledger.observe([])
    ledger.refused(op, PoolExhaustedError("full"))


def test_a_refusal_to_one_who_holds(ledger):
    told(ledger, lease(WEB), [lease(DB, TWO)])
    op = asks(NEXT)
    ledger.begin(op)
    with pytest.raises(AssertionError, match="was refused, and holds"):
        ledger.refused(op, PoolExhaustedError("full"))


@pytest.mark.parametrize("held", [True, False])
def test_a_requested_address_refused(ledger, held):
    if held:
        told(ledger, lease(WEB))
    op = asks(WEB, requested=ONE)
    ledger.begin(op)
    with pytest.raises(AssertionError, match="who holds it" if held else "free all the time"):
        ledger.refused(op, AddressUnavailableError("held"))


def test_another_address_may_be_refused_to_one_who_holds(ledger):
    told(ledger, lease(WEB))
    op = asks(WEB, requested=TWO)
    ledger.begin(op)
    ledger.refused(op, AddressUnavailableError("holds another"))


def test_only_questions_may_be_refused(ledger):
    op = Op(what="release", node="n", owner=WEB)
    ledger.begin(op)
    with pytest.raises(AssertionError, match="was refused"):
        ledger.refused(op, PoolExhaustedError("?"))


def ends(held):
    return Op(what="end", node="n", lease=held)


RELEASES = {
    "release": Op(what="release", node="n", owner=WEB),
    "release of a pool": Op(what="release", node="n", owner=WEB, pool=POOL),
    "end": ends(lease(WEB)),
    "sweep": Op(what="sweep", node="n", spared=frozenset({DB.key})),
}


@pytest.mark.parametrize("name", RELEASES)
def test_released_and_held_still(name):
    ledger, op = Ledger(MAY), evolve(RELEASES[name])
    told(ledger, lease(WEB))
    ledger.begin(op)
    if name == "sweep":
        ledger.forget(pod_of(WEB))
    with pytest.raises(AssertionError, match="there still are"):
        ledger.answered(op, [])


@pytest.mark.parametrize("name", RELEASES)
def test_what_is_not_meant_is_taken_back(name):
    ledger, op = Ledger(MAY), evolve(RELEASES[name])
    ledger.begin(op)
    with pytest.raises(AssertionError, match="took back"):
        ledger.answered(op, [lease(DB, TWO)])


@pytest.mark.parametrize("name", RELEASES)
def test_what_is_meant_is_taken_back(name):
    ledger, op = Ledger(MAY), evolve(RELEASES[name])
    other = lease(DB, TWO)
    told(ledger, lease(WEB), [other])
    if name == "sweep":
        ledger.forget(pod_of(WEB))
    ledger.begin(op)
    ledger.observe([other])
    ledger.answered(op, [lease(WEB)])
    assert ledger.under_way == []
    assert ledger.holdings == {}


@pytest.mark.parametrize("op", [Op(what="release", node="n", owner=WEB), ends(lease(WEB))], ids=str)
def test_a_late_release_of_the_container_before(ledger, op):
    told(ledger, lease(WEB))
    told(ledger, lease(NEXT, sequence=2))
    ledger.begin(evolve(op))
    with pytest.raises(AssertionError, match="was taken from"):
        ledger.observe([])


def test_a_question_that_failed_may_have_renewed(ledger):
    """The lease may be the new container's: its release may take it, and may not."""
    held = told(ledger, lease(WEB))
    op = asks(NEXT)
    ledger.begin(op)
    ledger.lost(op)
    ledger.observe([evolve(held, owner=NEXT, sequence=2)])
    op = Op(what="release", node="n", owner=NEXT)
    ledger.begin(op)
    ledger.observe([])
    ledger.answered(op, [evolve(held, owner=NEXT, sequence=2)])


def test_a_stray_may_end_what_its_own_call_was_about(ledger):
    released = Op(what="release", node="n", owner=WEB)
    told(ledger, lease(WEB), [lease(DB, TWO)])
    ledger.begin(released)
    ledger.lost(released)
    told(ledger, lease(WEB), [lease(DB, TWO)])
    asking = asks(WEB)
    ledger.begin(asking)
    ledger.observe([lease(DB, TWO)], strays_of=[released])
    assert ledger.holdings == {}
    ledger.answered(asking, lease(WEB))
    assert ledger.holdings == {}, "what it was told has been overtaken"


def test_a_stray_may_not_end_what_others_have(ledger):
    told(ledger, lease(WEB))
    with pytest.raises(AssertionError, match="was taken from"):
        ledger.observe([], strays_of=[Op(what="release", node="n", owner=DB)])


def test_grants_that_are_over_are_known(ledger):
    told(ledger, lease(WEB))
    assert ledger.overdue() == []
    told(ledger, lease(NEXT, sequence=2))
    assert ledger.overdue() == [lease(WEB)]


class Leaking(Ipam):
    """Gives nothing back, and says that it failed."""

    def release(self, *args, **options):
        raise StoreError("no")


class Waiting(Ipam):
    """Waits for what never comes."""

    def allocate(self, *args, **options):
        while True:
            self._wait(1.0)


class Keeping(Ipam):
    """Keeps one address for itself."""

    def allocate(self, pool, owner, **options):
        return super().allocate(evolve(pool, exclude=[TWO]), owner, **options)


class Ticking(Ipam):
    """Releases in the background only."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.later = []

    def release(self, holder, **options):
        self.later.append((holder, options))
        return ()

    def tick(self):
        for holder, options in self.later:
            super().release(holder, **options)
        self.later.clear()


def world(kind):
    def make(site):
        ipam = kind(
            site.shared, clock=site.clock, node=site.name, jitter=lambda: 1.0, sleep=site.sleep
        )
        ipam._wait = site.sleep
        return ipam

    return World(pools=(POOL,), may=MAY, make=make)


def test_what_is_left_at_the_end_is_told():
    with Simulation(world(Leaking)) as sim:
        sim.allocate(sim.pods[0], POOL)
        with pytest.raises(AssertionError, match="there still is"):
            sim.finish()


def test_what_never_ends_is_told():
    with Simulation(world(Waiting)) as sim:
        sim.allocate(sim.pods[0], POOL)
        with pytest.raises(AssertionError, match=r"never come to an end: .*allocate p ns/node-0-0"):
            sim.settle()


def test_an_address_that_cannot_be_had_again_is_told():
    with Simulation(world(Keeping)) as sim:
        sim.allocate(sim.pods[0], POOL)
        sim.settle()
        with pytest.raises(AssertionError):
            sim.finish()


def test_a_background_is_given_its_turns():
    with Simulation(world(Ticking)) as sim:
        sim.allocate(sim.pods[0], POOL)
        sim.settle()
        sim.ledger.forget(pod_of(sim.pods[0].owner()))
        with pytest.raises(AssertionError, match="there still are"):
            # It says that all is released, and it is not: `release` may not wait for `tick`.
            sim.finish()
        assert sim.tick(sim.machines[0]) is not None
        assert sim.tick(sim.machines[0]) is None, "one at a time"


def test_plain_nodes_come_to_an_end():
    with Simulation(World(pools=(POOL,), may=MAY)) as sim:
        tasks = [sim.allocate(pod, POOL) for pod in sim.pods]
        assert None not in tasks
        sim.settle()
        assert sorted(str(t.result.ip) for t in tasks if t.error is None) == [ONE, TWO]
        sim.crash(sim.machines[0])
        assert sim.machines[0].node is None
        sim.finish()
    assert plain_node.__module__ == "podnet.testing.simulation"


def test_one_attachment_is_not_asked_about_twice_at_once():
    with Simulation(World(pools=(POOL,), may=MAY)) as sim:
        pod = sim.pods[0]
        assert sim.allocate(pod, POOL) is not None
        assert sim.allocate(pod, POOL) is None
        assert sim.release(pod) is None
        assert sim.sweep(pod.machine) is None, "GC and ADD exclude each other"
        sim.lose(pod, gone=True)
        assert pod.container == 0


def test_what_a_dead_node_did_stays():
    """A swap that was done, and whose node died before it could tell, keeps the address."""
    with Simulation(World(pools=(POOL,), may=MAY)) as sim:
        task = sim.allocate(sim.pods[0], POOL)
        sim.go(task)
        sim.go(task, "late")
        sim.crash(sim.machines[0])
        assert len(sim.strays) == 1
        sim.arrive(0)
        assert [str(x.ip) for x in sim.leases()] == [ONE]
        sim.sweep(sim.machines[0])
        sim.settle()
        assert list(sim.leases()) == []
        sim.finish()
