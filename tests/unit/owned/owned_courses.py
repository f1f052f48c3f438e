"""Courses of events that a machine comes to seldom, each told from its beginning to its end."""

from __future__ import annotations

from owned_machine import WORLD, OwnedSimulation

from podnet.testing.simulation import Pod
from podnet.testing.sites import FINE, LATE, LOST, REFUSED

BORDER, BEYOND = WORLD.pools


def course(run):
    def whole():
        with OwnedSimulation(WORLD) as sim:
            run(sim)
            sim.finish()

    whole.__name__ = run.__name__
    COURSES.append(whole)
    return whole


COURSES = []


def pods_of(sim, number):
    return [pod for pod in sim.pods if pod.machine is sim.machines[number]]


def another(sim, number, pod):
    """Return one more pod of a node; it goes like the others at the end."""
    sim.pods.append(Pod(sim.machines[number], pod))
    return sim.pods[-1]


def settled(sim, task):
    sim.settle()
    return task.result


def up_to(sim, task, what, store="the store"):
    """Let a task go on until it is about to do something to a store."""
    while not task.over:
        point = task.point
        if (getattr(point, "store", ""), getattr(point, "what", "")) == (store, what):
            return
        sim.go(task)
    raise AssertionError(f"{task.name} never came to {what}")


def publish(sim, number):
    sim.background(sim.machines[number], lambda node: node.publish())
    sim.settle()


def told_all(sim, number, pool=BORDER):
    """One node has all addresses of a pool, and has told so."""
    leases = [settled(sim, sim.allocate(pod, pool)) for pod in pods_of(sim, number)]
    publish(sim, number)
    return leases


@course
def what_others_ended_does_not_come_back(sim):
    leases = told_all(sim, 0)
    ended = settled(sim, sim.end_by_hand(sim.machines[0], leases[1]))
    assert ended == (leases[1],)
    settled(sim, sim.release(pods_of(sim, 0)[0]))
    publish(sim, 0)
    assert sim.told == [leases[2]]


@course
def what_others_ended_can_be_had_at_once(sim):
    leases = told_all(sim, 0)
    settled(sim, sim.end_by_hand(sim.machines[0], leases[1]))
    again = settled(sim, sim.allocate(another(sim, 0, 50), BORDER))
    assert again.ip == leases[1].ip
    settled(sim, sim.end_by_hand(sim.machines[0], leases[2]))
    other = settled(sim, sim.allocate(another(sim, 0, 51), BORDER, str(leases[2].ip)))
    assert other.ip == leases[2].ip


@course
def who_asks_again_holds_what_was_ended(sim):
    """A grant that others ended is not told to its owner any more: he has another one."""
    leases = told_all(sim, 0)
    task = sim.allocate(pods_of(sim, 0)[1], BORDER)
    settled(sim, sim.end_by_hand(sim.machines[1], leases[0]))
    assert task.result.ip == leases[1].ip
    again = settled(sim, sim.allocate(pods_of(sim, 0)[0], BORDER))
    publish(sim, 0)
    assert again in sim.told


def refused_claim(sim, fate):
    task = sim.allocate(pods_of(sim, 0)[0], BEYOND)
    up_to(sim, task, "swap")
    sim.go(task, fate)
    sim.settle()
    assert task.error is not None
    sim.crash(sim.machines[0])


@course
def a_claim_that_failed_is_somebody_elses(sim):
    refused_claim(sim, REFUSED)
    theirs = settled(sim, sim.allocate(pods_of(sim, 1)[0], BEYOND))
    mine = sim.allocate(pods_of(sim, 0)[0], BEYOND)
    sim.settle_with_ticks()
    assert mine.result.ip != theirs.ip


@course
def a_claim_whose_answer_was_lost_is_ones_own(sim):
    refused_claim(sim, LOST)
    before = sim.store.load(next(iter(sim.store.keys(""))))
    mine = settled(sim, sim.allocate(pods_of(sim, 0)[0], BEYOND))
    assert sim.store.load(next(iter(sim.store.keys("")))) == before
    publish(sim, 0)
    assert sim.told == [mine]


@course
def a_claim_that_comes_late_takes_nothing(sim):
    refused_claim(sim, LATE)
    sim.tick(sim.machines[0])
    sim.settle()
    sim.arrive(0)
    sim.allocate(pods_of(sim, 1)[0], BEYOND)
    sim.settle_with_ticks()
    assert len(sim.ledger.holdings) == 1


@course
def a_block_is_given_back_whatever_dies(sim):
    """A node dies at each step of giving back; the next process ends it, and loses no lease."""
    leases = told_all(sim, 0)
    for death in range(8):
        sim.background(sim.machines[0], lambda node: node.drain())
        for _ in range(death):
            if tasks := sim.runnable:
                sim.go(tasks[0], FINE)
        sim.crash(sim.machines[0])
        sim.now += 1.0
        sim.tick(sim.machines[0])
        sim.settle()
        assert [x.ip for x in sim.told] == sorted(x.ip for x in leases)
    for pod, lease in zip(pods_of(sim, 0), leases, strict=True):
        assert settled(sim, sim.allocate(pod, BORDER)).ip == lease.ip


@course
def nothing_is_granted_in_what_is_given_back(sim):
    """A pod asks at each step of giving back; what it is told it has, it has."""
    first, *_, last = pods_of(sim, 0)
    for step in range(10):
        settled(sim, sim.allocate(first, BORDER))
        sim.background(sim.machines[0], lambda node: node.drain())
        for _ in range(step):
            if tasks := sim.runnable:
                sim.go(tasks[0], FINE)
        task = sim.allocate(last, BORDER)
        while not task.over and task.can_go_on:
            sim.go(task)
        assert task.result is not None
        sim.settle()
        settled(sim, sim.release(last))


@course
def a_dead_node_that_returns_hands_nothing_out_of_what_was_taken(sim):
    told_all(sim, 0, BEYOND)
    before = sim.machines[0]
    sim.die(sim.machines[0], sim.machines[1], lost=False)
    sim.settle()
    theirs = settled(sim, sim.allocate(pods_of(sim, 1)[0], BEYOND))
    mine = sim.allocate(pods_of(sim, 0)[1], BEYOND)
    sim.settle_with_ticks()
    assert mine.result.ip != theirs.ip
    conflicts = sim.node(before).conflicts
    assert {str(x.lease.ip) for x in conflicts} >= {"10.0.2.0"}


@course
def a_holder_that_is_down_is_named(sim):
    """Neither a wrong refusal nor a wait without end."""
    told_all(sim, 0, BEYOND)
    for pod in pods_of(sim, 0):
        settled(sim, sim.release(pod))
    sim.crash(sim.machines[0])
    task = sim.allocate(pods_of(sim, 1)[0], BEYOND)
    while not task.over:
        sim.go(task)
    assert task.error is not None
    assert task.error.code == 11
    assert "node-0" in str(task.error)
