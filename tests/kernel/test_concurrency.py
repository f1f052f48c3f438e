"""Many calls at once, each in a process of its own, on one file store and real namespaces."""

from __future__ import annotations

import itertools

import pytest

from .children import at_once, in_child
from .rig import MACVLAN, PluginWay, addresses, links, rig_in, way_of

pytestmark = pytest.mark.kernel

PROCESSES = 16
EACH = 4


@pytest.fixture
def rig(tmp_path):
    with rig_in(tmp_path) as rig:
        yield rig


def shared_out(containers, do):
    """Have 16 processes do it to 64 containers, four each; return the answers by container."""
    parts = [containers[n::PROCESSES] for n in range(PROCESSES)]

    def job_of(part):
        # Without the observer of steps: kernel operations ride together, as they usually do.
        return lambda _step: [do(each) for each in part]

    answers = at_once([job_of(part) for part in parts])
    return {
        each: answer
        for part, told in zip(parts, answers, strict=True)
        for each, answer in zip(part, told, strict=True)
    }


def test_64_attaches_and_detaches_from_16_processes(rig):
    way = way_of(rig, "macvlan")
    containers = [rig.container(f"c{number}") for number in range(PROCESSES * EACH)]

    told = shared_out(containers, way.add)
    assert [code for code, _ in told.values()] == [0] * 64
    given = {each: answer["ips"][0]["address"].split("/")[0] for each, (_, answer) in told.items()}
    assert len(set(given.values())) == 64
    assert {each: addresses(each)["eth1"] for each in containers} == given
    assert rig.leases() == {ip: (each.name, "eth1") for each, ip in given.items()}
    # The lowest free address first: nothing was lost on the way, not even for a moment.
    assert sorted(int(ip.rpartition(".")[2]) for ip in given.values()) == list(range(20, 84))
    assert rig.records() == sorted(("interface", each.name) for each in containers)

    for each in containers:
        each.result = told[each][1]
    assert set(map(str, shared_out(containers, way.check).values())) == {"[0, None]"}

    told = shared_out(containers, way.delete)
    assert [code for code, _ in told.values()] == [0] * 64
    assert rig.leases() == {}
    assert rig.records() == rig.temporary() == []
    assert [links(each) for each in containers] == [[]] * 64


@pytest.mark.parametrize("name", ["macvlan", "podnet", "node"])
def test_of_two_adds_of_one_container_one_wins_and_the_other_does_no_harm(rig, name):
    way = way_of(rig, name)
    for number in range(5):
        container = rig.container(f"c{number}")
        told = at_once([lambda _step, c=container: way.add(c)] * 3)
        codes = sorted(code for code, _ in told)
        assert codes == [0, 1, 1], told
        assert {answer["code"] for code, answer in told if code} == {102}
        (container.result,) = (answer for code, answer in told if not code)
        assert links(container) == sorted(way.interfaces)
        assert sorted(rig.leases().values()) == [(container.name, i) for i in way.interfaces]
        rig.assert_no_address_twice()
        assert way.check(container)[0] == 0
        # One DEL would do; several at once are as good.
        told = at_once([lambda _step, c=container: way.delete(c)] * 2)
        assert [code for code, _ in told] == [0, 0], told
        assert (links(container), rig.leases(), rig.records()) == ([], {}, [])
        assert rig.new_host_links() == []


def test_two_containers_want_one_interface_name_of_one_namespace(rig):
    """Their calls are not ordered by the container's lock; the kernel decides, and only once."""
    way = way_of(rig, "macvlan")
    for number in range(5):
        one, other = rig.container(f"one{number}"), rig.container(f"other{number}")
        rig.containers.remove(other)
        other.netns = one.netns
        told = at_once([lambda _step, c=c: way.add(c) for c in (one, other)])
        assert sorted(code for code, _ in told) == [0, 1], told
        (winner,) = (c for c, (code, _) in zip((one, other), told, strict=True) if not code)
        assert list(rig.leases().values()) == [(winner.name, "eth1")]
        assert rig.records() == [("interface", winner.name)]
        assert links(one) == ["eth1"]
        (loser,) = {one, other} - {winner}
        assert way.delete(loser)[0] == 0
        assert links(one) == ["eth1"]
        assert way.delete(winner)[0] == 0
        assert (links(one), rig.leases(), rig.records()) == ([], {}, [])
        other.namespace.end()


@pytest.mark.parametrize("name", ["macvlan", "podnet"])
def test_gc_beside_adds_takes_the_stale_and_nothing_else(rig, name):
    way = way_of(rig, name)
    stale = [rig.container(f"stale{number}") for number in range(6)]
    for number, each in enumerate(stale):
        # Some whole, others killed on the way.
        in_child(lambda step, each=each: way.add(each, step), die_at=3 * number)
    live = [rig.container(f"live{number}") for number in range(12)]
    adds = [lambda _step, c=c: way.add(c) for c in live]
    collections = [lambda _step: way.gc(live)] * 4
    jobs = list(itertools.chain(*itertools.zip_longest(adds, collections)))
    told = at_once([job for job in jobs if job])
    assert [code for code, _ in told] == [0] * len(told), told
    for each in stale:
        assert links(each) == []
        rig.end(each)
    rig.assert_no_address_twice()
    assert {owner for owner, _ in rig.leases().values()} == {each.name for each in live}
    assert {owner for _, owner in rig.records()} == {each.name for each in live}
    assert [links(each) for each in live] == [sorted(way.interfaces)] * len(live)
    assert len(rig.new_host_links()) == way.host_links * len(live)


def test_a_pool_of_eight_for_sixteen(rig):
    """Who gets none has nothing; what the others have is whole."""
    ipam = {**MACVLAN["ipam"], "range_end": "192.168.60.27"}
    way = PluginWay(rig, {**MACVLAN, "ipam": ipam}, "eth1", ("eth1",), 0)
    containers = [rig.container(f"c{number}") for number in range(16)]
    told = at_once([lambda _step, c=c: way.add(c) for c in containers])
    assert sorted(code for code, _ in told) == [0] * 8 + [1] * 8
    assert {answer["code"] for code, answer in told if code} == {100}
    assert len(rig.leases()) == len(rig.records()) == 8
    rig.assert_no_address_twice()
    for each, (code, _) in zip(containers, told, strict=True):
        assert links(each) == ([] if code else ["eth1"])
