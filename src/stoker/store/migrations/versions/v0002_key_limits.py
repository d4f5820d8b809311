"""Limits of keys: how much they may ask for, and how urgent it is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply. Keys made before have no limits."""
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("limits", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("keys") as keys:
        keys.alter_column("limits", server_default=None)
