"""What is PostgreSQL's own in the SQL store, on a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from urllib.parse import quote

import pytest

from podnet.errors import StoreBusyError, StoreError

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

from sql_lab import KEY, Database, block, lease, owner, put, with_lease

from podnet.stores import sql_connection, sql_postgres
from podnet.stores.sql_postgres import PostgresDatabase
from podnet.stores.sql_store import SqlStore


@pytest.fixture
def database(postgres):
    database = Database(postgres.new_url())
    yield database
    database.close()


@pytest.fixture
def hasty(database):
    """A store that waits for half a second only."""
    store = SqlStore(PostgresDatabase(database.url, "url", timeout=0.5))
    yield store
    store.close()


def backends(database, where="true"):
    """Process ids of the stores' connections."""
    return [
        pid
        for (pid,) in database.run(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'podnet' AND "
            f"pid <> pg_backend_pid() AND {where}"
        )
    ]


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def locked_row(database):
    """Hold the block's row as a swap in progress does."""
    with database.connection() as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM podnet_blocks FOR UPDATE")
        try:
            yield other
        finally:
            other.execute("ROLLBACK")


def test_a_restarted_server_is_used_again(database, postgres):
    store = database.open()
    put(store, block(lease(1)))
    before = store.load(KEY)
    postgres.stop()
    with pytest.raises(StoreError, match="cannot load block 'lab/4/005000'"):
        store.load(KEY)
    with pytest.raises(StoreError):
        store.swap(KEY, with_lease(before[0], lease(2)), before[1])
    postgres.start()
    assert store.load(KEY) == before
    assert store.swap(KEY, with_lease(before[0], lease(2)), before[1]) is True


def test_a_server_restarted_unnoticed_costs_no_swap(database, postgres):
    """Whether a swap on a dead connection was done cannot be known: it must not come to that."""
    store = database.open()
    put(store, block(lease(1)))
    before = store.load(KEY)
    postgres.stop()
    postgres.start()
    assert store.swap(KEY, with_lease(before[0], lease(2)), before[1]) is True


def test_connections_that_were_ended_are_replaced(database):
    store = database.open()
    for number in range(3):
        put(store, block(lease(number)))
        with store.queue("p"):
            pass
        database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE application_name = 'podnet'")  # fmt: skip
        wait_for(lambda: not backends(database))


def test_what_becomes_of_a_swap_that_loses_its_connection_is_unknown(database):
    store = database.open()
    version = put(store, block(lease(1)))
    failures = []

    def swap():
        try:
            store.swap(KEY, block(lease(2)), version)
        except StoreError as error:
            failures.append(error)

    with locked_row(database):
        thread = threading.Thread(target=swap)
        thread.start()
        (waiting,) = wait_for(lambda: backends(database, "wait_event_type = 'Lock'"))
        database.run(f"SELECT pg_terminate_backend({waiting})")
        thread.join(10)
    (failure,) = failures
    assert "whether it was written is not known" in failure.details
    assert failure.code == 106
    assert store.load(KEY)[0] == block(lease(1))


def test_a_read_that_loses_its_connection_is_done_again(database):
    store = database.open()
    put(store, block(lease(1)))
    found = []
    with database.connection() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE podnet_blocks IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=lambda: found.append(store.load(KEY)))
        thread.start()
        (waiting,) = wait_for(lambda: backends(database, "wait_event_type = 'Lock'"))
        database.run(f"SELECT pg_terminate_backend({waiting})")
        wait_for(lambda: backends(database, "wait_event_type = 'Lock'"))
        other.execute("ROLLBACK")
    thread.join(10)
    assert found[0][0] == block(lease(1))


def test_a_lock_held_for_long_is_worth_a_retry(database, hasty):
    version = put(hasty, block(lease(1)))
    with locked_row(database):
        start = time.monotonic()
        with pytest.raises(StoreBusyError) as raised:
            hasty.swap(KEY, block(lease(2)), version)
        assert time.monotonic() - start < 5
    assert raised.value.code == 11
    assert hasty.swap(KEY, block(lease(2)), version) is True


