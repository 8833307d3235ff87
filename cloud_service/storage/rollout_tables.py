"""The tables of rollouts, as they are after the newest migration.

Times are the server's, whole seconds since 1970-01-01 UTC. JSON columns are text: `plan` of `rollouts` (see
`cloud_service.rollout.plan`), `document` of `ring_orders` and `device_orders` the assignment that is to be signed, or
"" where there is to be none, and of `device_updates` the whole report.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from cloud_service.storage.tables import metadata

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("plan", Text, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("approved_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("updated_s", BigInteger, nullable=False),
    Index("rollouts_by_time", "created_s"),
    Index("rollouts_by_state", "state"),
)

FIGURES = ("eligible", "committed", "failed", "hindered", "under_way", "crashed", "compared", "disagreed")

rollout_stages = Table(
    "rollout_stages",
    metadata,
    Column("rollout_id", String(64), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("ring", String(64), nullable=False),
    Column("share", Float, nullable=False),
    Column("shadow_share", Float, nullable=False),
    Column("state", String(32), nullable=False),
    Column("opened_s", BigInteger, nullable=False),
    Column("enough_since_s", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("forgiven", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in FIGURES),
)

rollout_claims = Table(
    "rollout_claims",
    metadata,
    Column("ring", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("rollout_id", String(64), nullable=False),
)
"""Which rollout that has not ended has a ring and model to itself."""

ring_orders = Table(
    "ring_orders",
    metadata,
    Column("ring", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("rollout_id", String(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Column("decided_s", BigInteger, nullable=False),
    Column("signed_s", BigInteger, nullable=True),
)

device_orders = Table(
    "device_orders",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("rollout_id", String(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Column("decided_s", BigInteger, nullable=False),
    Column("decided_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("signed_s", BigInteger, nullable=True),
)
"""What single devices are told whatever their ring is told. The row stays for a while where that has ended."""

device_updates = Table(
    "device_updates",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("ring", String(64), nullable=False),
    Column("rollout_id", String(64), nullable=False),
    Column("active_version", String(64), nullable=False),
    Column("active_release", BigInteger, nullable=False),
    Column("active_gate_digest", String(64), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("error_kind", String(16), nullable=False),
    Column("heard_s", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Index("device_updates_by_ring", "model", "ring", "active_version"),
)

rollout_failures = Table(
    "rollout_failures",
    metadata,
    Column("rollout_id", String(64), primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("ring", String(64), nullable=False),
    Column("error_kind", String(16), nullable=False),
    Column("error", Text, nullable=False),
    Column("heard_s", BigInteger, nullable=False),
    Index("rollout_failures_by_time", "rollout_id", "heard_s"),
)
"""The last reason why a device could not take a rollout's release; it stays when the device has gone back."""
