"""The shapes of engine calls, and what they take."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "shapes",
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("endpoint", sa.String(63), primary_key=True),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("costs", sa.Text(), nullable=False),
    )
