"""Rows written over those that have the same key."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from cloud_service.storage.encoding import Row


def upsert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert `rows` of all columns; where one with the same primary key is there, it takes these values."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    insertion = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    values = {column.name: insertion.excluded[column.name] for column in table.columns if column.name not in keys}
    connection.execute(insertion.on_conflict_do_update(index_elements=keys, set_=values), list(rows))
