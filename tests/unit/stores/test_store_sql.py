"""What SQLite and PostgreSQL have in common behind the SQL store."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest
from attrs import evolve

import podnet
import podnet.testing
from podnet.errors import StoreError
from podnet.model.addresses import Address
from podnet.model.block import Block
from podnet.model.lease import Lease, Owner
from podnet.testing import in_processes, in_threads

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

from sql_lab import (
    DOMAIN,
    FIRST,
    KEY,
    Database,
    block,
    lease,
    owner,
    put,
    with_lease,
)

from podnet.stores import sql_rows, sql_schema, sql_store

ROOT = Path(__file__).parents[3]


def opened(url):
    from podnet.stores import sql

    store = sql.open(url)
    store.url = url  # for reopen
    return store


class TestSqlite(podnet.testing.StoreContract):
    durable = multi_process = seeks = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.urls = (f"sqlite:{tmp_path}/{n}/leases.db" for n in range(10_000))

    def open(self):
        return opened(next(self.urls))

    def reopen(self, store):
        return opened(store.url)


class TestPostgres(podnet.testing.StoreContract):
    durable = multi_process = seeks = True

    @pytest.fixture(autouse=True)
    def _server(self, postgres):
        self.server = postgres

    def open(self):
        return opened(self.server.new_url())

    def reopen(self, store):
        return opened(store.url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:{tmp_path}/leases/leases.db"
    else:
        url = request.getfixturevalue("postgres").new_url()
    database = Database(url)
    yield database
    database.close()


def test_leases_are_rows_that_people_can_read_and_join(database):
    pool = podnet.Pool("storage", "10.0.0.0/24", gateway="10.0.0.1")
    with podnet.Ipam(database.open(), node="node-1", clock=lambda: 1.7e9) as ipam:
        held = ipam.allocate(pool, owner(1), network="san")
        ipam.release(ipam.allocate(pool, owner(2)))
    database.run(
        "CREATE TABLE inventory (address TEXT, rack TEXT)",
        "INSERT INTO inventory VALUES ('10.0.0.2', 'r7')",
    )
    (row,) = database.run(
        "SELECT pool, address, prefix_length, pod_namespace, pod_name, pod_uid, container, ifname,"
        " node, network, since, sequence, claim, rack FROM podnet_leases JOIN inventory USING"
        " (address)"
    )
    assert str(held.address) == "10.0.0.2"
    assert row[:10] == (
        *("storage", "10.0.0.2", 24, "default", "pod-1", "uid-1", "container-1", "eth1"),
        *("node-1", "san"),
    )
    assert str(row[10]).startswith("2023-11-14 22:13:20")
    assert row[11:] == (1, "", "r7")
    # What was released is not a lease any more, but tells who had it last, and since when not.
    assert database.run("SELECT count(*) FROM podnet_leases") == [(1,)]
    assert database.run("SELECT pod_name, released FROM podnet_addresses WHERE NOT held") == [
        ("pod-2", 1.7e9)
    ]


def test_addresses_sort_as_numbers(database):
    store = database.open()
    six = [1 << 127, (1 << 64) + 9, 9, 1 << 70]
    for value in six:
        index = value >> 9
        one = Lease(domain=DOMAIN, pool="p", ip=Address(6, value), length=64, owner=owner(1))
        new = Block(domain=DOMAIN, version=6, index=index, leases={value & 511: one})
        put(store, new, new.key)
    put(store, block(lease(200), lease(9), lease(30)))
    rows = database.run("SELECT address FROM podnet_leases ORDER BY ip_version, address_hex")
    wanted = [Address(4, FIRST + n) for n in (9, 30, 200)] + [Address(6, n) for n in sorted(six)]
    assert [text for (text,) in rows] == [str(each) for each in wanted]


def test_the_database_itself_keeps_an_address_from_being_held_twice(database):
    put(database.open(), block(lease(7)))
    columns = ", ".join(column.name for column in sql_schema.addresses.columns)
    values = columns.replace("container", "'other'", 1)
    with pytest.raises(database.refused):
        database.run(
            f"INSERT INTO podnet_addresses ({columns}) SELECT {values} FROM podnet_addresses"
        )
    assert database.run("SELECT container FROM podnet_leases") == [("container-0",)]


def test_two_blocks_cannot_hold_one_address(database):
    one, two = database.open(), database.open()
    put(one, block(lease(7)))
    put(two, block(lease(8)), "elsewhere")
    with pytest.raises(StoreError, match="'elsewhere'") as raised:
        two.swap("elsewhere", block(lease(8), lease(7, 2)), two.load("elsewhere")[1])
    assert "has a row already" in raised.value.details
    assert "nothing was written" in raised.value.details
    assert one.load(KEY)[0] == block(lease(7))
    assert two.load("elsewhere")[0] == block(lease(8))


def test_a_row_made_by_hand_is_not_overwritten_but_respected(database):
    store = database.open()
    put(store, block(lease(1)))
    columns = [column.name for column in sql_schema.addresses.columns]
    values = {"address": "'10.0.0.9'", "address_hex": f"'{FIRST + 9:08x}'", "container": "'hand'"}
    database.run(
        f"INSERT INTO podnet_addresses ({', '.join(columns)}) "
        f"SELECT {', '.join(values.get(name, name) for name in columns)} FROM podnet_addresses"
    )
    before, version = store.load(KEY)
    with pytest.raises(StoreError, match="cannot swap"):
        store.swap(KEY, with_lease(before, lease(9, 2)), version)
    found, version = store.load(KEY)
    assert found.leases[9].owner.container_id == "hand"
    assert store.swap(KEY, with_lease(found, lease(10, 2)), version) is True


def test_only_what_differs_is_written(database):
    store = database.open()
    first = block(*(lease(n, n) for n in range(100)), sequence=200)
    put(store, first)
    changed = {**first.leases, 50: lease(50, 150), 200: lease(200, 151)}
    del changed[99]
    put(store, evolve(first, leases=changed, freed={99: 1.7e9}))
    stamped = database.run("SELECT address_hex FROM podnet_addresses WHERE changed = 2 ORDER BY 1")
    assert [int(text, 16) - FIRST for (text,) in stamped] == [50, 99, 200]


@pytest.mark.parametrize("behind", [1, 20, sql_rows.REMEMBERED])
def test_only_what_differs_is_read(database, monkeypatch, behind):
    one, two = database.open(), database.open()
    first = block(*(lease(n, n) for n in range(100)), sequence=200)
    put(one, first)
    known = two.load(KEY)[0]
    for number in range(behind):
        last = with_lease(first, lease(100, 100 + number))
        put(one, last)
    rows = []
    monkeypatch.setattr(
        sql_store, "assemble", lambda head, found, before: real(head, spied(found, rows), before)
    )
    real = sql_rows.assemble
    found = two.load(KEY)[0]
    assert len(rows) == 1
    assert found.leases[5] is known.leases[5]
    assert found == last


def spied(rows, seen):
    for row in rows:
        seen.append(row)
        yield row


@pytest.mark.parametrize("behind", [1, sql_rows.REMEMBERED, sql_rows.REMEMBERED + 1, 80])
def test_who_is_far_behind_reads_everything(database, behind):
    one, two = database.open(), database.open()
    put(one, block(lease(1, 1), sequence=999))
    two.load(KEY)
    for n in range(behind):
        held = [lease(offset, n) for offset in range(n % 5, 10)]
        put(one, block(*held, sequence=1000 + n, freed={300 + n % 3: 1.7e9 + n}))
    assert two.load(KEY) == one.load(KEY)


def test_a_database_that_went_back_in_time_is_read_anew(database):
    """As after a restored backup, or a standby that took over before it had heard of everything."""
    one, two = database.open(), database.open()
    put(one, block(lease(1, 1), sequence=9))
    two.load(KEY)
    (head,) = database.run("SELECT version, earlier, sequence FROM podnet_blocks")
    put(one, block(lease(1, 1), lease(2, 2), sequence=10))
    database.run(
        "DELETE FROM podnet_addresses WHERE changed = 2",
        "UPDATE podnet_blocks SET version = '{}', earlier = '{}', sequence = {}".format(*head),
    )
    put(two, block(lease(1, 1), lease(3, 3), sequence=10))
    assert one.load(KEY) == two.load(KEY)
    assert sorted(one.load(KEY)[0].leases) == [1, 3]
    put(one, block(lease(1, 1), sequence=11))
    assert two.load(KEY)[0] == block(lease(1, 1), sequence=11)


def test_another_block_under_the_same_key_leaves_nothing_of_the_first(database):
    one, two = database.open(), database.open()
    put(one, block(lease(1), freed={4: 1.7e9}))
    two.load(KEY)
    other = Block(domain="other", version=6, index=5, freed={1: 1.7e9})
    put(one, other)
    assert two.load(KEY)[0] == other
    assert database.run("SELECT domain FROM podnet_addresses") == [("other",)]
    put(two, block(lease(1)))
    assert one.load(KEY)[0] == block(lease(1))


def test_few_blocks_are_remembered(database, monkeypatch):
    monkeypatch.setattr(sql_store, "_KNOWN_BLOCKS", 2)
    store = database.open()
    blocks = [Block(domain="d", version=4, index=n, sequence=n) for n in range(6)]
    for each in blocks:
        put(store, each, each.key)
    assert len(store._known) == 2
    for n, each in enumerate(blocks):
        version = store.load(each.key)[1]
        for other in range(1, 4):
            store.load(blocks[n - other].key)
        assert each.key not in store._known
        assert store.swap(each.key, evolve(each, sequence=100 + n), version) is True
        assert store.load(each.key)[0].sequence == 100 + n


NAMES = (
    "'; DROP TABLE podnet_addresses; --",
    '"; DELETE FROM podnet_blocks; --',
    "%s %(key)s :key ? $1 {}",
    "\\'\\",
    "COPY x FROM PROGRAM 'true'",
    "a\tb\nc",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_never_taken_for_sql(database, name):
    store = database.open()
    who = Owner(name, name, name, name, name)
    one = Lease(
        domain=name, pool=name, ip=Address(4, FIRST), length=8, owner=who, node=name, network=name
    )
    new = Block(domain=name, version=4, index=0x5000, leases={0: one}, holder=name)
    put(store, new, name)
    assert database.open().load(name)[0] == new
    assert list(store.seek("", who)) == list(store.seek(name[:3], who)) == [name]
    assert store.keys(name) == [name]
    assert database.run("SELECT count(*) FROM podnet_blocks") == [(1,)]


def test_texts_that_cannot_be_kept_are_refused(database):
    store = database.open()
    with pytest.raises(StoreError, match="cannot swap"):
        store.swap(KEY, block(lease(1, pool="\ud800")), None)
    assert store.load(KEY) is None


def test_a_later_schema_is_refused(database):
    database.open().close()
    database.run("INSERT INTO podnet_schema VALUES (99)")
    with pytest.raises(StoreError, match="schema version 99, made by a later podnet") as raised:
        database.open()
    assert "nothing was changed" in raised.value.details


def test_tables_of_nobody_knows_whom_are_refused(database):
    if database.is_sqlite:
        (Path(database.url.removeprefix("sqlite:")).parent).mkdir()
    database.run("CREATE TABLE podnet_schema (version INTEGER)")
    with pytest.raises(StoreError, match="schema version None, made by another program"):
        database.open()


def test_many_processes_may_open_a_new_database_at_once(database):
    keys = [f"{DOMAIN}/4/{n:06x}" for n in range(8)]

    def child(number):
        store = database.open()
        new = Block(domain=DOMAIN, version=4, index=number, sequence=number)
        assert store.swap(keys[number], new, None) is True

    in_processes(8, child)
    assert database.open().keys("") == keys
    assert database.run("SELECT version FROM podnet_schema") == [(sql_schema.VERSION,)]


def swap_for_ever(database, report):
    """Replace all leases by those of the next number; tell every number that was swapped in."""
    store = database.open()
    while True:
        entry = store.load(KEY)
        number = entry[0].sequence + 1 if entry else 1
        held = [lease(offset, number) for offset in range(40)]
        new = block(*held, sequence=number, freed={500: 1.7e9 + number})
        # The server may still be at what a killed predecessor has sent.
        if store.swap(KEY, new, entry[1] if entry else None):
            os.write(report, number.to_bytes(4))


def test_a_swap_is_there_as_a_whole_or_not_at_all_whenever_it_is_killed(database):
    database.open()
    reached = 0
    for turn in range(12):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                swap_for_ever(database, theirs)
            finally:
                os._exit(1)
        os.close(theirs)
        assert os.read(ours, 4), "the child swaps nothing"
        time.sleep(0.003 * turn)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        told = b""
        while part := os.read(ours, 4096):
            told += part
        os.close(ours)
        swapped = int.from_bytes(told[-4:]) if told else reached
        found = database.open().load(KEY)[0]
        assert swapped <= found.sequence <= swapped + 1 or not told
        assert found.sequence > reached
        reached = found.sequence
        assert {each.sequence for each in found.leases.values()} == {reached}
        assert len(found.leases) == 40
        assert found.freed == {500: 1.7e9 + reached}


def test_a_forked_child_uses_nothing_of_its_parents(database):
    """Two processes on one connection mix up their answers; a lock may be another thread's."""
    store = database.open()
    put(store, block(lease(1)))
    assert store._database.engine.pool.checkedin() == 1

    def child(_number):
        assert store._database.engine.pool.checkedin() == 0
        new = Block(domain="child", version=4, index=1)
        assert store.swap(new.key, new, None) is True

    writing = getattr(store._database, "_writing", None)
    with writing or contextlib.nullcontext():
        in_processes(1, child)
    assert store.load(KEY)[0] == block(lease(1))
    assert len(store.keys("")) == 2


