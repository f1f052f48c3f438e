"""The SQL store: what it does is here, how SQLite and PostgreSQL do it is beside it."""

from __future__ import annotations

import os
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import exc

from podnet.errors import DecodingError, PodnetError, StoreBusyError, StoreError
from podnet.stores import sql_schema as schema
from podnet.stores import sql_statements as statements
from podnet.stores.recent import remember
from podnet.stores.sql_rows import HEAD, Known, assemble, difference, is_descendant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import ClauseElement, Connection, TextClause

    from podnet.model.block import Block
    from podnet.model.lease import Owner
    from podnet.stores.sql_rows import Change

    Params = Mapping[str, object]
    Rows = Sequence[Sequence[Any]]

_KNOWN_BLOCKS = 256
_HEAD = len(HEAD)


class Database(Protocol):
    """What differs between databases. Methods raise SQLAlchemy's errors, or the driver's.

    Attributes:
        place: how errors call it; without passwords.
        schema_there: gives a row where the tables are, and none where they are not.
        errors: the driver's base class of errors.
    """

    place: str

    @property
    def schema_there(self) -> TextClause:
        """A statement."""
        ...

    @property
    def errors(self) -> type[Exception]:
        """A class."""
        ...

    def alone(self) -> AbstractContextManager[Connection]:
        """Return a connection in a transaction that excludes others who change the schema."""
        ...

    def read(self, statement: ClauseElement, params: Mapping[str, object]) -> Rows:
        """Return the rows of one statement; what passes at once is waited for."""
        ...

    def write(self, change: Change) -> bool:
        """Write a change if its block is at the expected version; return whether it was."""
        ...

    def delete(self, key: str, expected: str) -> bool:
        """Delete a block of a version; return whether there was one."""
        ...

    def describe(self, error: BaseException) -> statements.Fault:
        """Return what an error says."""
        ...

    def queue(self, prefix: str) -> AbstractContextManager[object]:
        """Return what waits for a turn; it raises where there is none to be had."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...

    def after_fork(self) -> list[object]:
        """Make anew what belongs to the parent; return what must neither be used nor closed."""
        ...


class SqlStore:
    """Blocks in a database: each lease is a row that people can read.

    Threads and processes may share it; a child process that was forked may go on with it.
    """

    def __init__(self, database: Database) -> None:
        """Use a database; make the tables if they are missing.

        Raises:
            StoreError: it cannot be reached, or its tables are a later podnet's.
            StoreBusyError: it is busy, or about to start.
        """
        self._database = database
        self._known: dict[str, Known] = {}
        try:
            with self._faults("open it"):
                self._prepare()
        except BaseException:
            self.close()
            raise
        _opened.add(self)

    def _prepare(self) -> None:
        database = self._database
        if not database.read(database.schema_there, {}):
            with database.alone() as connection:
                if not connection.execute(database.schema_there).first():
                    schema.create(connection)
        schema.check(database.read(schema.FIND_VERSION, {})[0][0], database.place)

    def load(self, key: str) -> tuple[Block, str] | None:
        """Return the block and its version, or None where there is none.

        Raises:
            StoreError: the database is broken or unreachable, or has what podnet did not write.
            StoreBusyError: it is busy, or about to start.
        """
        with self._faults(f"load block {key!r}"):
            known = self._fetch(key)
        return None if known is None else (known.block, known.version)

    def _fetch(self, key: str) -> Known | None:
        before = self._known.get(key)
        rows = self._rows(key, before)
        if (
            rows
            and before is not None
            and not is_descendant(rows[0][0], rows[0][1], before.version)
        ):
            before = None
            rows = self._rows(key, before)
        if not rows:
            self._known.pop(key, None)
            return None
        if before is not None and rows[0][0] == before.version:
            return before
        changed = (row[_HEAD:] for row in rows if row[_HEAD] is not None)
        known = assemble(rows[0][:_HEAD], changed, before)
        remember(self._known, key, known, _KNOWN_BLOCKS)
        return known

    def _rows(self, key: str, since: Known | None) -> Rows:
        number = 0 if since is None else since.number
        return self._database.read(statements.LOAD, {"key": key, "number": number})

    def swap(self, key: str, new: Block | None, expected: str | None) -> bool:
        """Replace the block at ``key`` if it is still at version ``expected``.

        Raises:
            StoreError: the database is broken, or keeps an address of the block elsewhere.
            StoreBusyError: it is busy; nothing was written.
        """
        with self._faults(f"swap block {key!r}", writing=True):
            before = None
            if expected is not None:
                if new is None:
                    return self._database.delete(key, expected)
                before = self._known.get(key)
                if before is None or before.version != expected:
                    before = self._fetch(key)
                if before is None or before.version != expected:
                    return False
            elif new is None:
                return not self._database.read(statements.VERSION_AT, {"key": key})
            change, known = difference(key, before, new)
            try:
                won = self._database.write(change)
            except BaseException:
                # Rows may be there that nobody here knows; all of them have to be read.
                self._known.pop(key, None)
                raise
            if won:
                remember(self._known, key, known, _KNOWN_BLOCKS)
            return won

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start with ``prefix``, in order.

        Raises:
            StoreError: the database is broken or unreachable.
            StoreBusyError: it is busy, or about to start.
        """
        params = statements.prefix_params(prefix)
        with self._faults("list blocks"):
            return [
                row[0]
                for row in self._database.read(statements.keys_under(prefix=bool(prefix)), params)
            ]

    def seek(self, prefix: str, owner: Owner) -> list[str]:
        """Return the keys under ``prefix`` of the blocks that have a lease of the owner.

        Raises:
            StoreError: the database is broken or unreachable.
            StoreBusyError: it is busy, or about to start.
        """
        params = {"container": owner.container_id, "ifname": owner.ifname, "pod_uid": owner.pod_uid}
        statement = statements.keys_of_owner(pod=bool(owner.pod_uid))
        with self._faults("seek an owner"):
            found = [row[0] for row in self._database.read(statement, params)]
        return [key for key in found if key.startswith(prefix)]

    @contextmanager
    def queue(self, prefix: str) -> Iterator[None]:
        """Wait in line with others who want to change the same few blocks.

        Who has lost a swap loads, decides and swaps inside. It is a courtesy: those who do not
        wait may swap all the same, and who has waited long enough goes on without a turn.
        """
        with ExitStack() as stack:
            with suppress(PodnetError, exc.SQLAlchemyError, self._database.errors):
                stack.enter_context(self._database.queue(prefix))
            yield

    def close(self) -> None:
        """Close all connections and forget the blocks read."""
        self._known.clear()
        self._database.close()

    @contextmanager
    def _faults(self, what: str, *, writing: bool = False) -> Iterator[None]:
        """Turn what SQLAlchemy and the driver raise into podnet's errors."""
        database = self._database
        try:
            yield
        except DecodingError as error:
            raise StoreError(
                f"{database.place}: cannot {what}: its rows are damaged: {error}",
                "its leases are unknown, so its addresses are not handed out; set right what was "
                "changed by hand, or restore a backup",
            ) from error
        except exc.TimeoutError as error:
            raise StoreBusyError(
                f"{database.place}: cannot {what}: no connection became free"
            ) from error
        except UnicodeError as error:
            raise StoreError(f"{database.place}: cannot {what}: {error}") from error
        except (exc.SQLAlchemyError, database.errors) as error:
            raise self._fault(error, what, writing=writing) from error

    def _fault(self, error: Exception, what: str, *, writing: bool) -> PodnetError:
        fault = self._database.describe(getattr(error, "orig", None) or error)
        msg = f"{self._database.place}: cannot {what}: {fault.text}"
        details = [f"SQL state {fault.state}"] if fault.state else []
        if fault.passes:
            return StoreBusyError(msg, "; ".join(details))
        if fault.twice:
            details.append(
                "one of its addresses has a row already, which another block or other hands put "
                "there; nothing was written"
            )
        elif writing:
            details.append("whether it was written is not known")
        return StoreError(msg, "; ".join(details))

    def _disown(self) -> None:
        # The parent goes on using its connections. Here they must be neither used nor closed:
        # closing says good-bye to PostgreSQL, and drops locks of SQLite.
        _inherited.extend(self._database.after_fork())


_opened: weakref.WeakSet[SqlStore] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    for store in list(_opened):
        store._disown()


os.register_at_fork(after_in_child=_after_fork)
