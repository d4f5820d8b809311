"""Incidents: what went wrong at an endpoint, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "incidents",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("closed_at_s", sa.Float(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("incidents_endpoint", "incidents", ["project", "endpoint", "number"])
