"""The few statements that databases write differently."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.sql.dml import Insert


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> Insert:
    """Return the statement that inserts a row, or sets `values` on the one that has `key` (its primary key)."""
    inserted = _insert(connection, table).values(**key, **values)
    statement: Insert = inserted.on_conflict_do_update(index_elements=list(key), set_=dict(values))
    return statement


def add_up(
    connection: Connection, table: Table, key: Sequence[str], sums: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert `rows`, or add the `sums` of each to the row that has its `key` (the primary key)."""
    inserted = _insert(connection, table)
    added = {name: table.c[name] + inserted.excluded[name] for name in sums}
    connection.execute(inserted.on_conflict_do_update(index_elements=list(key), set_=added), rows)


def insert_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> Insert:
    """Return the statement that inserts `row` unless its primary key is there."""
    statement: Insert = _insert(connection, table).values(**row).on_conflict_do_nothing()
    return statement


def _insert(connection: Connection, table: Table) -> Any:
    """Return the dialect's own INSERT; only the database in use is imported (PostgreSQL's dialect takes 50 ms)."""
    return importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)
