"""The tables of budgets: what may be spent, what was, and what gateways lease of it. Part of store/schema.py."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData()

# The id is what leases and charges name; it is never given twice. Another scope or calendar makes another id.
budgets: Final = Table(
    "budgets",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
    UniqueConstraint("project", "name", name="budgets_name"),
    sqlite_autoincrement=True,
)

# Nano-dollars. `period` is when it began, in seconds since 1970.
budget_accounts: Final = Table(
    "budget_accounts",
    metadata,
    Column("budget", Integer, ForeignKey("budgets.id"), primary_key=True),
    Column("period", BigInteger, primary_key=True),
    Column("settled", BigInteger, nullable=False),
)

budget_leases: Final = Table(
    "budget_leases",
    metadata,
    Column("budget", Integer, ForeignKey("budgets.id"), primary_key=True),
    Column("period", BigInteger, primary_key=True),
    Column("holder", String(128), primary_key=True),
    Column("cap", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
    Index("budget_leases_holder", "holder"),
)

# Processes that hold leases: the newest question that was heard, and whether it is dead and its journal read.
budget_holders: Final = Table(
    "budget_holders",
    metadata,
    Column("holder", String(128), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("is_ended", Boolean, nullable=False),
    Column("heard_at_s", Float, nullable=False),
)
