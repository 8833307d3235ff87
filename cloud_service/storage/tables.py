"""The tables, as they are after the newest migration.

Times are the server's, whole seconds since 1970-01-01 UTC. `latency` and `reasons` are JSON (see `encoding`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

from cloud_service.fleet.tally import COUNTER_NAMES

metadata = MetaData()

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("boot_id", String(64), nullable=False),
    Column("is_online", Boolean, nullable=False),
    Column("agent_version", String(64), nullable=False),
    Column("first_heard_s", BigInteger, nullable=False),
    Column("last_seen_s", BigInteger, nullable=True),
)

model_states = Table(
    "model_states",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("boot_id", String(64), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("variant", String(64), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("gate_score", String(64), nullable=False),
    Column("gate_threshold", Float, nullable=True),
    Column("cloud_link", String(16), nullable=False),
    Column("heard_s", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in COUNTER_NAMES),
    Column("latency", Text, nullable=False),
    Column("reasons", Text, nullable=False),
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
    *(Column(name, BigInteger, nullable=False) for name in COUNTER_NAMES),
    Column("latency", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Index("counts_by_time", "width_s", "starts_s"),
)

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
