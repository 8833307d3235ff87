"""One device as the store remembers it: its boots, its counts over time, and what was decided for its ring."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pydantic_core import from_json
from sqlalchemy import Connection, RowMapping, select

from cloud_service.dashboard.devices_question import DeviceHistory, DeviceModel, NotedAlarm, NotedPolicy
from cloud_service.dashboard.ranges import Axis
from cloud_service.fleet.tally import Tally, TallySum
from cloud_service.storage import tables
from cloud_service.storage.rows import count_of, device_of, gate_of

MODEL_COLUMNS = ("model", "model_version", "variant", "model_digest", "cloud_link", "heard_s", "accepted", "wanted",
                 "p99_ms", "gate_score", "gate_threshold", "gate_digest", "gate_in_force", "policy_id",
                 "refused_policy_id", "refusal")  # fmt: skip
_MOST_BOOTS, _MOST_DECISIONS = 200, 50


def read_history(connection: Connection, device_id: str, axis: Axis) -> DeviceHistory | None:
    """All of one device; None where it was never heard of."""
    found = connection.execute(select(tables.devices).where(tables.devices.c.device_id == device_id)).mappings().first()
    if found is None:
        return None
    device = device_of(found)
    models = _models(connection, device_id)
    rings = sorted({device.ring, *(each.ring for each in models if each.boot_id == device.boot_id)})
    return DeviceHistory(
        device,
        models,
        axis,
        _tallies(connection, device_id, axis),
        _policies(connection, rings),
        _alarms(connection, rings),
    )


def model_of(row: RowMapping, boot_id: str, ring: str) -> DeviceModel:
    """The model in a row with `MODEL_COLUMNS`."""
    return DeviceModel(
        row["model"],
        row["model_version"],
        row["variant"],
        row["model_digest"],
        boot_id,
        ring,
        row["cloud_link"],
        gate_of(row),
        row["heard_s"],
        row["accepted"],
        row["wanted"],
        row["p99_ms"],
    )


def _models(connection: Connection, device_id: str) -> tuple[DeviceModel, ...]:
    columns = tables.model_states.c
    query = (
        select(columns.boot_id, columns.ring, *(columns[name] for name in MODEL_COLUMNS))
        .where(columns.device_id == device_id)
        .order_by(columns.heard_s.desc(), columns.model, columns.sequence.desc())
        .limit(_MOST_BOOTS)
    )
    return tuple(model_of(row, row["boot_id"], row["ring"]) for row in connection.execute(query).mappings())


def _tallies(connection: Connection, device_id: str, axis: Axis) -> dict[int, Tally]:
    columns = tables.counts.c
    query = select(*tables.UNLABELLED).where(
        columns.width_s == axis.width_s,
        columns.device_id == device_id,
        columns.starts_s >= axis.since_s,
        columns.starts_s < axis.until_s,
    )
    sums: dict[int, TallySum] = defaultdict(TallySum)
    for row in connection.execute(query).mappings():
        key, tally = count_of(row)
        sums[key.bucket.starts_s].add(tally)
    return {starts_s: each.tally() for starts_s, each in sums.items()}


def _policies(connection: Connection, rings: Sequence[str]) -> tuple[NotedPolicy, ...]:
    table = tables.gate_policies
    query = (
        select(table)
        .where(table.c.ring.in_(rings))
        .order_by(table.c.issued_s.desc(), table.c.sequence.desc())
        .limit(_MOST_DECISIONS)
    )
    return tuple(_policy(row) for row in connection.execute(query).mappings())


def _policy(row: RowMapping) -> NotedPolicy:
    told = from_json(row["document"])
    return NotedPolicy(
        row["policy_id"],
        row["model"],
        row["ring"],
        row["issued_by"],
        str(told.get("reason", "")),
        {str(risk): float(alpha) for risk, alpha in told.get("in_force", {}).items()},
        bool(told.get("escalate_all", False)),
        row["issued_s"],
        row["published_s"],
    )


def _alarms(connection: Connection, rings: Sequence[str]) -> tuple[NotedAlarm, ...]:
    table = tables.gate_alarms
    query = select(table).where(table.c.ring.in_(rings)).order_by(table.c.raised_s.desc()).limit(_MOST_DECISIONS)
    return tuple(
        NotedAlarm(
            row["id"],
            row["model"],
            row["ring"],
            row["kind"],
            row["text"],
            row["raised_s"],
            row["acknowledged_by"] or "",
        )
        for row in connection.execute(query).mappings()
    )
