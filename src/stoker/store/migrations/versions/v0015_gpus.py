"""Which GPUs of its node a replica got."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Apply."""
    op.add_column("replicas", sa.Column("gpus", sa.Text(), nullable=False, server_default="[]"))
