"""The few statements that databases write differently."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> Insert:
    """Return the statement that inserts a row, or sets `values` on the one that has `key` (its primary key)."""
    if connection.dialect.name == "postgresql":
        return (
            postgresql.insert(table)
            .values(**key, **values)
            .on_conflict_do_update(index_elements=list(key), set_=dict(values))
        )
    return (
        sqlite.insert(table).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=dict(values))
    )


def insert_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> Insert:
    """Return the statement that inserts `row` unless its primary key is there."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).values(**row).on_conflict_do_nothing()
    return sqlite.insert(table).values(**row).on_conflict_do_nothing()
