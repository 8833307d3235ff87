"""Rollouts, orders and reports as rows and back. A row never leaves this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import RowMapping

from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.plan import encode_plan, parse_plan
from cloud_service.rollout.records import DeviceFailure, Rollout, RolloutState, StageFigures, StageProgress, StageState
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.storage.encoding import Row
from shared.errors import StorageError, UpdateRefused
from shared.update.assignment import Assignment, encode_assignment, parse_assignment
from shared.update.report import ErrorKind, UpdateReport

_REPORT = TypeAdapter(UpdateReport)
_FIGURES = tuple(each.name for each in fields(StageFigures))


def rollout_row(rollout: Rollout) -> Row:
    """The row of `rollouts`."""
    return {
        "id": rollout.id,
        "model": rollout.plan.model,
        "version": rollout.plan.release.version,
        "state": rollout.state.value,
        "plan": encode_plan(rollout.plan),
        "created_s": rollout.created_s,
        "created_by": rollout.created_by,
        "approved_by": rollout.approved_by,
        "reason": rollout.reason,
        "updated_s": rollout.updated_s,
    }


def stage_rows(rollout: Rollout) -> list[Row]:
    """The rows of `rollout_stages`."""
    return [
        {
            "rollout_id": rollout.id,
            "position": position,
            "ring": stage.ring,
            "share": stage.share,
            "shadow_share": stage.shadow_share,
            "state": progress.state.value,
            "opened_s": progress.opened_s,
            "enough_since_s": progress.enough_since_s,
            "note": progress.note,
            "forgiven": progress.forgiven,
            **asdict(progress.figures),
        }
        for position, (stage, progress) in enumerate(zip(rollout.plan.stages, rollout.stages, strict=True))
    ]


def rollout_of(row: RowMapping, stages: Sequence[RowMapping]) -> Rollout:
    """The rollout in a row of `rollouts` and its rows of `rollout_stages`, by position.

    Raises:
        RolloutError: a newer Tandem wrote its plan.
    """
    return Rollout(
        row["id"],
        parse_plan(row["plan"]),
        RolloutState(row["state"]),
        tuple(_progress_of(stage) for stage in stages),
        row["created_s"],
        row["created_by"],
        row["approved_by"],
        row["reason"],
        row["updated_s"],
    )


def order_row(order: RingOrder) -> Row:
    """The row of `ring_orders`."""
    return {
        "ring": order.ring,
        "model": order.model,
        "rollout_id": order.rollout_id,
        "sequence": order.sequence,
        "document": _document(order.assignment),
        "decided_s": order.decided_s,
        "signed_s": order.signed_s,
    }


def order_of(row: RowMapping) -> RingOrder:
    """The order in a row of `ring_orders`.

    Raises:
        StorageError: a newer Tandem wrote it.
    """
    assignment = _assignment_of(row, f"ring {row['ring']}")
    key = (row["ring"], row["model"], row["rollout_id"], row["sequence"])
    return RingOrder(*key, assignment, row["decided_s"], row["signed_s"])


def device_order_row(order: DeviceOrder) -> Row:
    """The row of `device_orders`."""
    return {
        "device_id": order.device_id,
        "model": order.model,
        "rollout_id": order.rollout_id,
        "sequence": order.sequence,
        "document": _document(order.assignment),
        "decided_s": order.decided_s,
        "decided_by": order.decided_by,
        "reason": order.reason,
        "signed_s": order.signed_s,
    }


def device_order_of(row: RowMapping) -> DeviceOrder:
    """The order in a row of `device_orders`.

    Raises:
        StorageError: a newer Tandem wrote it.
    """
    return DeviceOrder(
        row["device_id"],
        row["model"],
        row["rollout_id"],
        row["sequence"],
        _assignment_of(row, f"device {row['device_id']}"),
        row["decided_s"],
        row["decided_by"],
        row["reason"],
        row["signed_s"],
    )


def report_row(report: UpdateReport, heard_s: int) -> Row:
    """The row of `device_updates`."""
    return {
        "device_id": report.device_id,
        "model": report.model,
        "ring": report.ring,
        "rollout_id": report.rollout,
        "active_version": report.active.version,
        "active_release": report.active.release,
        "active_gate_digest": report.active.gate_digest,
        "phase": report.phase.value,
        "error_kind": report.error_kind.value,
        "heard_s": heard_s,
        "document": _REPORT.dump_json(report).decode(),
    }


def report_of(row: RowMapping) -> UpdateReport:
    """The report in a row of `device_updates`.

    Raises:
        StorageError: a newer Tandem wrote it.
    """
    try:
        return _REPORT.validate_json(row["document"])
    except ValidationError as error:
        raise StorageError(f"the report of device {row['device_id']} cannot be read: {error}") from error


def failure_row(report: UpdateReport, heard_s: int) -> Row:
    """The row of `rollout_failures` of a report with an error."""
    return {
        "rollout_id": report.rollout,
        "device_id": report.device_id,
        "ring": report.ring,
        "error_kind": report.error_kind.value,
        "error": report.error,
        "heard_s": heard_s,
    }


def failure_of(row: RowMapping) -> DeviceFailure:
    """The failure in a row of `rollout_failures`."""
    kind = ErrorKind(row["error_kind"])
    return DeviceFailure(row["device_id"], row["ring"], kind, row["error"], row["heard_s"])


def _progress_of(row: RowMapping) -> StageProgress:
    figures: dict[str, Any] = {name: row[name] for name in _FIGURES}
    return StageProgress(
        StageState(row["state"]),
        row["opened_s"],
        row["enough_since_s"],
        StageFigures(**figures),
        row["note"],
        row["forgiven"],
    )


def _document(assignment: Assignment | None) -> str:
    return encode_assignment(assignment).decode() if assignment else ""


def _assignment_of(row: RowMapping, whom: str) -> Assignment | None:
    try:
        return parse_assignment(row["document"].encode()) if row["document"] else None
    except UpdateRefused as error:
        raise StorageError(f"the order for {whom} cannot be read: {error}") from error
