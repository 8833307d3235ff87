"""The tables of comparisons and true labels, as they are after the newest migration.

Times are seconds since 1970-01-01 UTC. `comparisons.text` is NULL unless the operator lets texts be kept.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, String, Table, Text, UniqueConstraint

from cloud_service.storage.tables import metadata

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("at_s", BigInteger, nullable=False),
    Column("device_id", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("full_version", String(64), nullable=False),
    Column("full_digest", String(64), nullable=False),
    Column("edge_version", String(64), nullable=False),
    Column("gate_digest", String(64), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("edge_label", Text, nullable=False),
    Column("edge_score", Double, nullable=False),
    Column("gate_score", Double, nullable=False),
    Column("full_label", Text, nullable=False),
    Column("full_score", Double, nullable=False),
    Column("text", Text, nullable=True),
    UniqueConstraint("device_id", "request_id", name="comparisons_once"),
    Index("comparisons_by_model", "model", "at_s"),
    Index("comparisons_by_time", "at_s"),
)

true_labels = Table(
    "true_labels",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("answered_s", BigInteger, nullable=False),
    Column("received_s", BigInteger, nullable=False),
    Column("device_id", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("edge_version", String(64), nullable=False),
    Column("gate_digest", String(64), nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("edge_label", Text, nullable=False),
    Column("edge_score", Double, nullable=False),
    Column("gate_score", Double, nullable=False),
    Column("true_label", Text, nullable=False),
    Column("source", String(16), nullable=False),
    UniqueConstraint("device_id", "request_id", "model", name="true_labels_once"),
    Index("true_labels_by_model", "model", "answered_s"),
    Index("true_labels_by_time", "received_s"),
)
