"""Budgets: what may be spent, what was, and what gateways lease of it."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "budgets",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(63), sa.ForeignKey("projects.name"), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.UniqueConstraint("project", "name", name="budgets_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "budget_accounts",
        sa.Column("budget", sa.Integer(), sa.ForeignKey("budgets.id"), primary_key=True),
        sa.Column("period", sa.BigInteger(), primary_key=True),
        sa.Column("settled", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "budget_leases",
        sa.Column("budget", sa.Integer(), sa.ForeignKey("budgets.id"), primary_key=True),
        sa.Column("period", sa.BigInteger(), primary_key=True),
        sa.Column("holder", sa.String(128), primary_key=True),
        sa.Column("cap", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
    )
    op.create_index("budget_leases_holder", "budget_leases", ["holder"])
    op.create_table(
        "budget_holders",
        sa.Column("holder", sa.String(128), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("is_ended", sa.Boolean(), nullable=False),
        sa.Column("heard_at_s", sa.Float(), nullable=False),
    )
