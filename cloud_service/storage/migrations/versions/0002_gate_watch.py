"""Rings, audits and labels in all counts, a bucket a day, and what is watched of gates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COUNTERS = (
    "received", "rejected", "accepted", "edge", "cloud", "degraded", "failed", "in_flight",
    "wanted", "attempted", "served", "call_failed", "timed_out", "calls_in_flight",
)  # fmt: skip
_AUDITS = ("audit_chosen", "audit_agreed", "audit_disagreed", "audit_failed", "audit_in_flight")
_OLD_COUNTED = (*_COUNTERS, "latency", "reasons")
_OLD_KEYS = ("width_s", "device_id", "starts_s", "model", "model_version", "variant")
_HOUR_S, _DAY_S = 3600, 86_400
_ROWS_AT_ONCE = 1000


def upgrade() -> None:
    """Apply this step. What was counted so far belongs to the ring "default"."""
    _extend_devices()
    _extend_model_states()
    _extend_counts()
    _create_watch_tables()


def downgrade() -> None:
    """Take this step back. Counts of several rings cannot be told apart any more, so it refuses where there are."""
    connection = op.get_bind()
    if connection.execute(sa.text("SELECT count(DISTINCT ring) FROM counts")).scalar_one() > 1:
        raise RuntimeError("the store holds counts of several rings, which the older schema cannot keep apart")
    for table in ("gate_watches", "gate_alarms", "gate_policies", "gates"):
        op.drop_table(table)
    counts = _table("counts", (*_OLD_KEYS, *_OLD_COUNTED))
    op.execute(sa.delete(counts).where(counts.c.width_s == _DAY_S))
    op.drop_index("counts_by_time", "counts")
    op.rename_table("counts", "newer_counts")
    op.create_table("counts", *_key_columns(), *_counted_columns())
    newer = _table("newer_counts", (*_OLD_KEYS, *_OLD_COUNTED))
    op.execute(sa.insert(counts).from_select(list(newer.c.keys()), sa.select(newer)))
    op.drop_table("newer_counts")
    op.create_index("counts_by_time", "counts", ["width_s", "starts_s"])
    with op.batch_alter_table("model_states") as batch:
        for column in (*_AUDITS, *_STATE_TEXTS, "labels"):
            batch.drop_column(column)
    with op.batch_alter_table("devices") as batch:
        batch.drop_column("ring")


_STATE_TEXTS: dict[str, tuple[sa.types.TypeEngine[str], str]] = {
    "ring": (sa.String(64), "default"),
    "gate_digest": (sa.String(64), ""),
    "gate_in_force": (sa.Text(), "{}"),
    "policy_id": (sa.String(64), ""),
    "refused_policy_id": (sa.String(64), ""),
    "refusal": (sa.String(500), ""),
    "audit_steps": (sa.Text(), "[]"),
    "label_steps": (sa.Text(), "[]"),
    "score_counts": (sa.Text(), "[]"),
}


def _extend_devices() -> None:
    with op.batch_alter_table("devices") as batch:
        batch.add_column(sa.Column("ring", sa.String(64), nullable=False, server_default="default"))


def _extend_model_states() -> None:
    with op.batch_alter_table("model_states") as batch:
        for name, (kind, value) in _STATE_TEXTS.items():
            batch.add_column(sa.Column(name, kind, nullable=False, server_default=value))
        for column in _new_counted_columns():
            batch.add_column(column)


def _extend_counts() -> None:
    """The ring becomes a part of the key, so the rows move to a new table; days begin with what the hours hold."""
    op.drop_index("counts_by_time", "counts")
    op.rename_table("counts", "older_counts")
    op.create_table(
        "counts",
        *_key_columns(),
        sa.Column("ring", sa.String(64), primary_key=True),
        *_counted_columns(),
        *_new_counted_columns(),
    )
    older = _table("older_counts", (*_OLD_KEYS, *_OLD_COUNTED))
    counts = _table("counts", (*_OLD_KEYS, *_OLD_COUNTED, "ring"))
    op.execute(sa.insert(counts).from_select(list(counts.c.keys()), sa.select(*older.c, sa.literal("default"))))
    op.drop_table("older_counts")
    op.create_index("counts_by_time", "counts", ["width_s", "starts_s"])
    _add_up_days()


def _add_up_days() -> None:
    connection = op.get_bind()
    counts = _table("counts", (*_OLD_KEYS, "ring", *_COUNTERS, *_AUDITS, *_JSON))
    days = list(_days(connection, counts))
    for start in range(0, len(days), _ROWS_AT_ONCE):
        connection.execute(sa.insert(counts), days[start : start + _ROWS_AT_ONCE])


_JSON = ("latency", "reasons", "labels")


def _days(connection: sa.Connection, counts: sa.TableClause) -> Iterator[dict[str, Any]]:
    owner = ("device_id", "model", "model_version", "variant")
    hours = (
        sa.select(counts)
        .where(counts.c.width_s == _HOUR_S)
        .order_by(*(counts.c[name] for name in owner), counts.c.starts_s)
    )

    def day_of(row: sa.RowMapping) -> tuple[Any, ...]:
        return (*(row[name] for name in owner), row["starts_s"] - row["starts_s"] % _DAY_S)

    for (*owned, starts_s), rows in groupby(connection.execute(hours).mappings(), day_of):
        yield {
            **dict(zip(owner, owned, strict=True)),
            "width_s": _DAY_S,
            "starts_s": starts_s,
            "ring": "default",
            "labels": "{}",
            **_sum(list(rows)),
        }


def _sum(rows: list[sa.RowMapping]) -> dict[str, Any]:
    latency: dict[str, tuple[float, dict[int, int]]] = {}
    reasons: dict[str, int] = {}
    for row in rows:
        for outcome, (sum_ms, buckets, numbers) in json.loads(row["latency"]).items():
            before_ms, merged = latency.get(outcome, (0.0, {}))
            for bucket, number in zip(buckets, numbers, strict=True):
                merged[bucket] = merged.get(bucket, 0) + number
            latency[outcome] = (before_ms + sum_ms, merged)
        for reason, number in json.loads(row["reasons"]).items():
            reasons[reason] = reasons.get(reason, 0) + number
    told = {outcome: (sum_ms, list(merged), list(merged.values())) for outcome, (sum_ms, merged) in latency.items()}
    return {
        **{name: sum(row[name] for row in rows) for name in (*_COUNTERS, *_AUDITS)},
        "latency": json.dumps(told),
        "reasons": json.dumps(reasons),
    }


def _table(name: str, columns: tuple[str, ...]) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


def _key_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("width_s", sa.Integer, primary_key=True),
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("starts_s", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.String(64), primary_key=True) for name in ("model", "model_version", "variant")),
    ]


def _counted_columns() -> list[sa.Column[Any]]:
    return [
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTERS),
        sa.Column("latency", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
    ]


def _new_counted_columns() -> list[sa.Column[Any]]:
    return [
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _AUDITS),
        sa.Column("labels", sa.Text, nullable=False, server_default="{}"),
    ]


def _create_watch_tables() -> None:
    op.create_table(
        "gates",
        sa.Column("digest", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("model", "model_version", "model_digest")),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
    )
    op.create_table(
        "gate_policies",
        sa.Column("policy_id", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("model", "ring", "gate_digest")),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("issued_by", sa.String(64), nullable=False),
        sa.Column("issued_s", sa.BigInteger, nullable=False),
        sa.Column("published_s", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("ring", "model", "sequence", name="gate_policies_by_sequence"),
    )
    op.create_index("gate_policies_to_publish", "gate_policies", ["published_s"])
    _create_alarms_and_watches()


def _create_alarms_and_watches() -> None:
    op.create_table(
        "gate_alarms",
        sa.Column("id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("model", "model_version", "ring", "gate_digest")),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("label", sa.String(256), nullable=False),
        sa.Column("raised_s", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("acknowledged_by", sa.String(64), nullable=True),
        sa.Column("acknowledged_s", sa.BigInteger, nullable=True),
    )
    op.create_index("gate_alarms_by_time", "gate_alarms", ["raised_s"])
    op.create_table(
        "gate_watches",
        *(
            sa.Column(name, sa.String(64), primary_key=True)
            for name in ("model", "model_version", "gate_digest", "ring")
        ),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        *(sa.Column(name, sa.Float, nullable=True) for name in ("alpha", "threshold")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("judged", "wrong")),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("lower", "upper", "cusum", "cusum_limit")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("steps", "labels", "detail")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("since_s", "updated_s")),
    )
