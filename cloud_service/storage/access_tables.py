"""The tables of users, sessions and the log of actions, as they are after the newest migration.

Times are the server's, in ms since 1970-01-01 UTC. `action_log` takes no change but a next entry: triggers see to that.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text

from cloud_service.storage.tables import metadata

users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("created_at_unix_ms", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("user_name", String(64), ForeignKey("users.name"), nullable=False),
    Column("created_at_unix_ms", BigInteger, nullable=False),
    Column("seen_at_unix_ms", BigInteger, nullable=False),
    Index("sessions_by_user", "user_name"),
)

action_log = Table(
    "action_log",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_unix_ms", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("action_log_by_actor", "actor", "seq"),
    Index("action_log_by_action", "action", "seq"),
)
