"""What rollouts are judged by, in a column of its own; those of before this are taken apart."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

PARTS = ("read", "memory", "findings")


def upgrade() -> None:
    """Apply."""
    # Not in batch mode, which would make the table anew under the timelines that refer to it.
    op.add_column("rollouts", sa.Column("evidence", sa.Text(), nullable=False, server_default=""))
    rollouts = sa.table("rollouts", sa.column("number"), sa.column("state"), sa.column("evidence"))
    connection = op.get_bind()
    for number in connection.execute(sa.select(rollouts.c.number)).scalars().all():
        mine = rollouts.c.number == number
        state = json.loads(connection.execute(sa.select(rollouts.c.state).where(mine)).scalar_one())
        evidence = {name: state.pop(name) for name in PARTS if name in state}
        values = {"state": json.dumps(state), "evidence": json.dumps(evidence)}
        connection.execute(sa.update(rollouts).where(mine).values(values))
