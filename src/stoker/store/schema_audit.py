"""The tables of the audit in state.db; the others, and how to change any, are in `store/schema.py`."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from stoker.store.schema import metadata

# Who did what (types/audit.py): only appended, in the transaction of what it tells of; dropped only as a prefix.
audit: Final = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(128), nullable=False),
    Column("resources", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Index("audit_actor", "actor", "sequence"),
    Index("audit_at", "at_us"),
)

# The checkpoints over them, as they also stand in a file beside the database.
audit_checkpoints: Final = Table(
    "audit_checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("line", Text, nullable=False),
)

audit_holds: Final = Table(
    "audit_holds",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("because", Text, nullable=False),
    Column("at_s", Float, nullable=False),
    Column("by", String(128), nullable=False),
)
