from __future__ import annotations

import pytest
from attrs import evolve

import podnet
from podnet.engine.leases import Ipam
from podnet.engine.migration import Migration, domains_of, migrate
from podnet.engine.migration_ground import load_mark
from podnet.errors import InvalidConfigError, StoreError, TryAgainLaterError
from podnet.ipam.migrate import HIDDEN, Kind, State, state_of
from podnet.ipam.migrate_names import target_name
from podnet.model.block import block_key
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore

LAN = Pool("lan", "10.0.0.0/24")
WAN = Pool("wan", "2001:db8::/64", domain="wan")
KEY = block_key("lan", 4, 0x50000)


def owner(n):
    return Owner(f"c{n}", "eth1", "default", f"pod-{n}", f"uid-{n}")


def filled(*pools, count=3, first=0):
    store = MemoryStore()
    ipam = Ipam(store, node="node-1", clock=lambda: 1000.0)
    for pool in pools:
        for n in range(first, first + count):
            ipam.allocate(pool, owner(n), network="net")
        ipam.release(owner(first), pool=pool)
    return store


def migration(old, new, **options):
    return Migration(
        old, new, source_url="test:old", target_url="test:new", sleep=lambda _: None, **options
    )


def leases(store, domain=None):
    return list(Ipam(store).leases(domain))


def test_everything_of_a_block_is_moved():
    old, new = filled(LAN), MemoryStore()
    before = old.load(KEY)[0]
    progress = []
    moved = migration(old, new).run("lan", progress=lambda told: progress.append(told.done))
    assert (moved.complete, moved.blocks, moved.moved, moved.leases) == (True, 1, 1, 2)
    assert progress == [1]
    assert new.load(KEY)[0] == before
    assert load_mark(old, "lan")[0].kind is Kind.DONE
    assert load_mark(new, "lan")[0].kind is Kind.HOME


def test_other_domains_stay():
    old, new = filled(LAN, WAN), MemoryStore()
    migration(old, new).run("lan")
    assert domains_of(new) == ("lan",)
    assert len(leases(old, "wan")) == 2
    assert domains_of(old) == ("lan", "wan")


def test_done_twice_is_done_once():
    old, new = filled(LAN), MemoryStore()
    migration(old, new).run("lan")
    Ipam(new).release(owner(1))
    again = migration(old, new).run("lan")
    assert (again.complete, again.moved) == (True, 0)
    assert len(leases(new)) == 1


def test_it_can_be_moved_back_and_forth():
    old, new = filled(LAN), MemoryStore()
    for _ in range(3):
        migration(old, new).run("lan")
        back = Migration(new, old, source_url="test:new", target_url="test:old")
        assert back.run("lan").complete
        assert len(leases(old)) == 2
        assert not [k for k in new.keys("lan/") if state_of(new.load(k)[0]) is not State.GONE]


def test_a_target_in_use_is_refused_and_left_as_it_was():
    old, new = filled(LAN), filled(LAN)
    with pytest.raises(InvalidConfigError, match="in use") as caught:
        migration(old, new).run("lan")
    assert caught.value.mistakes[0][0] == "--merge"
    assert load_mark(new, "lan")[0].kind is Kind.HOME
    assert load_mark(old, "lan")[0].kind is Kind.HOME


def test_the_same_store_is_refused():
    store = filled(LAN)
    with pytest.raises(InvalidConfigError, match="the same one"):
        migration(store, store).run("lan")


def test_what_is_on_its_way_elsewhere_is_refused():
    old, new, third = filled(LAN, WAN), MemoryStore(), MemoryStore()
    migration(old, new).run("lan")
    with pytest.raises(InvalidConfigError, match="it was moved to test:new, and can be moved from"):
        Migration(old, third, source_url="test:old", target_url="test:3").run("lan")

    class Broken(MemoryStore):
        def swap(self, key, new, expected):
            if not key.startswith(HIDDEN):
                raise StoreError("broken")
            return super().swap(key, new, expected)

    with pytest.raises(StoreError, match="broken"):
        migration(old, Broken()).run("wan")
    with pytest.raises(InvalidConfigError, match="it is being moved to test:new: that has to end"):
        Migration(old, third, source_url="test:old", target_url="test:3").run("wan")
    with pytest.raises(InvalidConfigError, match="the target cannot take it: it is being moved"):
        Migration(filled(WAN), old, source_url="test:4", target_url="test:old").run("wan")