def test_a_server_that_hangs_is_not_waited_for_for_ever(database, hasty):
    """Stopped, it answers nobody, and to TCP it is alive."""
    version = put(hasty, block(lease(1)))
    (pid,) = backends(database, "state = 'idle'")[:1]
    os.kill(pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(StoreError, match="did not answer for"):
            hasty.swap(KEY, block(lease(2)), version)
        assert time.monotonic() - start < 5
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_transaction_ended_for_the_sake_of_another_is_a_lost_race(database, state):
    store = database.open()
    version = put(store, block(lease(1)))
    raise_in_swap(database, state)
    assert store.swap(KEY, block(lease(2)), version) is False
    assert store.swap(KEY, None, version) is False
    assert store.load(KEY) == (block(lease(1)), version)


@pytest.mark.parametrize("state", ["53300", "57P03", "55P03", "57014"])
def test_what_passes_by_itself_is_worth_a_retry(database, state):
    store = database.open()
    version = put(store, block(lease(1)))
    raise_in_swap(database, state)
    with pytest.raises(StoreBusyError, match="by hand") as raised:
        store.swap(KEY, block(lease(2)), version)
    assert f"SQL state {state}" in raised.value.details


@pytest.mark.parametrize("state", ["53100", "XX001", "25006"])
def test_what_does_not_pass_names_the_sql_state(database, state):
    store = database.open()
    version = put(store, block(lease(1)))
    raise_in_swap(database, state)
    with pytest.raises(StoreError, match=f"SQL state {state}"):
        store.swap(KEY, block(lease(2)), version)


def raise_in_swap(database, state):
    """Let the server refuse every change of a block."""
    database.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'by hand' USING ERRCODE = '{state}'; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON podnet_blocks "
        "FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


def test_the_default_isolation_of_a_role_does_not_matter(database):
    """A swap that waits for another must see what that wrote, not fail or overwrite it."""
    url = database.url.replace(
        "options=", f"options={quote('-cdefault_transaction_isolation=serializable ')}"
    )
    strict = Database(url)
    store, other = strict.open(), strict.open()
    put(store, block(lease(1)))
    assert store._database.read(sql_postgres.text("SHOW transaction_isolation"), {}) == [
        ("read committed",)
    ]
    put(other, block(lease(2)))
    put(store, block(lease(3)))
    assert other.load(KEY)[0] == block(lease(3))
    strict.close()


def test_a_role_that_may_not_create_uses_the_tables_that_are_there(database, postgres):
    (schema,) = database.run("SELECT current_schema()")[0]
    role = f"reader_{schema}"
    database.run(f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    limited = Database(database.url.replace("//postgres:", f"//{role}:"))
    with pytest.raises(StoreError, match="SQL state 42501"):
        limited.open()
    put(database.open(), block(lease(1)))
    with pytest.raises(StoreError, match="SQL state 42501"):
        limited.open()
    database.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
    put(limited.open(), block(lease(2)))
    assert database.open().load(KEY)[0] == block(lease(2))
    limited.close()


def test_a_text_that_the_server_cannot_keep_is_refused(database):
    store = database.open()
    with pytest.raises(StoreError, match="cannot swap"):
        store.swap(KEY, block(lease(1, pool="nul \0")), None)
    assert store.load(KEY) is None


def test_a_swap_is_one_round_trip_and_so_is_a_load(database, monkeypatch):
    store = database.open()
    put(store, block(lease(1)))
    before = store.load(KEY)
    sent = []
    run = sql_connection.BoundedConnection.execute
    monkeypatch.setattr(
        sql_connection.BoundedConnection,
        "execute",
        lambda self, *args, **rest: sent.append(args[0]) or run(self, *args, **rest),
    )
    assert store.swap(KEY, block(lease(1, 5), lease(2), sequence=9), before[1]) is True
    assert len(sent) == 1
    store.load(KEY)
    assert len(sent) == 2


def test_tables_and_columns_explain_themselves(database):
    database.open()
    rows = database.run(
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attnum > 0 AND "
        "attrelid IN ('podnet_addresses'::regclass, 'podnet_blocks'::regclass)"
    )
    assert len(rows) == 30
    assert sum(text is None for (text,) in rows) <= 2


def test_an_owner_is_sought_by_index(database):
    store = database.open()
    for index in range(4):
        put(store, block(*(lease(n, n) for n in range(index, 512, 4)), sequence=512), KEY)
    assert list(store.seek("lab/", owner(7))) == [KEY]
    with database.connection() as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(
            row[0]
            for row in connection.execute(
                "EXPLAIN SELECT block_key FROM podnet_addresses "
                "WHERE held AND container = 'c' AND ifname = 'e'"
            )
        )
    assert "podnet_addresses_container" in plan
