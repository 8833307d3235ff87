"""Devices, their newest counts, counts by time, and the state of the fleet service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTERS = (
    "received", "rejected", "accepted", "edge", "cloud", "degraded", "failed", "in_flight",
    "wanted", "attempted", "served", "call_failed", "timed_out", "calls_in_flight",
)  # fmt: skip


def _tally_columns() -> list[sa.Column]:
    return [
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTERS),
        sa.Column("latency", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
    ]


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("is_online", sa.Boolean, nullable=False),
        sa.Column("agent_version", sa.String(64), nullable=False),
        sa.Column("first_heard_s", sa.BigInteger, nullable=False),
        sa.Column("last_seen_s", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "model_states",
        *(
            sa.Column(name, sa.String(64), primary_key=True)
            for name in ("device_id", "model", "boot_id", "model_version", "variant")
        ),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("gate_score", sa.String(64), nullable=False),
        sa.Column("gate_threshold", sa.Float, nullable=True),
        sa.Column("cloud_link", sa.String(16), nullable=False),
        sa.Column("heard_s", sa.BigInteger, nullable=False),
        *_tally_columns(),
    )
    op.create_table(
        "counts",
        sa.Column("width_s", sa.Integer, primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("starts_s", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.String(64), primary_key=True) for name in ("model", "model_version", "variant")),
        *_tally_columns(),
    )
    op.create_index("counts_by_time", "counts", ["width_s", "starts_s"])
    op.create_table(
        "fleet_status",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("writer_id", sa.String(64), nullable=False),
        sa.Column("started_s", sa.BigInteger, nullable=False),
        sa.Column("written_s", sa.BigInteger, nullable=False),
        sa.Column("broker", sa.String(255), nullable=False),
        sa.Column("is_broker_connected", sa.Boolean, nullable=False),
        sa.Column("broker_error", sa.String(255), nullable=False),
    )


def downgrade() -> None:
    """Take this step back."""
    for table in ("fleet_status", "counts", "model_states", "devices"):
        op.drop_table(table)
