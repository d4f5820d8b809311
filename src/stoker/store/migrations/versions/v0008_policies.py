"""Admission policies."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "policies",
        sa.Column("project", sa.String(63), sa.ForeignKey("projects.name"), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
    )
