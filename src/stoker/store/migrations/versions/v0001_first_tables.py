"""The first tables: projects, keys, models, endpoints, revisions, replicas, the lease and the journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply."""
    _platform()
    _registry()
    _serving()


def _platform() -> None:
    op.create_table(
        "meta",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("expires_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_table(
        "journal",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at_s", sa.Float(), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("endpoint", sa.String(length=63), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=180), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index("journal_endpoint", "journal", ["project", "endpoint", "sequence"], unique=False)


def _registry() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "versions",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name"],
            ["models.name"],
        ),
        sa.PrimaryKeyConstraint("name", "number"),
        sa.UniqueConstraint("name", "digest", name="versions_digest"),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("alias", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["name", "number"], ["versions.name", "versions.number"], name="aliases_version"),
        sa.PrimaryKeyConstraint("name", "alias"),
    )


def _serving() -> None:
    op.create_table(
        "endpoints",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("is_deleting", sa.Boolean(), nullable=False),
        sa.Column("serving", sa.String(length=160), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("pinned", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("project", "name"),
    )
    op.create_table(
        "revisions",
        sa.Column("revision", sa.String(length=160), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("endpoint", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("model_number", sa.Integer(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.Column("replicas_made", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "model_number"], ["versions.name", "versions.number"], name="revisions_version"
        ),
        sa.ForeignKeyConstraint(
            ["project", "endpoint"], ["endpoints.project", "endpoints.name"], name="revisions_endpoint"
        ),
        sa.PrimaryKeyConstraint("revision"),
        sa.UniqueConstraint("project", "endpoint", "number", name="revisions_number"),
    )
    op.create_table(
        "replicas",
        sa.Column("replica", sa.String(length=180), nullable=False),
        sa.Column("revision", sa.String(length=160), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("since_s", sa.Float(), nullable=False),
        sa.Column("created_at_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision"],
            ["revisions.revision"],
        ),
        sa.PrimaryKeyConstraint("replica"),
    )
