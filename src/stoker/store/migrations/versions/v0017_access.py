"""What keys may do, whose they are, and their rotation; roles of one's own; whose a model is."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

# As keys were: one that changes everything, or one that calls its project and reads what its calls left behind.
ADMIN = {"role": "owner", "everywhere": True}
USUAL = {"role": "caller", "permissions": ["traces:read", "metrics:read", "usage:read"]}


def upgrade() -> None:
    """Apply. What a key could do it still can; models are everybody's, as they were."""
    with op.batch_alter_table("keys") as keys:
        keys.add_column(sa.Column("access", sa.Text(), nullable=False, server_default="{}"))
        keys.add_column(sa.Column("subject", sa.String(128), nullable=False, server_default=""))
        keys.add_column(sa.Column("old_sha256", sa.String(64), nullable=False, server_default=""))
        keys.add_column(sa.Column("old_until_s", sa.Float(), nullable=False, server_default="0"))
        keys.add_column(sa.Column("last_used_at_s", sa.Float(), nullable=False, server_default="0"))
    table = sa.table("keys", sa.column("is_admin", sa.Boolean()), sa.column("access", sa.Text()))
    for is_admin, access in ((True, ADMIN), (False, USUAL)):
        op.execute(table.update().where(table.c.is_admin == is_admin).values(access=json.dumps(access)))
    with op.batch_alter_table("keys") as keys:
        for name in ("access", "subject", "old_sha256", "old_until_s", "last_used_at_s"):
            keys.alter_column(name, server_default=None)
        keys.drop_column("is_admin")
    op.create_table(
        "roles",
        sa.Column("project", sa.String(63), sa.ForeignKey("projects.name"), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
    )
    op.add_column("models", sa.Column("project", sa.String(63), nullable=False, server_default=""))
