"""Kill -9 anywhere in ADD and DEL: what comes after finds everything and leaves nothing.

podnet is killed before each of its steps, each kernel operation one by one, and before each system
call that changes disk or kernel, half-written files included. Every later call is a new process.
"""

from __future__ import annotations

import itertools

import pytest

from podnet.kernel import netns

from .children import in_child
from .rig import addresses, links, rig_in, way_of

pytestmark = pytest.mark.kernel

# What must at least be among the steps that podnet was killed before.
STEPS = {
    ("macvlan", "add"): {
        *("journal.intend", "create-link", "ipam.add", "ipam-allocate", "set-sysctl"),
        *("add-address", "set-link", "add-route", "journal.finish"),
    },
    ("macvlan", "delete"): {"delete-link", "ipam.del", "ipam-release", "journal.forget"},
    ("podnet", "add"): {
        *("journal.intend", "ADD ptp eth0", "ADD macvlan eth1", "create-link", "ipam.add"),
        *("ipam-allocate", "set-sysctl", "add-address", "set-link", "add-route", "delete-route"),
        "journal.finish",
    },
    ("podnet", "delete"): {
        *("DEL macvlan eth1", "DEL ptp eth0", "delete-link", "ipam.del", "ipam-release"),
        "journal.forget",
    },
}
STEPS |= {("node", verb): STEPS["podnet", verb] for verb in ("add", "delete")}
# How many there are at least, of podnet's own and of system calls.
LEAST = {
    ("macvlan", "add"): (10, 15),
    ("macvlan", "delete"): (4, 8),
    ("podnet", "add"): (29, 35),
    ("podnet", "delete"): (12, 15),
    ("node", "add"): (29, 35),
    ("node", "delete"): (12, 15),
}


@pytest.fixture
def rig(tmp_path):
    with rig_in(tmp_path) as rig:
        yield rig


def done(ending):
    """Return what a child's call answered, which must be success."""
    code, answer = ending.value
    assert code == 0, answer
    return answer


def attached(rig, way, name):
    container = rig.container(name)
    container.result = done(in_child(lambda step: way.add(container, step)))
    assert links(container) == sorted(way.interfaces)
    return container


def every_kill(rig, way, verb, *, syscalls=False):
    """Yield the container of each killed call, until a call ends by itself."""
    steps = []
    for number in itertools.count(1):
        victim = rig.container(f"victim{number}")
        if verb == "delete":
            done(in_child(lambda step, victim=victim: way.add(victim, step)))
        ending = in_child(
            lambda step, victim=victim: getattr(way, verb)(victim, step),
            die_at=number,
            syscalls=syscalls,
        )
        if not ending.killed:
            done(ending)
            break
        steps.append(ending.steps[-1])
        assert len(steps) == len(ending.steps) == number
        yield victim
        if victim in rig.containers:
            rig.end(victim)
    return steps


def killed_everywhere(rig, name, verb, aftermath, *, syscalls=False):
    """Do ``aftermath(way, victim)`` after a kill before each step; return the steps."""
    way = way_of(rig, name)
    kills = every_kill(rig, way, verb, syscalls=syscalls)
    while True:
        try:
            victim = next(kills)
        except StopIteration as end:
            steps = end.value
            break
        step = f"{name} {verb}, killed at {victim.name}"
        rig.assert_no_address_twice()
        try:
            aftermath(way, victim)
        except AssertionError as error:
            error.add_note(step)
            raise
    assert len(steps) >= LEAST[name, verb][syscalls]
    if not syscalls:
        assert STEPS[name, verb] <= set(steps)
    print(f"{name} {verb}: killed before each of {len(steps)} steps:", ", ".join(steps))


def assert_only(rig, way, *live, check=True):
    """The living have everything, nobody else has anything."""
    rig.assert_no_address_twice()
    names = {each.name for each in live}
    owners = [(each.name, ifname) for each in live for ifname in way.interfaces]
    assert sorted(rig.leases().values()) == sorted(owners)
    assert {name for _, name in rig.records()} == names
    for each in rig.containers:
        assert links(each) == (sorted(way.interfaces) if each.name in names else [])
    assert len(rig.new_host_links()) == way.host_links * len(live)
    for each in live if check else ():
        done(in_child(lambda step, each=each: way.check(each, step)))


# The library takes the same steps as the plugin ``podnet``, whose system calls have them all.
EVERYWHERE = [
    ("macvlan", "steps"),
    ("macvlan", "syscalls"),
    ("podnet", "syscalls"),
    ("node", "steps"),
]


