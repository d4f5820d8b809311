"""Which secrets were read, by whom and when: so that the audit has each new value once."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "secret_reads",
        sa.Column("reference", sa.String(1200), primary_key=True),
        sa.Column("process", sa.String(63), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("read_at_s", sa.Float(), nullable=False),
    )
