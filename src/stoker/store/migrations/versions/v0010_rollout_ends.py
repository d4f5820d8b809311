"""Which ends of rollouts stand in the dossiers of their revisions. Those of before this are appended as well."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply."""
    # Not in batch mode, which would make the table anew under the timelines that refer to it.
    op.add_column("rollouts", sa.Column("is_told", sa.Boolean(), nullable=False, server_default=sa.false()))
