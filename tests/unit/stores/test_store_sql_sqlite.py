"""What is SQLite's own in the SQL store."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time

import pytest

from podnet.errors import StoreBusyError, StoreError

pytest.importorskip("sqlalchemy")

from sql_lab import KEY, Database, block, lease, owner, put, with_lease

from podnet.stores import sql_sqlite, sql_statements
from podnet.stores.sql_sqlite import SqliteDatabase
from podnet.stores.sql_store import SqlStore


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state" / "leases.db")


@pytest.fixture
def database(path):
    database = Database(f"sqlite:{path}")
    yield database
    database.close()


def test_files_and_folders_are_private(database, path):
    mask = os.umask(0)
    try:
        store = database.open()
        put(store, block(lease(1)))
        with store.queue("p"):
            names = sorted(os.listdir(os.path.dirname(path)))
            assert names == [f"leases.db{end}" for end in ("", "-queue", "-shm", "-wal")]
            folder = os.path.dirname(path)
            for name in names:
                assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    finally:
        os.umask(mask)


def test_every_commit_is_on_the_disk_and_readers_are_never_in_the_way(database):
    store = database.open()
    with store._database._connection() as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "locking_mode")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "locking_mode": "normal",
    }


def test_others_who_write_for_long_are_worth_a_retry(path):
    store = SqlStore(SqliteDatabase(path, timeout=0.1))
    put(store, block(lease(1)))
    before = store.load(KEY)
    with Database(f"sqlite:{path}").connection() as other:
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(StoreBusyError, match="locked by others"):
            store.swap(KEY, with_lease(before[0], lease(2)), before[1])
        assert time.monotonic() - start < 5
        assert store.load(KEY) == before  # reading goes on
        other.execute("ROLLBACK")
    assert store.swap(KEY, with_lease(before[0], lease(2)), before[1]) is True
    store.close()


def test_a_writer_that_ends_is_waited_for(database):
    store = database.open()
    put(store, block(lease(1)))
    before = store.load(KEY)
    with database.connection() as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.2, lambda: None)
        waiting = threading.Thread(
            target=lambda: results.append(
                store.swap(KEY, with_lease(before[0], lease(2)), before[1])
            )
        )
        results = []
        waiting.start()
        waiting.join(0.1)
        assert results == []
        other.execute("ROLLBACK")
        waiting.join(10)
        timer.cancel()
    assert results == [True]


def test_who_has_lost_does_not_wait_for_the_next_writer(database):
    store, other = database.open(), database.open()
    stale = put(store, block(lease(1)))
    put(other, block(lease(2)))
    with database.connection() as writer:
        writer.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        assert store._database.write(change(store, stale)) is False
        assert time.monotonic() - start < 2
        writer.execute("ROLLBACK")


def change(store, expected):
    from podnet.stores.sql_rows import Known, difference

    return difference(KEY, Known(expected, block(lease(1)), 0b10), block(lease(3)))[0]


def test_threads_of_one_process_do_not_wait_for_ever_either(path):
    store = SqlStore(SqliteDatabase(path, timeout=0.05))
    store._database._writing.acquire()
    with pytest.raises(StoreBusyError):
        store.swap(KEY, block(lease(1)), None)
    store._database._writing.release()
    store.close()


def test_a_full_disk_changes_nothing(database, path):
    store = database.open()
    put(store, block(lease(1)))
    before = store.load(KEY)
    with store._database._connection() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    many = block(*(lease(n, n) for n in range(512)), sequence=512)
    with pytest.raises(StoreError, match="database or disk is full") as raised:
        store.swap(KEY, many, before[1])
    assert "SQLITE_FULL" in raised.value.details
    assert path in raised.value.msg
    with store._database._connection() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert store.load(KEY) == before
    assert store.swap(KEY, many, before[1]) is True


def test_a_file_that_is_no_database_is_left_alone(database, path):
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(b"notes " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        database.open()
    with open(path, "rb") as file:
        assert file.read() == b"notes " * 1000


def test_a_place_where_no_file_can_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot make folder"):
        SqliteDatabase(str(tmp_path / "file" / "leases.db"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        SqlStore(SqliteDatabase(str(tmp_path / "folder")))


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "a#b.db", "ä😀.db", "'; --.db", "a&b=c.db"])
def test_odd_file_names(tmp_path, name):
    database = Database(f"sqlite:{tmp_path}/{name}")
    put(database.open(), block(lease(1)))
    assert database.run("SELECT count(*) FROM podnet_leases") == [(1,)]
    database.close()
    assert name in os.listdir(tmp_path)


def test_an_owner_is_sought_by_index(database):
    """And not by reading all addresses, whatever SQLite's planner believes about them."""
    database.open()
    statement = sql_sqlite._sql(sql_statements.keys_of_owner(pod=True))
    with database.connection() as connection:
        params = {"container": "c", "ifname": "eth1", "pod_uid": "u"}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", params)]
    used = [step.partition("USING INDEX ")[2] for step in plan if step.startswith("SEARCH")]
    assert used == [
        "podnet_addresses_container (container=? AND ifname=?)",
        "podnet_addresses_pod (pod_uid=? AND ifname=?)",
    ]
    assert not [step for step in plan if step.startswith("SCAN")]


def test_a_block_is_loaded_by_index(database):
    database.open()
    statement = sql_sqlite._sql(sql_statements.LOAD)
    with database.connection() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", {"key": "k", "number": 1})
        assert [row[3].partition(" ")[0] for row in plan] == ["SEARCH", "SEARCH"]


def test_a_sequence_of_any_size_is_kept(database):
    store = database.open()
    for number in ((1 << 63) - 1, 1 << 63, 1 << 200):
        put(store, block(lease(1, sequence=number), sequence=number))
        found = database.open().load(KEY)[0]
        assert found.sequence == found.leases[1].sequence == number


def test_a_closed_store_leaves_one_file(database, path):
    store = database.open()
    put(store, block(lease(1)))
    store.close()
    assert os.listdir(os.path.dirname(path)) == ["leases.db"]
    assert isinstance(sqlite3.connect(path).execute("SELECT 1").fetchone(), tuple)
    assert list(database.open().seek("", owner(0))) == [KEY]
