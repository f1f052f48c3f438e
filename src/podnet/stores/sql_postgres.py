"""The PostgreSQL side of the SQL store: pooled connections, one round trip for each call."""

from __future__ import annotations

import functools
import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import (
    JSON,
    Text,
    bindparam,
    cast,
    column,
    create_engine,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import QueuePool

from podnet.stores import sql_statements as statements
from podnet.stores.sql_connection import connect, read_url, watch
from podnet.stores.sql_schema import addresses, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import CTE, ClauseElement, Connection, Select

    from podnet.stores.sql_rows import Change

    Params = Mapping[str, object]

# A process serves many threads with few connections: each is busy for a millisecond at a time,
# and a server has 100 for all nodes unless configured otherwise.
_CONNECTIONS = 8
# The number is "podnet" as an integer; other users of advisory locks have their own.
_SCHEMA_LOCK = 0x706F646E6574
# SQL states of transactions that the server ended for the sake of others: nothing is written.
_BEATEN = ("40001", "40P01")
# Too many connections, about to start, lock timeout, statement timeout: nothing is written either.
_PASSING = ("53300", "57P03", "55P03", "57014")
_TWICE = "23505"
_PASSING_WORDS = ("starting up", "too many clients", "connection slots", "not yet accepting")
_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class PostgresDatabase:
    """A PostgreSQL server; every call is one statement in a transaction of its own.

    Attributes:
        place: how errors call it; without the password.
        engine: SQLAlchemy's, in autocommit mode: there is no round trip to begin or to commit.
    """

    # Not to_regclass(): it may answer from a cache that is older than the lock of `alone`.
    schema_there = text(
        "SELECT 1 FROM pg_class WHERE relname = 'podnet_schema' AND pg_table_is_visible(oid)"
    )
    errors = psycopg.Error

    def __init__(self, url: str, shown: str, *, timeout: float = 10.0) -> None:
        """Take what ``libpq`` understands, several hosts and all its parameters included.

        Args:
            url: ``postgresql://user:password@host:port/database?parameter=value``.
            shown: the same without secrets.
            timeout: seconds for one statement, waiting for locks included.

        Raises:
            InvalidConfigError: it is no such URL.
        """
        given = read_url(url, shown)
        self._timeout = timeout
        self._params = given
        user, host = given.get("user", ""), given.get("host") or given.get("hostaddr", "")
        port, name = given.get("port", ""), given.get("dbname", "")
        self.place = f"postgresql://{user}{user and '@'}{host}{port and ':'}{port}/{name}"
        self._secrets = [str(v) for k, v in given.items() if v and "password" in k]
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=timeout,
            # The last used first: those that are not needed stay idle, and the server notices.
            pool_use_lifo=True,
            pool_reset_on_return=None,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
        )
        # Turns are held while other connections are needed, and so come from elsewhere.
        self._queues = QueuePool(self._connect, pool_size=1, max_overflow=3, timeout=0.01)
        watch(self.engine)
        watch(self._queues)

    def _connect(self) -> Any:
        return connect(self._params, self._timeout)

    def after_fork(self) -> list[object]:
        """Make anew what belongs to the parent; return what must neither be used nor closed."""
        inherited: list[object] = [self.engine.pool, self._queues]
        self.engine.dispose(close=False)
        self._queues = self._queues.recreate()
        return inherited

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self._queues.dispose()

    @contextmanager
    def queue(self, prefix: str) -> Iterator[None]:
        """Wait for an advisory lock, and hold it in a transaction of a connection of its own."""
        digest = hashlib.sha256(f"podnet queue {prefix}".encode()).digest()
        number = int.from_bytes(digest[:8], signed=True)
        pooled = self._queues.connect()
        raw = pooled.driver_connection
        assert isinstance(raw, psycopg.Connection)
        try:
            raw.execute(
                f"BEGIN; SET LOCAL lock_timeout = {int(statements.QUEUE_TIMEOUT * 1000)}; "
                f"SELECT pg_advisory_xact_lock({number})"
            )
            yield
        finally:
            try:
                raw.rollback()
            except psycopg.Error as error:  # the server has ended the transaction, and the turn
                pooled.invalidate(error)
            pooled.close()

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Return a connection in a transaction that excludes others who change the schema."""
        with self.engine.connect() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
                yield connection

    def read(self, statement: ClauseElement, params: Params) -> Sequence[Sequence[Any]]:
        """Return the rows of one statement; a connection that broke is replaced once."""
        return self._run(statement, params, again=True)

    def delete(self, key: str, expected: str) -> bool:
        """Delete a block of a version; return whether there was one."""
        return self._count(_DELETE, {"key": key, "expected": expected}) == 1

    def write(self, change: Change) -> bool:
        """Write a change if its block is at the expected version; return whether it was."""
        parts = (change.expected is None, change.anew, bool(change.fresh), bool(change.known))
        params = statements.head_params(change) | {"changed": change.stamp["changed"]}
        for name in ("fresh", "known"):
            if rows := getattr(change, name):
                params[name] = json.dumps(rows)
        return self._count(_statement(*parts), params) == 1

    def _count(self, statement: ClauseElement, params: Params) -> int:
        """Return the number that a statement gives, which writes nothing where that is 0."""
        try:
            return int(self._run(statement, params)[0][0])
        except psycopg.Error as error:
            if error.sqlstate in _BEATEN:
                return 0
            raise

    def _run(
        self, statement: ClauseElement, params: Params, *, again: bool = False
    ) -> Sequence[Sequence[Any]]:
        pooled = self.engine.raw_connection()
        raw = pooled.driver_connection
        assert isinstance(raw, psycopg.Connection)
        try:
            return raw.execute(statements.sql(statement, _DIALECT), params).fetchall()
        except psycopg.Error as error:
            if raw.closed:
                pooled.invalidate(error)
            if not again or not (raw.closed or error.sqlstate in _BEATEN):
                raise
        finally:
            pooled.close()
        return self._run(statement, params)

    def describe(self, error: BaseException) -> statements.Fault:
        """Return what an error says."""
        said, state = " ".join(str(error).split()), getattr(error, "sqlstate", None) or ""
        # libpq keeps no SQL state of a connection that was refused.
        passes = state in _PASSING or (not state and any(each in said for each in _PASSING_WORDS))
        for secret in self._secrets:
            said = said.replace(secret, "***")
        return statements.Fault(said, state, passes, state == _TWICE)


_DELETE = select(func.count()).select_from(
    statements.DELETE.returning(blocks.c.block_key).cte("done")
)


@functools.cache
def _statement(create: bool, anew: bool, fresh: bool, known: bool) -> Select[int]:
    """Return the statement that writes a change of that shape, and counts the blocks written.

    All parts see the database as it was before. The first one locks the block's row and changes
    nothing unless the version is the expected one; the others then follow it.
    """
    key = blocks.c.block_key
    if create:
        values = {
            "block_key": statements.KEY,
            "earlier": literal_column("''"),
            **statements.head_values(),
        }
        block: Any = (
            postgres_insert(blocks).values(values).on_conflict_do_nothing(index_elements=[key])
        )
    else:
        block = statements.replace_block(anew=anew)
    done = block.returning(key).cte("done")
    count = select(func.count()).select_from(done)
    if anew:
        gone = delete(addresses).where(addresses.c.block_key.in_(select(done.c.block_key)))
        count = count.add_cte(gone.cte("gone"))
    if fresh:
        count = count.add_cte(_rows(insert, "fresh", done).cte("put"))
    if known:
        rows = _rows(postgres_insert, "known", done)
        values = {name: rows.excluded[name] for name in statements.UPDATED_COLUMNS}
        upsert = rows.on_conflict_do_update(index_elements=statements.KEY_COLUMNS, set_=values)
        count = count.add_cte(upsert.cte("changed"))
    return count


def _rows(insert: Any, name: str, done: CTE) -> Any:
    """Return an INSERT of rows that come as one JSON text: a parameter, however many they are."""
    names = statements.ROW_COLUMNS
    document = cast(bindparam(name, type_=Text), JSON)
    columns = [column(each, addresses.c[each].type) for each in names]
    given = func.json_to_recordset(document).table_valued(*columns)
    rows = given.render_derived(name=f"{name}_rows", with_types=True)
    stamp = {
        "block_key": done.c.block_key,
        "domain": bindparam("new_domain", type_=addresses.c.domain.type),
        "ip_version": bindparam("new_ip_version", type_=addresses.c.ip_version.type),
        "changed": bindparam("changed", type_=addresses.c.changed.type),
    }
    query = select(*stamp.values(), *(rows.c[each] for each in names))
    query = query.select_from(done.join(rows, true()))
    return insert(addresses).from_select([*stamp, *names], query)