def test_a_store_that_loses_something_is_found_out_before_anything_moves():
    class Forgetful(MemoryStore):
        def swap(self, key, new, expected):
            if new is not None:
                bare = {n: evolve(lease, node="") for n, lease in new.leases.items()}
                new = evolve(new, leases=bare)
            return super().swap(key, new, expected)

    old = filled(LAN)
    with pytest.raises(StoreError, match="does not keep the leases of block lan/4/050000"):
        migration(old, Forgetful()).run("lan")
    assert state_of(old.load(KEY)[0]) is State.OPEN
    assert Ipam(old).allocate(LAN, owner(9))


def test_joining_puts_leases_side_by_side():
    old = filled(Pool("low", "10.0.0.0/24", last="10.0.0.9", domain="lan"))
    new = filled(Pool("high", "10.0.0.0/24", first="10.0.0.10", domain="lan"), first=5)
    moved = migration(old, new).run("lan", merge=True)
    assert (moved.complete, moved.leases) == (True, 2)
    assert [str(e.ip) for e in leases(new)] == ["10.0.0.2", "10.0.0.3", "10.0.0.11", "10.0.0.12"]
    assert not any(e.claim for e in leases(new))
    sequences = [e.sequence for e in leases(new)]
    assert len(set(sequences)) == 4
    assert new.load(KEY)[0].sequence >= max(sequences)


def test_joining_with_an_unused_target_is_a_move():
    old, new = filled(LAN, WAN), MemoryStore()
    assert all(migration(old, new).run(name, merge=True).complete for name in ("lan", "wan"))
    assert len(leases(new)) == 4


def test_two_owners_of_one_address_are_told_and_nothing_is_lost():
    old, new = filled(LAN), filled(LAN, first=5)
    found = migration(old, new).look("lan")
    assert [(str(a.ip), a.owner, b.owner) for a, b in found.conflicts] == [
        ("10.0.0.2", owner(1), owner(6)),
        ("10.0.0.3", owner(2), owner(7)),
    ]
    moved = migration(old, new).run("lan", merge=True)
    assert not moved.complete
    assert [(a.owner, b.owner) for a, b in moved.conflicts] == [
        (owner(1), owner(6)),
        (owner(2), owner(7)),
    ]
    assert len(leases(old)) == 2
    assert len(leases(new)) == 2
    for n in (6, 7):
        Ipam(new).release(owner(n))
    assert migration(old, new).run("lan", merge=True).complete
    assert [e.owner for e in leases(new)] == [owner(1), owner(2)]


def test_the_same_owner_on_both_sides_is_no_conflict():
    old, new = filled(LAN), filled(LAN)
    assert migration(old, new).run("lan", merge=True).complete
    assert len(leases(new)) == 2


def test_blocks_that_a_node_holds_move_as_they_are():
    old, new = filled(LAN), MemoryStore()
    block, version = old.load(KEY)
    old.swap(KEY, evolve(block, holder="node-7"), version)
    assert migration(old, new).run("lan").complete
    assert new.load(KEY)[0] == evolve(block, holder="node-7")


@pytest.mark.parametrize("side", ["old", "new"])
def test_joining_asks_nodes_to_give_blocks_back(side):
    stores = {"old": filled(LAN), "new": filled(Pool("x", "10.0.0.128/25", domain="lan"))}
    block, version = stores[side].load(KEY)
    stores[side].swap(KEY, evolve(block, holder="node-7"), version)
    moved = migration(*stores.values()).run("lan", merge=True, patience=0)
    assert not moved.complete
    assert moved.waiting == {KEY: "node-7"}
    block, version = stores[side].load(KEY)
    assert block.recalled
    stores[side].swap(KEY, evolve(block, holder="", recalled=False), version)
    assert migration(*stores.values()).run("lan", merge=True).complete
    assert len(leases(stores["new"])) == 4


def test_looking_changes_nothing():
    old, new = filled(LAN, WAN), filled(WAN)
    before = [dict(each._blocks) for each in (old, new)]
    found = migration(old, new).look("lan")
    assert (found.blocks, found.leases, found.state, found.in_use) == (1, 2, "new", 0)
    assert migration(old, new).look("wan").in_use == 2
    assert [dict(each._blocks) for each in (old, new)] == before
    migration(old, new).run("lan")
    found = migration(old, new).look("lan")
    assert (found.blocks, found.state) == (0, "done")


