"""Rollouts, what rings are to be told, and the newest word of each device on its updates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_FIGURES = ("eligible", "committed", "failed", "hindered", "under_way", "crashed", "compared", "disagreed")


def _name(name: str, characters: int = 64, *, is_key: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(characters), primary_key=is_key, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False)


def upgrade() -> None:
    """Apply this step."""
    _create_rollouts()
    op.create_table(
        "ring_orders",
        _name("ring", is_key=True),
        _name("model", is_key=True),
        _name("rollout_id"),
        _number("sequence"),
        _text("document"),
        _number("decided_s"),
        _number("signed_s", nullable=True),
    )
    op.create_table(
        "device_updates",
        _name("device_id", is_key=True),
        _name("model", is_key=True),
        *(_name(name) for name in ("ring", "rollout_id", "active_version")),
        _number("active_release"),
        _name("active_gate_digest"),
        _name("phase", 16),
        _name("error_kind", 16),
        _number("heard_s"),
        _text("document"),
    )
    op.create_index("device_updates_by_ring", "device_updates", ["model", "ring", "active_version"])
    op.create_table(
        "rollout_failures",
        _name("rollout_id", is_key=True),
        _name("device_id", is_key=True),
        _name("ring"),
        _name("error_kind", 16),
        _text("error"),
        _number("heard_s"),
    )
    op.create_index("rollout_failures_by_time", "rollout_failures", ["rollout_id", "heard_s"])


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        _name("id", is_key=True),
        _name("model"),
        _name("version"),
        _name("state", 32),
        _text("plan"),
        _number("created_s"),
        _name("created_by", 128),
        _name("approved_by", 128),
        _text("reason"),
        _number("updated_s"),
    )
    op.create_index("rollouts_by_time", "rollouts", ["created_s"])
    op.create_index("rollouts_by_state", "rollouts", ["state"])
    op.create_table(
        "rollout_stages",
        _name("rollout_id", is_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        _name("ring"),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("shadow_share", sa.Float, nullable=False),
        _name("state", 32),
        *(_number(name) for name in ("opened_s", "enough_since_s")),
        _text("note"),
        *(_number(name) for name in ("forgiven", *_FIGURES)),
    )
    op.create_table("rollout_claims", _name("ring", is_key=True), _name("model", is_key=True), _name("rollout_id"))


def downgrade() -> None:
    """Take this step back."""
    for table in ("rollout_failures", "rollout_claims", "rollout_stages", "rollouts", "ring_orders", "device_updates"):
        op.drop_table(table)
