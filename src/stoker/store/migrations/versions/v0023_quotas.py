"""Usage records as they were settled, for export; and how long replicas held GPUs, by project, for quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "usage_batches",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("projects", sa.String(1024), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("usage_batches_to", "usage_batches", ["to_ms"])
    op.create_table(
        "gpu_times",
        sa.Column("hour_s", sa.BigInteger(), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("gpu_ms", sa.BigInteger(), nullable=False),
    )