def test_more_threads_than_connections(database):
    store = database.open()
    keys = [f"{DOMAIN}/4/{n:06x}" for n in range(24)]

    def client(number):
        for turn in range(5):
            new = Block(domain=DOMAIN, version=4, index=number, sequence=turn)
            put(store, new, keys[number])

    in_threads(24, client)
    assert store.keys("") == keys


def test_damaged_rows_are_an_error_that_says_so(database):
    store = database.open()
    put(store, block(lease(1)))
    database.run(f"UPDATE podnet_addresses SET address_hex = '{FIRST + 600:08x}'")
    with pytest.raises(StoreError, match="rows are damaged") as raised:
        database.open().load(KEY)
    assert "not handed out" in raised.value.details
    database.run("UPDATE podnet_addresses SET address_hex = 'zz'")
    with pytest.raises(StoreError, match="rows are damaged"):
        database.open().load(KEY)
    database.run("UPDATE podnet_blocks SET version = 'by hand'")
    with pytest.raises(StoreError, match="rows are damaged"):
        database.open().load(KEY)


def test_turns_are_taken_one_after_the_other(database):
    store, other = database.open(), database.open()
    inside = []
    overlaps = []

    def client(number):
        for _ in range(5):
            with (store, other)[number % 2].queue(f"{DOMAIN}/4/"):
                inside.append(number)
                overlaps.append(len(inside))
                time.sleep(0.002)
                inside.remove(number)

    in_threads(3, client)
    assert set(overlaps) == {1}
    assert len(overlaps) == 15


def test_who_waits_too_long_for_a_turn_does_without(database, monkeypatch):
    from podnet.stores import sql_statements

    monkeypatch.setattr(sql_statements, "QUEUE_TIMEOUT", 0.05)
    one, two = database.open(), database.open()
    with one.queue("p"), two.queue("p"), two.queue("p"):
        put(two, block(lease(1)))


def test_an_error_inside_a_turn_is_passed_on_and_ends_it(database):
    store = database.open()
    with pytest.raises(ZeroDivisionError), store.queue("p"):
        raise ZeroDivisionError
    start = time.monotonic()
    with database.open().queue("p"):
        assert time.monotonic() - start < 1


def test_the_how_to_tells_every_column():
    page = (ROOT / "docs/how-to/keep-leases-in-sql.md").read_text()
    for table in (sql_schema.addresses, sql_schema.blocks):
        missing = [c.name for c in table.columns if f"| `{c.name}` |" not in page]
        assert missing == []
        assert f"`{table.name}`" in page
    assert re.search(rf"version\D+{sql_schema.VERSION}\b", page)
