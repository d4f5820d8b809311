"""The tables of other nodes in state.db; the others, and how to change any, are in `store/schema.py`."""

from typing import Final

from sqlalchemy import Column, Float, Index, Integer, String, Table, Text

from stoker.store.schema import metadata

# Machines that joined (types/nodes.py, NodeRow). Keys and certificates are not here.
nodes: Final = Table(
    "nodes",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("pool", String(63), nullable=False),
    Column("life", String(32), nullable=False),
    Column("host", String(253), nullable=False),
    Column("port", Integer, nullable=False),
    Column("ports_from", Integer, nullable=False),
    Column("ports_next", Integer, nullable=False),
    Column("home", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("python", Text, nullable=False),
    Column("joined_at_s", Float, nullable=False),
    Column("until_s", Float, nullable=False),
)

# What lets a machine in, once; the sha256 of its text, never the text.
node_tokens: Final = Table(
    "node_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("name", String(63), nullable=False),
    Column("pool", String(63), nullable=False),
    Column("created_at_s", Float, nullable=False),
    Column("expires_at_s", Float, nullable=False),
    Column("used_at_s", Float, nullable=False),
    Index("node_tokens_sha256", "sha256", unique=True),
)

# Incarnations of nodes that were removed, until the last certificate that they had has ended.
node_revocations: Final = Table(
    "node_revocations",
    metadata,
    Column("life", String(32), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("until_s", Float, nullable=False),
)
