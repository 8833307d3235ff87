"""Domain objects as rows and back. A row never leaves this package."""

from __future__ import annotations

from sqlalchemy import RowMapping

from cloud_service.fleet.book import ModelState
from cloud_service.fleet.buckets import Bucket, CountKey
from cloud_service.fleet.deltas import Series, Snapshot
from cloud_service.fleet.presence import DeviceState
from cloud_service.fleet.status import FleetStatus
from cloud_service.fleet.tally import Tally
from cloud_service.storage.encoding import Row, decode_tally, encode_tally

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
    )


def state_row(state: ModelState) -> Row:
    """The row of `model_states`."""
    return {
        **vars(state.series),
        "sequence": state.snapshot.sequence,
        "model_digest": state.model_digest,
        "gate_score": state.gate_score,
        "gate_threshold": state.gate_threshold,
        "cloud_link": state.cloud_link,
        "heard_s": state.heard_s,
        **encode_tally(state.snapshot.tally),
    }


def state_of(row: RowMapping) -> ModelState:
    """The state in a row of `model_states`."""
    return ModelState(
        Series(*(row[name] for name in SERIES_COLUMNS)),
        Snapshot(row["sequence"], decode_tally(row)),
        row["model_digest"],
        row["gate_score"],
        row["gate_threshold"],
        row["cloud_link"],
        row["heard_s"],
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
        **encode_tally(tally),
    }


def count_of(row: RowMapping) -> tuple[CountKey, Tally]:
    """The counts in a row of `counts`."""
    bucket = Bucket(row["width_s"], row["starts_s"])
    key = CountKey(bucket, row["device_id"], row["model"], row["model_version"], row["variant"])
    return key, decode_tally(row)


def status_of(row: RowMapping) -> FleetStatus:
    """The status in the row of `fleet_status`."""
    return FleetStatus(
        row["started_s"], row["written_s"], row["broker"], bool(row["is_broker_connected"]), row["broker_error"]
    )
