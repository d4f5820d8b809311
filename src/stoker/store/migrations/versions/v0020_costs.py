"""What serving cost: timesheets of hours, what engines did in them, and the lines that say where the money went."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "cost_sheets",
        sa.Column("hour_s", sa.BigInteger(), primary_key=True),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("sheet", sa.Text(), nullable=False),
    )
    op.create_table(
        "cost_works",
        sa.Column("hour_s", sa.BigInteger(), primary_key=True),
        sa.Column("revision", sa.String(160), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("key", sa.String(16), primary_key=True),
        sa.Column("tags_digest", sa.String(16), primary_key=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("compute_us", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "cost_lines",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("span", sa.String(8), nullable=False),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.BigInteger(), nullable=False),
        sa.Column("payer", sa.String(63), nullable=False),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("revision", sa.String(160), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("cost_lines_at", "cost_lines", ["at_s"])
