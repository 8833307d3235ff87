"""What the pages sort devices by: the 99th percentile of each, and indexes that hold all they need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_LISTED = (
    "device_id", "boot_id", "model", "heard_s", "sequence", "model_version", "variant", "accepted",
    "wanted", "p99_ms", "cloud_link", "gate_threshold", "policy_id", "refused_policy_id", "in_flight",
    "calls_in_flight",
)  # fmt: skip
_RANKED = ("width_s", "starts_s", "device_id", "accepted", "wanted", "ring", "model", "model_version", "variant")
_RANKINGS = {"counts_of_devices_by_hour": "width_s = 3600", "counts_of_devices_by_day": "width_s = 86400"}


def upgrade() -> None:
    """Apply this step. A device's percentile is filled in with its next message."""
    op.add_column("model_states", sa.Column("p99_ms", sa.Float, nullable=True))
    op.create_index("model_states_listed", "model_states", list(_LISTED))
    for name, rows in _RANKINGS.items():
        where = sa.text(rows)
        op.create_index(name, "counts", list(_RANKED), sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Take this step back."""
    for name in _RANKINGS:
        op.drop_index(name, "counts")
    op.drop_index("model_states_listed", "model_states")
    with op.batch_alter_table("model_states") as batch:
        batch.drop_column("p99_ms")
