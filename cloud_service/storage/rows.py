"""Domain objects as rows and back. A row never leaves this package."""

from __future__ import annotations

from pydantic_core import from_json
from sqlalchemy import RowMapping

from cloud_service.fleet.book import ModelState
from cloud_service.fleet.buckets import Bucket, CountKey
from cloud_service.fleet.deltas import Series, Snapshot, Verdicts
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally, p99_ms
from cloud_service.storage.encoding import Row, decode_steps, decode_tally, encode_steps, encode_tally, json_text
from shared.types import GateReport

SERIES_COLUMNS = ("device_id", "model", "boot_id", "model_version", "variant")
STATUS_ID = 1


def device_row(device: DeviceState) -> Row:
    """The row of `devices`."""
    return dict(vars(device))


def device_of(row: RowMapping) -> DeviceState:
    """The device in a row of `devices`."""
    return DeviceState(
        row["device_id"],
        row["boot_id"],
        bool(row["is_online"]),
        row["agent_version"],
        row["first_heard_s"],
        row["last_seen_s"],
        row["ring"],
    )


def state_row(state: ModelState) -> Row:
    """The row of `model_states`."""
    verdicts = state.snapshot.verdicts
    return {
        **vars(state.series),
        "ring": state.ring,
        "sequence": state.snapshot.sequence,
        "model_digest": state.model_digest,
        **_gate_columns(state.gate),
        "cloud_link": state.cloud_link,
        "heard_s": state.heard_s,
        **encode_tally(state.snapshot.tally),
        "p99_ms": p99_ms(state.snapshot.tally),
        "audit_steps": encode_steps(verdicts.audits),
        "label_steps": encode_steps(verdicts.labels),
        "score_counts": json_text(verdicts.scores),
    }


def state_of(row: RowMapping) -> ModelState:
    """The state in a row of `model_states`."""
    verdicts = Verdicts(
        row["gate_digest"],
        decode_steps(row["audit_steps"]),
        decode_steps(row["label_steps"]),
        tuple(from_json(row["score_counts"])),
    )
    return ModelState(
        Series(*(row[name] for name in SERIES_COLUMNS)),
        Snapshot(row["sequence"], decode_tally(row), verdicts),
        row["model_digest"],
        gate_of(row),
        row["cloud_link"],
        row["heard_s"],
        row["ring"],
    )


def count_row(key: CountKey, tally: Tally) -> Row:
    """The row of `counts`."""
    return {
        "width_s": key.bucket.width_s,
        "starts_s": key.bucket.starts_s,
        "device_id": key.device_id,
        "model": key.model,
        "model_version": key.model_version,
        "variant": key.variant,
        "ring": key.ring,
        **encode_tally(tally),
    }


def count_of(row: RowMapping) -> tuple[CountKey, Tally]:
    """The counts in a row of `counts`."""
    bucket = Bucket(row["width_s"], row["starts_s"])
    key = CountKey(bucket, row["device_id"], row["model"], row["model_version"], row["variant"], row["ring"])
    return key, decode_tally(row)


def status_of(row: RowMapping) -> FleetStatus:
    """The status in the row of `fleet_status`."""
    return FleetStatus(
        row["started_s"], row["written_s"], row["broker"], bool(row["is_broker_connected"]), row["broker_error"]
    )


def _gate_columns(gate: GateReport) -> Row:
    return {
        "gate_score": gate.score,
        "gate_threshold": gate.threshold,
        "gate_digest": gate.digest,
        "gate_in_force": json_text(gate.in_force),
        "policy_id": gate.policy_id,
        "refused_policy_id": gate.refused_policy_id,
        "refusal": gate.refusal,
    }


def gate_of(row: RowMapping) -> GateReport:
    """What a device obeyed, in a row of `model_states`."""
    return GateReport(
        row["gate_score"],
        row["gate_threshold"],
        row["gate_digest"],
        from_json(row["gate_in_force"]),
        row["policy_id"],
        row["refused_policy_id"],
        row["refusal"],
    )
