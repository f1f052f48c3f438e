"""Moves that were begun and are not to be: what the marks say, and who may use the stores then."""

from __future__ import annotations

import pytest

from podnet.engine.leases import Ipam
from podnet.engine.migration import Migration
from podnet.engine.migration_follow import Following
from podnet.engine.migration_ground import load_mark
from podnet.engine.migration_rename import part
from podnet.errors import InvalidConfigError, StoreError
from podnet.ipam.migrate import HIDDEN, IDENTITY, Kind, mark_key
from podnet.model.lease import Owner
from podnet.model.pool import Pool
from podnet.stores.memory import MemoryStore

LAN = Pool("lan", "10.0.0.0/22")
MARK = mark_key(part("lan"))


class Failing(MemoryStore):
    """Refuses writes that a test says."""

    refused = staticmethod(lambda key, new: False)

    def swap(self, key, new, expected):
        if self.refused(key, new):
            raise StoreError("it cannot be written")
        return super().swap(key, new, expected)


def leaves(key, new):
    """Tell whether a write is the one by which the source is left."""
    return key == MARK and '"to"' in new.holder


@pytest.fixture
def stores():
    stores = {name: Failing() for name in ("old", "new", "third")}
    for name in ("old", "third"):
        Ipam(stores[name], node="n").allocate(LAN, Owner(name, "eth1"))
    return stores


def move(stores, source="old", target="new"):
    return Migration(
        stores[source],
        stores[target],
        source_url=f"test:{source}",
        target_url=f"test:{target}",
        sleep=lambda _: None,
    )


def ipam(stores, name):
    opened = Following(stores[name], opener=lambda url: stores[url.partition(":")[2]])
    return Ipam(opened, node="n", attempts=3, sleep=lambda _: None)


def kind(stores, name):
    return load_mark(stores[name], part("lan"))[0].kind


def begun(stores):
    """Leave a move behind whose source could not be left."""
    stores["old"].refused = leaves
    with pytest.raises(StoreError, match="cannot be written"):
        move(stores).run("lan")
    stores["old"].refused = Failing.refused
    assert (kind(stores, "old"), kind(stores, "new")) == (Kind.HOME, Kind.FROM)


def test_a_source_that_cannot_be_written_closes_no_target(stores):
    stores["old"].refused = lambda key, new: key.startswith(HIDDEN) and key != IDENTITY
    with pytest.raises(StoreError, match="cannot be written"):
        move(stores).run("lan")
    assert kind(stores, "new") is Kind.HOME
    assert move(stores, "third").run("lan").complete
    assert len(list(ipam(stores, "new").leases())) == 1


def test_a_target_is_free_again(stores):
    begun(stores)
    assert move(stores).cancel("lan")
    assert (kind(stores, "old"), kind(stores, "new")) == (Kind.HOME, Kind.HOME)
    assert not move(stores).cancel("lan")
    del stores["old"]
    assert ipam(stores, "new").allocate(LAN, Owner("c", "eth1"))
    assert len(list(ipam(stores, "new").leases())) == 1


def test_it_can_be_begun_again(stores):
    begun(stores)
    assert move(stores).cancel("lan")
    assert move(stores).run("lan").complete
    assert [lease.owner.container_id for lease in ipam(stores, "new").leases()] == ["old"]


def test_a_run_that_is_about_to_leave_the_source_does_not(stores):
    marks = []

    def moved(key, new):
        if not key.startswith(HIDDEN):
            marks.append(kind(stores, "new"))
        return False

    def cancelled(key, new):
        if leaves(key, new):
            stores["old"].refused = Failing.refused
            assert move(stores).cancel("lan")
        return False

    stores["old"].refused, stores["new"].refused = cancelled, moved
    assert move(stores).run("lan").complete
    assert set(marks) == {Kind.FROM}  # it has claimed the target anew
    assert (kind(stores, "old"), kind(stores, "new")) == (Kind.DONE, Kind.HOME)


def test_what_was_moved_before_still_leads_to_where_it_is(stores):
    assert move(stores).run("lan").complete
    stores["new"].refused = leaves
    with pytest.raises(StoreError):
        move(stores, "new", "old").run("lan")
    stores["new"].refused = Failing.refused
    assert kind(stores, "old") is Kind.FROM
    assert move(stores, "new", "old").cancel("lan")
    assert kind(stores, "old") is Kind.DONE
    first, second = (
        ipam(stores, name).allocate(LAN, Owner(name, "eth2")) for name in ("old", "new")
    )
    assert first.ip != second.ip
    assert move(stores, "new", "old").run("lan").complete
    assert len(list(ipam(stores, "old").leases())) == 3


def test_what_may_have_moved_is_not_cancelled(stores):
    stores["new"].refused = lambda key, new: not key.startswith(HIDDEN)
    with pytest.raises(StoreError):
        move(stores).run("lan")
    with pytest.raises(InvalidConfigError, match="run the move to its end"):
        move(stores).cancel("lan")
    stores["new"].refused = Failing.refused
    assert move(stores).run("lan").complete
    with pytest.raises(InvalidConfigError, match="all of it was moved"):
        move(stores).cancel("lan")


def test_a_move_from_elsewhere_is_not_cancelled(stores):
    begun(stores)
    with pytest.raises(InvalidConfigError, match="from another store: test:old"):
        move(stores, "third").cancel("lan")
    assert kind(stores, "new") is Kind.FROM
