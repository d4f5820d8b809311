"""Dossiers of revisions, and the examples that endpoints hold. What was there before may serve."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# Revisions of before there were gates: nobody knows any more which of them served, and a return to one that did must
# not be held up.
THOSE_OF_BEFORE = """
INSERT INTO dossiers (project, endpoint, revision, born_s, gates, basis, state, because, failed, has_served, record,
                      statement, verdict, verdict_statement)
SELECT project, endpoint, revision, created_at_s, '', '', 'complete', 'it was there before there were gates', '', TRUE,
       '', '', '', '' FROM revisions
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "dossiers",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("revision", sa.String(160), nullable=False),
        sa.Column("born_s", sa.Float(), nullable=False),
        sa.Column("gates", sa.String(71), nullable=False),
        sa.Column("basis", sa.String(71), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("failed", sa.String(16), nullable=False),
        sa.Column("has_served", sa.Boolean(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("verdict_statement", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("dossiers_endpoint", "dossiers", ["project", "endpoint", "number"])
    op.create_index("dossiers_revision", "dossiers", ["revision", "number"])
    op.create_table(
        "golden_sets",
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("endpoint", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("set_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "endpoint"], ["endpoints.project", "endpoints.name"], name="golden_sets_endpoint"
        ),
    )
    op.execute(THOSE_OF_BEFORE)
