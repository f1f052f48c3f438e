"""The statements both databases run as they are, and the parts of those that differ."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from attrs import frozen
from sqlalchemy import (
    CompoundSelect,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    union,
    update,
)

from podnet.stores.sql_rows import HEAD, LEASE, MARK, REMEMBERED
from podnet.stores.sql_schema import HAS_POD, HELD, addresses, blocks

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ClauseElement, Dialect

    from podnet.stores.sql_rows import Change

HEAD_COLUMNS = (
    "domain",
    "ip_version",
    "first_address",
    "first_hex",
    "sequence",
    "holder",
    "recalled",
)
STAMP_COLUMNS = ("domain", "ip_version", "block_key", "changed")
ROW_COLUMNS = tuple(c.name for c in addresses.columns if c.name not in STAMP_COLUMNS)
KEY_COLUMNS = [c.name for c in addresses.primary_key.columns]
"""Columns by which a row of ``podnet_addresses`` is known."""
UPDATED_COLUMNS = [c.name for c in addresses.columns if c.name not in (*KEY_COLUMNS, "block_key")]
"""Columns that change in the life of a row."""

QUEUE_TIMEOUT = 2.0
"""Seconds to wait for a turn before doing without."""


@frozen
class Fault:
    """What a driver's error says.

    Attributes:
        text: one line, without passwords.
        state: the SQL state, or the database's name of it; empty where there is none.
        passes: waiting helps; nothing was written.
        twice: a row of the same address is there already; nothing was written.
    """

    text: str
    state: str
    passes: bool
    twice: bool


KEY = bindparam("key", type_=blocks.c.block_key.type)
_EXPECTED = bindparam("expected", type_=blocks.c.version.type)

# One statement sees one state of the database, in any isolation level: version and rows agree.
LOAD = (
    select(*(blocks.c[name] for name in HEAD), *(addresses.c[name] for name in LEASE))
    .select_from(
        blocks.outerjoin(
            addresses,
            and_(
                addresses.c.block_key == blocks.c.block_key,
                addresses.c.changed > bindparam("number", type_=addresses.c.changed.type),
            ),
        )
    )
    .where(blocks.c.block_key == KEY)
)
VERSION_AT = select(blocks.c.version).where(blocks.c.block_key == KEY)
DELETE = delete(blocks).where(blocks.c.block_key == KEY, blocks.c.version == _EXPECTED)
DELETE_ROWS = delete(addresses).where(addresses.c.block_key == KEY)


@functools.cache
def sql(statement: ClauseElement, dialect: Dialect) -> str:
    """Return a statement as text with named parameters.

    Statements are made here and in the modules of the databases once and for all, and run by the
    driver: SQLAlchemy's own way through a result costs 0.15 ms a call, more than a database needs
    to answer it.
    """
    return str(statement.compile(dialect=dialect))


@functools.cache
def keys_under(*, prefix: bool) -> Select[Any]:
    """Return the statement for all keys, or for those that start with a prefix."""
    query = select(blocks.c.block_key).order_by(blocks.c.block_key)
    return query.where(*_starts_with(blocks.c.block_key)) if prefix else query


@functools.cache
def keys_of_owner(*, pod: bool) -> CompoundSelect[Any]:
    """Return the statement for the keys of all blocks in which an owner holds a lease.

    It has no prefix in it: an owner has a few leases, and a database that knows no better would
    rather look through all blocks under the prefix.

    Args:
        pod: the owner has a pod's UID.
    """
    found = []
    for column in (addresses.c.container, addresses.c.pod_uid)[: 1 + pod]:
        query = select(addresses.c.block_key).where(
            HELD,
            column == bindparam(column.name, type_=column.type),
            addresses.c.ifname == bindparam("ifname", type_=addresses.c.ifname.type),
        )
        if column is addresses.c.pod_uid:
            query = query.where(HAS_POD)
        found.append(query)
    return union(*found)


def _starts_with(column: Any) -> tuple[Any, ...]:
    # The index finds the first and the last; `%` and `_` are letters like others. No text that
    # can be printed has the last code point in it.
    prefix = bindparam("prefix", type_=column.type)
    return (column >= prefix, column < bindparam("beyond", type_=column.type))


def prefix_params(prefix: str) -> dict[str, object]:
    """Return the parameters of ``_starts_with``."""
    return {"prefix": prefix, "beyond": prefix + "\U0010ffff"} if prefix else {}


def replace_block(*, anew: bool) -> Update:
    """Return the statement that puts a block's row in the place of the expected version."""
    earlier: Any = literal_column("''")
    if not anew:
        mark = bindparam("mark", type_=blocks.c.earlier.type)
        earlier = func.substr(
            mark + blocks.c.earlier, literal_column("1"), literal_column(str(MARK * REMEMBERED))
        )
    return (
        update(blocks)
        .where(blocks.c.block_key == KEY, blocks.c.version == _EXPECTED)
        .values(earlier=earlier, **head_values())
    )


def head_values() -> dict[str, BindParameter[Any]]:
    """Return the columns of a block's row as parameters."""
    return {
        name: bindparam(f"new_{name}", type_=blocks.c[name].type)
        for name in ("version", *HEAD_COLUMNS)
    }


def head_params(change: Change) -> dict[str, object]:
    """Return the parameters of ``replace_block`` and of ``head_values``."""
    return {
        "key": change.key,
        "expected": change.expected,
        "mark": change.mark,
        "new_version": change.version,
        **{f"new_{name}": value for name, value in change.head.items()},
    }
