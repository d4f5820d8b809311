"""Rollouts, and the timeline of each."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "rollouts",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("ended_at_s", sa.Float(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ordered", sa.String(16), nullable=False),
        sa.Column("posted", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("rollouts_endpoint", "rollouts", ["project", "endpoint", "number"])
    op.create_table(
        "rollout_entries",
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("rollout", sa.Integer(), sa.ForeignKey("rollouts.number"), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
    )
    op.create_index("rollout_entries_rollout", "rollout_entries", ["rollout", "sequence"])