@pytest.mark.parametrize("verb", ["add", "delete"])
@pytest.mark.parametrize(("name", "where"), EVERYWHERE)
def test_after_a_kill_del_and_gc_leave_nothing(rig, name, where, verb):
    neighbours = []

    def aftermath(way, victim):
        before = {ip for each in neighbours for ip in addresses(each).values()}
        before |= set(addresses(victim).values())
        neighbours.append(attached(rig, way, f"beside-{victim.name}"))
        assert not before & set(addresses(neighbours[-1]).values())
        rig.assert_no_address_twice()
        done(in_child(lambda step: way.delete(victim, step)))
        assert_only(rig, way, *neighbours, check=False)
        # One neighbour ends without DEL; half-written files are of another day.
        rig.age()
        done(in_child(lambda step: way.gc(neighbours[-1:], step)))
        assert_only(rig, way, *neighbours[-1:])
        assert rig.temporary() == []
        for each in neighbours[:-1]:
            rig.end(each)
        del neighbours[:-1]

    killed_everywhere(rig, name, verb, aftermath, syscalls=where == "syscalls")


@pytest.mark.parametrize("verb", ["add", "delete"])
@pytest.mark.parametrize("name", ["macvlan", "podnet"])
class TestAfterAKill:
    def test_del_works_without_the_namespace(self, rig, name, verb):
        def aftermath(way, victim):
            rig.end(victim)
            done(in_child(lambda step: way.delete(victim, step)))
            assert_only(rig, way)

        killed_everywhere(rig, name, verb, aftermath)

    def test_gc_alone_is_enough(self, rig, name, verb):
        def aftermath(way, victim):
            done(in_child(lambda step: way.gc([], step)))
            assert_only(rig, way)

        killed_everywhere(rig, name, verb, aftermath)

    def test_gc_alone_is_enough_without_the_namespace(self, rig, name, verb):
        def aftermath(way, victim):
            rig.end(victim)
            done(in_child(lambda step: way.gc([], step)))
            assert_only(rig, way)

        killed_everywhere(rig, name, verb, aftermath)

    def test_a_second_add_works_and_del_ends_it(self, rig, name, verb):
        """A runtime that does not know of the kill tries again, with the same names."""

        def aftermath(way, victim):
            code, answer = in_child(lambda step: way.add(victim, step)).value
            if code:
                # Refused where the first ADD had ended, and then nothing is harmed.
                assert (verb, answer["code"]) == ("delete", 102)
            else:
                victim.result = answer
                assert_only(rig, way, victim)
            done(in_child(lambda step: way.delete(victim, step)))
            assert_only(rig, way)

        killed_everywhere(rig, name, verb, aftermath)


def test_a_late_del_spares_who_has_the_same_path_and_inode_now(rig, monkeypatch):
    """The kernel gives inodes of dead namespaces out again, and runtimes reuse paths.

    Which inode comes again depends on what else the machine does, so here all are the same.
    """
    monkeypatch.setattr(netns, "identity", lambda _fd: "4:4026532000")
    way = way_of(rig, "macvlan")
    old = attached(rig, way, "old")
    rig.end(old)
    new = rig.container("new")
    assert new.netns == old.netns
    new.result = done(in_child(lambda step: way.add(new, step)))
    done(in_child(lambda step: way.delete(old, step)))
    assert_only(rig, way, new)


def test_gc_spares_the_interfaces_of_a_live_sandbox_whose_record_is_unreadable(rig):
    way = way_of(rig, "podnet")
    broken, whole = attached(rig, way, "broken"), attached(rig, way, "whole")
    (record,) = (rig.state / "journal" / "sandbox").glob("broken*")
    content = record.read_bytes()
    record.write_bytes(content[:100])
    code, answer = in_child(lambda step: way.gc([broken, whole], step)).value
    assert (code, answer["code"]) == (1, 107)
    record.write_bytes(content)
    assert_only(rig, way, broken, whole)


@pytest.mark.parametrize("name", ["macvlan", "podnet"])
def test_what_a_killed_gc_left_the_next_one_takes(rig, name):
    way = way_of(rig, name)
    live = attached(rig, way, "live")
    for number in itertools.count(1):
        stale = attached(rig, way, f"stale{number}")
        ending = in_child(lambda step: way.gc([live], step), die_at=number)
        rig.assert_no_address_twice()
        done(in_child(lambda step: way.gc([live], step)))
        assert_only(rig, way, live, check=False)
        rig.end(stale)
        if not ending.killed:
            break
    assert number > len(way.interfaces) * 3
    assert_only(rig, way, live)
