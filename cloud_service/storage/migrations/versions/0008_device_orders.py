"""What single devices are to be told, whatever their ring is told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "device_orders",
        sa.Column("device_id", sa.String(64), primary_key=True, nullable=False),
        sa.Column("model", sa.String(64), primary_key=True, nullable=False),
        sa.Column("rollout_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("decided_s", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("signed_s", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    """Take this step back."""
    op.drop_table("device_orders")
