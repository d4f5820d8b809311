"""The tables of costs in state.db; the others, and how to change any, are in `store/schema.py`."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from stoker.store.schema import metadata

# What nodes and replicas did with their time in an hour (core/cost/timesheet.py), until it is made lines of.
cost_sheets: Final = Table(
    "cost_sheets",
    metadata,
    Column("hour_s", BigInteger, primary_key=True),  # unix seconds
    Column("is_open", Boolean, nullable=False),  # the hour of now
    Column("sheet", Text, nullable=False),
)

# What engines did in an hour, by whom it was asked for (core/cost/hours.py), until it is made lines of.
cost_works: Final = Table(
    "cost_works",
    metadata,
    Column("hour_s", BigInteger, primary_key=True),
    Column("revision", String(160), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("project", String(63), primary_key=True),
    Column("key", String(16), primary_key=True),
    Column("tags_digest", String(16), primary_key=True),
    Column("tags", Text, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("compute_us", BigInteger, nullable=False),
)

# How long replicas held GPUs in an hour, by project: thousandths of a GPU times milliseconds, over 1000.
gpu_times: Final = Table(
    "gpu_times",
    metadata,
    Column("hour_s", BigInteger, primary_key=True),
    Column("project", String(63), primary_key=True),
    Column("gpu_ms", BigInteger, nullable=False),
)

# Where the money went in an hour or, later, a day (types/costs.py, CostLine).
cost_lines: Final = Table(
    "cost_lines",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("span", String(8), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("pool", String(63), nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("ms", BigInteger, nullable=False),
    Column("payer", String(63), nullable=False),
    Column("project", String(63), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("revision", String(160), nullable=False),
    Column("key", String(16), nullable=False),
    Column("tags", Text, nullable=False),
    Index("cost_lines_at", "at_s"),
    sqlite_autoincrement=True,
)
