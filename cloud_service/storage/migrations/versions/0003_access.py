"""Users, their sessions, and the log of actions, which nothing may change afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SQLITE_GUARDS = (
    """CREATE TRIGGER action_log_no_update BEFORE UPDATE ON action_log
       BEGIN SELECT RAISE(ABORT, 'action_log takes no change'); END""",
    """CREATE TRIGGER action_log_no_delete BEFORE DELETE ON action_log
       BEGIN SELECT RAISE(ABORT, 'action_log takes no change'); END""",
    """CREATE TRIGGER action_log_next_only BEFORE INSERT ON action_log
       WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM action_log)
       BEGIN SELECT RAISE(ABORT, 'action_log takes the next entry alone'); END""",
)
_POSTGRESQL_GUARDS = (
    """CREATE FUNCTION action_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'action_log takes no change'; END $$""",
    """CREATE FUNCTION action_log_next() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         IF NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM action_log) THEN
           RAISE EXCEPTION 'action_log takes the next entry alone';
         END IF;
         RETURN NEW;
       END $$""",
    """CREATE TRIGGER action_log_no_change BEFORE UPDATE OR DELETE ON action_log
       FOR EACH ROW EXECUTE FUNCTION action_log_refuse()""",
    """CREATE TRIGGER action_log_no_truncate BEFORE TRUNCATE ON action_log
       FOR EACH STATEMENT EXECUTE FUNCTION action_log_refuse()""",
    """CREATE TRIGGER action_log_next_only BEFORE INSERT ON action_log
       FOR EACH ROW EXECUTE FUNCTION action_log_next()""",
)


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("created_at_unix_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id_hash", sa.String(64), primary_key=True),
        sa.Column("user_name", sa.String(64), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("created_at_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_at_unix_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("sessions_by_user", "sessions", ["user_name"])
    op.create_table(
        "action_log",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("action_log_by_actor", "action_log", ["actor", "seq"])
    op.create_index("action_log_by_action", "action_log", ["action", "seq"])
    guards = {"sqlite": _SQLITE_GUARDS, "postgresql": _POSTGRESQL_GUARDS}[op.get_bind().dialect.name]
    for statement in guards:
        op.execute(statement)


def downgrade() -> None:
    """Take this step back."""
    for table in ("action_log", "sessions", "users"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for function in ("action_log_refuse", "action_log_next"):
            op.execute(f"DROP FUNCTION {function}()")
