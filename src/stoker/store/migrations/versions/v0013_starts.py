"""What starts of replicas took."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "starts",
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("endpoint", sa.String(63), primary_key=True),
        sa.Column("replica", sa.String(180), primary_key=True),
        sa.Column("at_s", sa.Float(), primary_key=True),
        sa.Column("start", sa.Text(), nullable=False),
    )
    op.create_index("starts_newest", "starts", ["project", "endpoint", "at_s"])
