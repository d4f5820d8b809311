"""The table of secrets that were read: by reference, never the value."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, String, Table

from stoker.store.schema import metadata

# A row a reference and process that resolves it. `number`: how many values it saw; `read_at_s`: when it saw that one.
secret_reads: Final = Table(
    "secret_reads",
    metadata,
    Column("reference", String(1200), primary_key=True),
    Column("process", String(63), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("read_at_s", Float, nullable=False),
)
