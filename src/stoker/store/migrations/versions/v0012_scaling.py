"""What scaling remembers of each endpoint, and its last decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "scaling",
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("endpoint", sa.String(63), primary_key=True),
        sa.Column("memory", sa.Text(), nullable=False),
    )
    op.create_table(
        "scale_decisions",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("scale_decisions_endpoint", "scale_decisions", ["project", "endpoint", "number"])
