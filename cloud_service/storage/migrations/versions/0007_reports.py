"""What devices say of their gates, in the index by which they are listed; on SQLite, where rows are wide."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LISTED = (
    "device_id", "boot_id", "model", "heard_s", "sequence", "model_version", "variant", "accepted",
    "wanted", "p99_ms", "cloud_link", "gate_threshold", "policy_id", "refused_policy_id", "in_flight",
    "calls_in_flight",
)  # fmt: skip
_REPORTED = ("gate_score", "gate_digest", "gate_in_force")


def upgrade() -> None:
    """Apply this step."""
    _index_anew(*_LISTED, *_REPORTED)


def downgrade() -> None:
    """Take this step back."""
    _index_anew(*_LISTED)


def _index_anew(*columns: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("model_states_listed", "model_states")
        op.create_index("model_states_listed", "model_states", list(columns))
