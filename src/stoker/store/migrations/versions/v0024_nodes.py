"""Other nodes: those that joined, the tokens that let them in, those that were removed; ports of replicas on them."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Apply."""
    op.add_column("replicas", sa.Column("port", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("life", sa.String(32), nullable=False),
        sa.Column("host", sa.String(253), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("ports_from", sa.Integer(), nullable=False),
        sa.Column("ports_next", sa.Integer(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("python", sa.Text(), nullable=False),
        sa.Column("joined_at_s", sa.Float(), nullable=False),
        sa.Column("until_s", sa.Float(), nullable=False),
    )
    op.create_table(
        "node_tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("pool", sa.String(63), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("expires_at_s", sa.Float(), nullable=False),
        sa.Column("used_at_s", sa.Float(), nullable=False),
    )
    op.create_index("node_tokens_sha256", "node_tokens", ["sha256"], unique=True)
    op.create_table(
        "node_revocations",
        sa.Column("life", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("until_s", sa.Float(), nullable=False),
    )
