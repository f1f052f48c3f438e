"""Leases without a live owner: what a node knows of owners, and what becomes of the leases."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from podnet.engine.house import House
from podnet.engine.journal import Record
from podnet.engine.leases import Ipam
from podnet.engine.reconcile import Testimony, reconcile
from podnet.engine.reconcile_node import NodeWitness
from podnet.engine.registry import open_store
from podnet.engine.settings import Settings
from podnet.errors import KernelError
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore
from podnet.testing.fake_kernel import FakeKernel

POOL = Pool("lan", "10.0.0.0/24")
NOW = 10_000.0


class Says:
    """A witness who says the same of everybody."""

    def __init__(self, told):
        self.told, self.asked = told, []

    def testify(self, lease):
        self.asked.append(lease)
        return self.told


ALIVE, DEAD = Testimony(True, "it was seen"), Testimony(False, "it is gone")


def filled(since=NOW - 1000, **claims):
    store = MemoryStore()
    for n, node in enumerate(["here", "there", ""]):
        ipam = Ipam(store, node=node, clock=lambda: since)
        ipam.allocate(POOL, Owner(f"c{n}", "eth1"), claim=claims.get(f"c{n}", ""))
    return Ipam(store, node="here")


def judged(ipam, *witnesses, **options):
    found = reconcile(ipam, [Says(w) for w in witnesses], node="here", now=NOW, **options)
    return [(each.lease.owner.container_id, each.verdict, each.why) for each in found]


def held(ipam):
    return [lease.owner.container_id for lease in ipam.leases()]


def test_leases_of_the_dead_are_released():
    ipam = filled()
    assert judged(ipam, DEAD) == [("c0", "released", "it is gone")]
    assert held(ipam) == ["c1", "c2"]


def test_a_dry_run_releases_nothing():
    ipam = filled()
    assert judged(ipam, DEAD, dry_run=True) == [("c0", "dead", "it is gone")]
    assert held(ipam) == ["c0", "c1", "c2"]


@pytest.mark.parametrize("told", [(DEAD, ALIVE), (ALIVE, DEAD), (None, ALIVE), (DEAD, None, ALIVE)])
def test_one_who_says_that_he_lives_is_enough(told):
    ipam = filled()
    assert judged(ipam, *told) == [("c0", "kept", "it was seen")]
    assert len(held(ipam)) == 3


@pytest.mark.parametrize("told", [(), (None,), (None, None)])
def test_nobody_is_taken_for_dead_whom_nobody_knows(told):
    assert judged(filled(), *told) == [("c0", "kept", "nobody here knows its owner")]


def test_the_young_the_claimed_and_other_nodes_are_left_alone():
    assert judged(filled(NOW - 299), DEAD)[0][1] == "kept"
    assert "younger than 300 s" in judged(filled(NOW - 299), DEAD)[0][2]
    assert judged(filled(NOW - 299), DEAD, grace=298)[0][1] == "released"
    ipam = filled(c0="default/web")
    assert judged(ipam, DEAD) == [("c0", "kept", "default/web keeps it")]
    assert len(held(ipam)) == 3


def test_a_new_container_of_the_pod_is_young():
    store, now = MemoryStore(), [NOW - 1000]
    ipam = Ipam(store, node="here", clock=lambda: now[0])
    ipam.allocate(POOL, Owner("old", "eth1", "default", "web-0", "uid"))
    now[0] = NOW - 1  # another interface plugin has asked for it, and has not put it anywhere yet
    ipam.allocate(POOL, Owner("new", "eth1", "default", "web-0", "uid"))
    ((container, verdict, why),) = judged(ipam, DEAD)
    assert (container, verdict) == ("new", "kept")
    assert "younger than 300 s" in why


def test_whom_podnet_has_no_record_of_is_told_only():
    ipam, unseen = filled(), Testimony(False, "nobody sees it", sure=False)
    assert judged(ipam, unseen) == [("c0", "unrecorded", "nobody sees it")]
    assert judged(ipam, unseen, ALIVE) == [("c0", "kept", "it was seen")]
    assert len(held(ipam)) == 3
    assert judged(ipam, unseen, DEAD) == [("c0", "released", "it is gone")]
    assert held(ipam) == ["c1", "c2"]


def test_leases_without_a_node_are_judged_where_all_are_of_this_node():
    assert [e[0] for e in judged(filled(), DEAD, unnamed=True)] == ["c0", "c2"]


def test_other_domains_can_be_left_out():
    ipam = filled()
    ipam.allocate(Pool("wan", "10.1.0.0/24"), Owner("d", "eth1"))
    assert judged(ipam, DEAD, domain="lan", dry_run=True)[0][0] == "c0"
    assert judged(ipam, DEAD, domain="wan", grace=0, dry_run=True) == [("d", "kept", ANY_WHY)]


ANY_WHY = "it is younger than 0 s: its ADD may not be done"  # the clock is not the test's


def test_who_was_renewed_meanwhile_keeps_it():
    ipam = filled()

    class Renews(Says):
        def testify(self, lease):
            ipam.release(lease)
            ipam.allocate(POOL, Owner("new", "eth1"), requested=str(lease.ip))
            return DEAD

    found = list(reconcile(ipam, [Renews(None)], node="here", now=NOW))
    assert [(e.verdict, e.why) for e in found] == [("kept", "it was renewed meanwhile")]
    assert "new" in held(ipam)


def test_what_a_crash_of_host_local_left_is_released(tmp_path):
    folder = tmp_path / "lan"
    folder.mkdir()
    for name, content in [
        ("10.0.0.5", b""),
        ("10.0.0.6", b"\xff\xfe"),
        ("10.0.0.7", b"c1\r\neth1"),
    ]:
        (folder / name).write_bytes(content)
        os.utime(folder / name, (NOW - 1000, NOW - 1000))
    with Ipam(open_store(f"host-local:{tmp_path}"), node="here") as ipam:
        assert judged(ipam, None, unnamed=True) == [
            ("(empty file)", "kept", "nobody here knows its owner"),
            ("(no text)", "reported", "what keeps it cannot be read: (no text)"),
            ("c1", "kept", "nobody here knows its owner"),
        ]
        assert judged(ipam, DEAD, unnamed=True) == [
            ("(empty file)", "released", "it is gone"),
            ("(no text)", "reported", "what keeps it cannot be read: (no text)"),
            ("c1", "released", "it is gone"),
        ]
        assert [str(lease.ip) for lease in ipam.leases()] == ["10.0.0.6"]


# What this node knows.


@pytest.fixture
def kernel():
    kernel = FakeKernel()
    for name in ("a", "b"):
        kernel.add_sandbox(f"/ns/{name}")
    return kernel


@pytest.fixture
def house(tmp_path, kernel):
    settings = Settings(state_dir=str(tmp_path), node="here")
    with House(settings, store=MemoryStore(), kernel=kernel) as house:
        yield house


def record(house, container="c0", ifname="eth1", netns="/ns/a", **fields):
    made = Record(
        role="interface",
        network="lan",
        container_id=container,
        ifname=ifname,
        netns=netns,
        netns_id=house.kernel.sandboxes[netns].identity if netns in house.kernel.sandboxes else "",
        **{"stage": "done", "body": {"links": []}, **fields},
    )
    house.journal.finish(made)


def lease(container="c0", ifname="eth1", ip="10.0.0.1"):
    ipam = Ipam(MemoryStore(), node="here")
    return ipam.allocate(POOL, Owner(container, ifname), requested=ip)


def told_of(house, of=None, **options):
    told = NodeWitness(house, folders=(), **options).testify(of or lease())
    return told.alive, told.why


@pytest.fixture(autouse=True)
def nothing_but_fakes(monkeypatch):
    """Real namespaces of this machine are none of the fake kernel's."""
    monkeypatch.setattr(NodeWitness, "_paths", lambda self, missed: iter(()))


