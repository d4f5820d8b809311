"""The table of usage records in state.db; the others of usage, and how to change any, are in `store/schema.py`."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table

from stoker.store.schema import metadata

# Records as they were settled, many in a row: zlib of msgpack of a list of types/usage.UsageRecord. Times are of the
# records' ends, unix milliseconds; projects: those that are in it, one a line, "" where they are too many.
usage_batches: Final = Table(
    "usage_batches",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("from_ms", BigInteger, nullable=False),
    Column("to_ms", BigInteger, nullable=False),
    Column("records", Integer, nullable=False),
    Column("projects", String(1024), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("usage_batches_to", "to_ms"),
    sqlite_autoincrement=True,
)
