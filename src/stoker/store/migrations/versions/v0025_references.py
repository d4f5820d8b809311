"""What signs a hook may be a reference; and secrets that stood in clear in old revisions and rollouts are not kept."""

import sqlalchemy as sa
from alembic import op

from stoker.store.scrub import scrub

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Apply."""
    op.add_column("rollout_outbox", sa.Column("sign_with", sa.Text(), nullable=False, server_default=""))
    scrub(op.get_bind(), set())
