"""The tables of identity in state.db; the others, and how to change any, are in `store/schema.py`."""

from typing import Final

from sqlalchemy import Column, Float, Index, String, Table, Text

from stoker.store.schema import metadata

identity_providers: Final = Table(
    "identity_providers",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("resource", Text, nullable=False),
    Column("created_at_s", Float, nullable=False),
)

# What providers published when they were asked last (control/identity/providers.py); good for a while without them.
identity_documents: Final = Table(
    "identity_documents",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("issuer", String(500), nullable=False),
    Column("discovery", Text, nullable=False),
    Column("keys", Text, nullable=False),
    Column("fetched_at_s", Float, nullable=False),
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("subject", String(128), nullable=False),
    Column("provider", String(63), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("email", String(320), nullable=False),
    Column("name", String(200), nullable=False),
    Column("claims", Text, nullable=False),
    Column("origin", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("used_at_s", Float, nullable=False),
    Column("idle_s", Float, nullable=False),
    Column("expires_at_s", Float, nullable=False),
    Index("sessions_subject", "subject"),
)
