"""Tables of the SQL store: what they are called, what is in them, and how they come to be.

Nothing here is podnet's secret: people join these tables with their inventory, so names and
meanings are an interface. ``docs/how-to/keep-leases-in-sql.md`` tells them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    and_,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.types import UserDefinedType

from podnet.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

VERSION = 1
"""Version of this schema; tables of another one are refused when they are opened, not later.

A change of the schema has to make the statements of those who have it open fail.
"""

metadata = MetaData()

# Bytes decide the order in both databases, as they do in Python; PostgreSQL would otherwise sort
# and compare by the rules of a language, and its indexes would have to be rebuilt when the
# operating system's idea of that language changes.
_Text = Text().with_variant(Text(collation="C"), "postgresql")


class _AnyNumber(UserDefinedType[int]):
    """A column without a declared type: SQLite keeps in it whatever it is given."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return ""


# A whole number of any size; SQLite is given one above 63 bits as text.
_Whole = Numeric().with_variant(_AnyNumber(), "sqlite")


schema = Table(
    "podnet_schema",
    metadata,
    Column("version", Integer, primary_key=True, comment="version of the podnet_ tables"),
)

blocks = Table(
    "podnet_blocks",
    metadata,
    Column("block_key", _Text, primary_key=True, comment="what podnet calls the block"),
    Column("version", _Text, nullable=False, comment="changes with every change of the block"),
    Column("earlier", _Text, nullable=False, comment="ends of the last versions, newest first"),
    Column("domain", _Text, nullable=False, comment="an address is held once in a domain"),
    Column("ip_version", SmallInteger, nullable=False, comment="4 or 6"),
    Column("first_address", _Text, nullable=False, comment="lowest of its 512 addresses"),
    Column("first_hex", _Text, nullable=False, comment="the same as address_hex"),
    Column("sequence", _Whole, nullable=False, comment="number of the last grant"),
    Column("holder", _Text, nullable=False, comment="node that alone grants from it; or empty"),
    Column("recalled", Boolean, nullable=False, comment="the holder is asked to give it back"),
)

addresses = Table(
    "podnet_addresses",
    metadata,
    Column("domain", _Text, primary_key=True, comment="an address is held once in a domain"),
    Column("ip_version", SmallInteger, primary_key=True, comment="4 or 6"),
    Column("address_hex", _Text, primary_key=True, comment="8 or 32 hex digits: sorts as numbers"),
    Column("address", _Text, nullable=False, comment="192.168.60.20, 2001:db8::14"),
    Column("prefix_length", SmallInteger, nullable=False, comment="of the pool's network"),
    Column("held", Boolean, nullable=False, comment="false: free, and the rest tells of the past"),
    Column("released", Double, comment="when it became free, seconds since 1970"),
    Column("pool", _Text, nullable=False, comment="name of the pool"),
    Column("pod_namespace", _Text, nullable=False, comment="empty if unknown, as all of these"),
    Column("pod_name", _Text, nullable=False),
    Column("pod_uid", _Text, nullable=False),
    Column("container", _Text, nullable=False, comment="container id, or any holder's name"),
    Column("ifname", _Text, nullable=False, comment="interface in the container"),
    Column("node", _Text, nullable=False, comment="node that asked for it"),
    Column("network", _Text, nullable=False, comment="CNI network it is for"),
    Column("since", Double, nullable=False, comment="when it was granted, seconds since 1970"),
    Column("sequence", _Whole, nullable=False, comment="number of the grant"),
    Column("claim", _Text, nullable=False, comment="what keeps it beyond its container; or empty"),
    Column(
        "block_key",
        _Text,
        ForeignKey(blocks.c.block_key, ondelete="CASCADE"),
        nullable=False,
        comment="its block in podnet_blocks",
    ),
    Column("changed", BigInteger, nullable=False, comment="number of its block's version"),
    # Neighbouring addresses are read together: SQLite keeps them together.
    sqlite_with_rowid=False,
)

Index("podnet_addresses_block", addresses.c.block_key, addresses.c.changed)
# As text: SQLAlchemy spells a bare truth value in several ways, and SQLite uses these indexes only
# where a query has the very same words in it.
HELD, HAS_POD = text("held"), text("pod_uid <> ''")
for _name, _column, _where in (
    ("podnet_addresses_container", addresses.c.container, HELD),
    ("podnet_addresses_pod", addresses.c.pod_uid, and_(HELD, HAS_POD)),
):
    Index(_name, _column, addresses.c.ifname, sqlite_where=_where, postgresql_where=_where)

_VIEW = """
CREATE VIEW podnet_leases AS
SELECT domain, pool, address, prefix_length, pod_namespace, pod_name, pod_uid, container, ifname,
    node, network, {since} AS since, claim, ip_version, address_hex, sequence, block_key
FROM podnet_addresses WHERE held
"""
# Times outside of what a database has dates for must not make the whole view fail.
_IN_RANGE = "since BETWEEN 0 AND 253402300799"
_SINCE = {
    "sqlite": f"CASE WHEN {_IN_RANGE} THEN datetime(since, 'unixepoch') END",
    "postgresql": f"CASE WHEN {_IN_RANGE} THEN to_timestamp(since) END",
}
# Every swap changes a block's row; its page needs room for the next version of it.
_FILL = "ALTER TABLE podnet_blocks SET (fillfactor = 50)"
for _dialect, _statements in (
    ("sqlite", (_VIEW.format(since=_SINCE["sqlite"]),)),
    ("postgresql", (_VIEW.format(since=_SINCE["postgresql"]), _FILL)),
):
    for _statement in _statements:
        # SQLAlchemy annotates DDL's use, not its making.
        _ddl = DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(metadata, "after_create", _ddl.execute_if(dialect=_dialect))


FIND_VERSION = select(func.max(schema.c.version))


def create(connection: Connection) -> None:
    """Make tables, indexes and view; the caller sees to it that nobody else does so now."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(schema).values(version=VERSION))


def check(found: int | None, place: str) -> None:
    """Refuse a schema that this podnet does not know.

    Raises:
        StoreError: a later podnet made it, or nobody knows who.
    """
    if found != VERSION:
        made_by = "a later podnet" if found is not None and found > VERSION else "another program"
        raise StoreError(
            f"{place}: the podnet_ tables have schema version {found}, made by {made_by}",
            f"this podnet knows version {VERSION}; nothing was changed",
        )