def test_a_run_that_is_overtaken_says_so():
    old, new = filled(LAN), MemoryStore()
    other = migration(old, new)

    class Overtaken(MemoryStore):
        def load(self, key):
            entry = super().load(key)
            self.looks += key == KEY
            if self.looks == 2:  # it was read to be closed
                self.looks += 1
                assert other.run("lan").complete
            return entry

        looks = 0

    overtaken = Overtaken()
    overtaken._blocks = old._blocks
    overtaken._versions = old._versions
    with pytest.raises(TryAgainLaterError, match="another run took over, or has ended the move"):
        migration(overtaken, new).run("lan")
    assert len(leases(new)) == 2


def test_by_url(tmp_path):
    old, new = (f"file:{tmp_path}/{name}" for name in ("old", "new"))
    with podnet.open_ipam(old) as ipam:
        ipam.allocate(LAN, owner(1))
        ipam.allocate(WAN, owner(1))
    done = migrate(old, new)
    assert [(each.domain, each.complete, each.leases) for each in done] == [
        ("lan", True, 1),
        ("wan", True, 1),
    ]
    with podnet.open_ipam(new) as ipam:
        assert len(list(ipam.leases())) == 2


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("url", ["memory:", "memory:by-url"])
def test_what_ends_with_the_process_is_refused(tmp_path, side, url):
    urls = [f"file:{tmp_path}/store"]
    with podnet.open_ipam(urls[0]) as ipam:
        ipam.allocate(LAN, owner(1))
        urls.insert(side, url)
        with pytest.raises(InvalidConfigError, match="ends with the process"):
            migrate(*urls)
        assert len(list(ipam.leases())) == 1


@pytest.mark.parametrize(
    ("domain", "old", "new", "networks", "name"),
    [
        ("lan", "file", "sqlite", [], "lan"),
        ("lan", "file", "whereabouts", [], "lan"),
        ("whereabouts:red", "file", "sqlite", [], "whereabouts:red"),
        ("ippool:10.0.0.0/24", "whereabouts", "kubernetes", [], "whereabouts"),
        ("ippool:red@10.0.0.0/24", "whereabouts", "kubernetes", [], "whereabouts:red"),
        ("ippool-apart:10.0.0.0/24", "whereabouts", "file", [], "whereabouts:10.0.0.0/24"),
        ("ippool:10.0.0.0/24", "whereabouts", "whereabouts", [], "ippool:10.0.0.0/24"),
        ("lan", "whereabouts", "file", [], "lan"),
        ("whereabouts", "file", "whereabouts", ["10.0.0.0/24"], "ippool:10.0.0.0/24"),
        ("whereabouts:red", "file", "whereabouts", ["2001:db8::/64"], "ippool:red@2001:db8::/64"),
        (
            "whereabouts:red:2001:db8::/64",
            "file",
            "whereabouts",
            ["2001:db8::/64"],
            "ippool-apart:red@2001:db8::/64",
        ),
    ],
)
def test_names_of_domains(domain, old, new, networks, name):
    assert target_name(domain, old, new, lambda: networks) == name


@pytest.mark.parametrize("networks", [[], ["10.0.0.0/24", "10.0.1.0/24"]])
def test_objects_of_whereabouts_are_of_one_range(networks):
    with pytest.raises(InvalidConfigError, match="of one range each, and its leases are of"):
        target_name("whereabouts", "file", "whereabouts", lambda: networks)


def test_ranges_of_whereabouts_become_one_domain():
    old, new = MemoryStore(), MemoryStore()
    for n, net in enumerate(("10.0.0.0/24", "10.0.1.0/24")):
        pool = Pool(net, net, domain=f"ippool:red@{net}")
        Ipam(old).allocate(pool, owner(n))
    move = Migration(old, new, source_url="whereabouts:", target_url="kubernetes:")
    for n, domain in enumerate(domains_of(old)):
        assert move.run(domain, merge=True).complete, n
    assert domains_of(new) == ("whereabouts:red",)
    assert [str(e.cidr) for e in leases(new)] == ["10.0.0.1/24", "10.0.1.1/24"]
