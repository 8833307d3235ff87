"""The tables, as they are after the newest migration.

Times are the server's, whole seconds since 1970-01-01 UTC, where a name ends in `_s`. JSON columns are text:

- `latency`, `reasons`, `labels`: see `encoding`; `labels` is "{}" in a device's rows of less than a day.
- `audit_steps`, `label_steps` of `model_states`: a list of [threshold, judged, wrong], cumulative, strict to loose.
- `score_counts`: a list of cumulative counts by the bins of the gate's score histogram.
- `gate_in_force`: from risk to alpha.
- `steps` of `gate_watches`: a list of {threshold, judged, wrong, lower, upper}, strict to loose, since the gate in
  force began; `labels`: from label to {judged, wrong, lower, upper, alpha, alarmed}; `detail`: what the watch goes
  on from.
- `document`: of `gates` the gate.json, of `gate_policies` the fields of `shared.types.GatePolicy`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from cloud_service.fleet.tally import AUDIT_COLUMNS, COUNTER_NAMES

metadata = MetaData()
LISTED_COLUMNS = ("device_id", "boot_id", "model", "heard_s", "sequence", "model_version", "variant", "accepted",
                  "wanted", "p99_ms", "cloud_link", "gate_threshold", "policy_id", "refused_policy_id", "in_flight",
    "calls_in_flight")  # fmt: skip
"""What a list of ten thousand devices is searched and sorted by, so that it need not read the rows themselves."""
REPORTED_COLUMNS = ("gate_score", "gate_digest", "gate_in_force")
"""What else devices say of their gates, in the same index of SQLite's. PostgreSQL bounds what an index may hold, and a
device may say much; it keeps long texts apart from their rows, and reads these quickly as they are.
"""
RANKED_COLUMNS = ("width_s", "starts_s", "device_id", "accepted", "wanted", "ring", "model", "model_version", "variant")
RANKINGS = {"counts_of_devices_by_hour": "width_s = 3600", "counts_of_devices_by_day": "width_s = 86400"}
"""Indexes that hold all that is needed to tell the devices with the most requests apart, by the rows they cover."""


def _tally_columns() -> list[Column[int] | Column[str]]:
    return [
        *(Column(name, BigInteger, nullable=False) for name in (*COUNTER_NAMES, *AUDIT_COLUMNS)),
        *(Column(name, Text, nullable=False) for name in ("latency", "reasons", "labels")),
    ]


devices = Table(
    "devices",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("boot_id", String(64), nullable=False),
    Column("is_online", Boolean, nullable=False),
    Column("agent_version", String(64), nullable=False),
    Column("first_heard_s", BigInteger, nullable=False),
    Column("last_seen_s", BigInteger, nullable=True),
    Column("ring", String(64), nullable=False),
)

model_states = Table(
    "model_states",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("boot_id", String(64), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("variant", String(64), primary_key=True),
    Column("ring", String(64), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("gate_score", String(64), nullable=False),
    Column("gate_threshold", Float, nullable=True),
    Column("gate_digest", String(64), nullable=False),
    Column("gate_in_force", Text, nullable=False),
    Column("policy_id", String(64), nullable=False),
    Column("refused_policy_id", String(64), nullable=False),
    Column("refusal", String(500), nullable=False),
    Column("cloud_link", String(16), nullable=False),
    Column("heard_s", BigInteger, nullable=False),
    *_tally_columns(),
    Column("audit_steps", Text, nullable=False),
    Column("label_steps", Text, nullable=False),
    Column("score_counts", Text, nullable=False),
    Column("p99_ms", Float, nullable=True),
    Index("model_states_listed", *LISTED_COLUMNS).ddl_if(dialect="postgresql"),
    Index("model_states_listed", *LISTED_COLUMNS, *REPORTED_COLUMNS).ddl_if(dialect="sqlite"),
)

counts = Table(
    "counts",
    metadata,
    Column("width_s", Integer, primary_key=True),
    Column("device_id", String(64), primary_key=True),
    Column("starts_s", BigInteger, primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("variant", String(64), primary_key=True),
    Column("ring", String(64), primary_key=True),
    *_tally_columns(),
    Index("counts_by_time", "width_s", "starts_s"),
    *(
        Index(name, *RANKED_COLUMNS, sqlite_where=text(where), postgresql_where=text(where))
        for name, where in RANKINGS.items()
    ),
)
UNLABELLED = tuple(column for column in counts.columns if column.name != "labels")
"""What to read of `counts` where labels do not matter: theirs is the most of a row."""

fleet_status = Table(
    "fleet_status",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("writer_id", String(64), nullable=False),
    Column("started_s", BigInteger, nullable=False),
    Column("written_s", BigInteger, nullable=False),
    Column("broker", String(255), nullable=False),
    Column("is_broker_connected", Boolean, nullable=False),
    Column("broker_error", String(255), nullable=False),
)

gates = Table(
    "gates",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("document", Text, nullable=False),
    Column("labels", Text, nullable=False),
)

gate_policies = Table(
    "gate_policies",
    metadata,
    Column("policy_id", String(64), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("model", String(64), nullable=False),
    Column("ring", String(64), nullable=False),
    Column("gate_digest", String(64), nullable=False),
    Column("document", Text, nullable=False),
    Column("issued_by", String(64), nullable=False),
    Column("issued_s", BigInteger, nullable=False),
    Column("published_s", BigInteger, nullable=True),
    UniqueConstraint("ring", "model", "sequence", name="gate_policies_by_sequence"),
    Index("gate_policies_to_publish", "published_s"),
)

gate_alarms = Table(
    "gate_alarms",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("ring", String(64), nullable=False),
    Column("gate_digest", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("label", String(256), nullable=False),
    Column("raised_s", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("acknowledged_by", String(64), nullable=True),
    Column("acknowledged_s", BigInteger, nullable=True),
    Index("gate_alarms_by_time", "raised_s"),
)

gate_watches = Table(
    "gate_watches",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("gate_digest", String(64), primary_key=True),
    Column("ring", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("alpha", Float, nullable=True),
    Column("threshold", Float, nullable=True),
    Column("judged", BigInteger, nullable=False),
    Column("wrong", BigInteger, nullable=False),
    Column("lower", Float, nullable=False),
    Column("upper", Float, nullable=False),
    Column("cusum", Float, nullable=False),
    Column("cusum_limit", Float, nullable=False),
    Column("steps", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("since_s", BigInteger, nullable=False),
    Column("updated_s", BigInteger, nullable=False),
)
"""`kind`: "disagreement" (of audits), "error" (of labels that came back) or "drift" (of scores; `judged` are requests,
`cusum` is the natural logarithm of the evidence against "as in calibration", `cusum_limit` where it warns).
`state`: "certified", "tightened", "uncertified" (all is escalated) or "unwatched" (no alpha is promised, or the cloud
does not know the gate)."""
