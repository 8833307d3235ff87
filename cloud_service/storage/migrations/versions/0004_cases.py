"""Comparisons of devices' answers with the full model's, and true labels that came back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _number() -> sa.Column:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def _names(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.String(64), nullable=False) for name in names]


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "comparisons",
        _number(),
        sa.Column("at_s", sa.BigInteger, nullable=False),
        *_names("device_id", "request_id", "model", "full_version", "full_digest", "edge_version", "gate_digest"),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
        sa.Column("edge_label", sa.Text, nullable=False),
        sa.Column("edge_score", sa.Double, nullable=False),
        sa.Column("gate_score", sa.Double, nullable=False),
        sa.Column("full_label", sa.Text, nullable=False),
        sa.Column("full_score", sa.Double, nullable=False),
        sa.Column("text", sa.Text, nullable=True),
        sa.UniqueConstraint("device_id", "request_id", name="comparisons_once"),
    )
    op.create_index("comparisons_by_model", "comparisons", ["model", "at_s"])
    op.create_index("comparisons_by_time", "comparisons", ["at_s"])
    op.create_table(
        "true_labels",
        _number(),
        sa.Column("answered_s", sa.BigInteger, nullable=False),
        sa.Column("received_s", sa.BigInteger, nullable=False),
        *_names("device_id", "request_id", "model", "edge_version", "gate_digest"),
        sa.Column("kept", sa.Boolean, nullable=False),
        sa.Column("edge_label", sa.Text, nullable=False),
        sa.Column("edge_score", sa.Double, nullable=False),
        sa.Column("gate_score", sa.Double, nullable=False),
        sa.Column("true_label", sa.Text, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.UniqueConstraint("device_id", "request_id", "model", name="true_labels_once"),
    )
    op.create_index("true_labels_by_model", "true_labels", ["model", "answered_s"])
    op.create_index("true_labels_by_time", "true_labels", ["received_s"])


def downgrade() -> None:
    """Take this step back."""
    for table in ("true_labels", "comparisons"):
        op.drop_table(table)