def test_an_owner_lives_as_long_as_the_namespace_of_its_record(house, kernel):
    record(house)
    assert told_of(house) == (True, "its namespace /ns/a is there")
    kernel.end_sandbox("/ns/a")
    assert told_of(house) == (False, "its namespace /ns/a is gone")
    kernel.add_sandbox("/ns/a")
    assert told_of(house) == (False, "its namespace is gone: /ns/a is another one now")


def test_an_unfinished_add_is_alive(house):
    record(house, stage="intent")
    assert told_of(house) == (True, "its namespace /ns/a is there, and its ADD was not done")


def test_what_cannot_be_looked_at_is_alive(house, monkeypatch):
    record(house)
    record(house, container="c1", netns="")

    @contextmanager
    def refused(path, *, allow_host=False):
        raise KernelError("cannot enter it", "EPERM")
        yield

    monkeypatch.setattr(house.kernel, "open", refused)
    alive, why = told_of(house)
    assert alive
    assert "cannot be looked at: cannot enter it" in why
    assert told_of(house, lease("c1")) == (True, "its record tells no namespace")


def test_a_sandbox_of_several_interfaces(house):
    standing = {
        "network": "lan",
        "name": "lan",
        "cniVersion": "1.0.0",
        "plugins": [{"type": "macvlan"}],
        "disableCheck": False,
        "disableGC": False,
        "runtimeConfig": {},
        "args": "",
        "default": False,
        "result": None,
    }
    body = {"pod": None, "attachments": [{**standing, "ifname": name} for name in ("net1", "net2")]}
    house.journal.finish(
        Record(
            role="sandbox", network="podnet", container_id="c5", ifname="eth0", netns="/ns/b",
            stage="done", body=body,
        )
    )  # fmt: skip
    assert told_of(house, lease("c5", "net2")) == (True, "its namespace /ns/b is there")
    assert told_of(house, lease("c5", "net3"))[1].startswith("there is no record of it")


def test_records_that_cannot_be_read_are_of_the_living(house, tmp_path):
    record(house)
    (file,) = (tmp_path / "journal" / "interface").iterdir()
    file.write_text("{")
    assert told_of(house) == (True, "a record of the journal that may be its cannot be read")
    assert not told_of(house, lease("c1"))[0]
    file.rename(file.with_name("%%%.json"))
    assert told_of(house, lease("c1"))[0]


def test_without_a_record_the_address_tells(house, kernel, monkeypatch):
    dead = (False, "there is no record of it, and no namespace here has the address")
    assert told_of(house) == dead
    monkeypatch.setattr(NodeWitness, "_paths", lambda self, missed: iter(["/ns/a", "/ns/gone"]))
    assert told_of(house) == dead
    kernel.add_link(kernel.sandboxes["/ns/a"], "eth1")
    kernel.sandboxes["/ns/a"].addresses["eth1"] = ["10.0.0.1/24", "fe80::1/64"]
    assert told_of(house) == (True, "there is no record of it, but /ns/a has the address")
    assert told_of(house, lease(ip="10.0.0.2")) == dead


def test_without_a_record_it_is_for_the_caller_to_be_sure(house):
    sure = [
        NodeWitness(house, folders=(), without_record=each).testify(lease()).sure
        for each in (False, True)
    ]
    assert sure == [False, True]


def test_without_a_record_all_has_to_be_seen(house, monkeypatch):
    def paths(self, missed):
        missed.append("/proc/1/ns/net: Permission denied")
        return iter(())

    monkeypatch.setattr(NodeWitness, "_paths", paths)
    alive, why = told_of(house)
    assert alive
    assert why == (
        "there is no record of it, and not all was seen: /proc/1/ns/net: Permission denied"
    )


def test_namespaces_of_this_machine_are_found(house, tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "netns").mkdir()
    os.symlink("/proc/self/ns/net", tmp_path / "netns" / "mine")
    witness = NodeWitness(house, folders=(str(tmp_path / "netns"), str(tmp_path / "none")))
    missed: list[str] = []
    found = list(witness._paths(missed))
    assert found[0] == str(tmp_path / "netns" / "mine")
    inodes = [os.stat(path).st_ino for path in found]
    assert len(set(inodes)) == len(inodes)
    assert all(each.endswith("/ns/net: Permission denied") for each in missed)


def test_the_two_together(house, kernel):
    record(house)
    record(house, container="c1", netns="/ns/b")
    ipam = Ipam(house.store(), node="here", clock=lambda: 1.0)
    for n in range(3):
        ipam.allocate(POOL, Owner(f"c{n}", "eth1"))
    kernel.end_sandbox("/ns/b")
    found = reconcile(ipam, [NodeWitness(house, folders=())], node="here", now=NOW)
    assert [(e.lease.owner.container_id, e.verdict) for e in found] == [
        ("c0", "kept"),
        ("c1", "released"),
        ("c2", "unrecorded"),
    ]
