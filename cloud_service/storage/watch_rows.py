"""Gates, their watches, alarms and orders as rows and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic_core import from_json
from sqlalchemy import RowMapping

from cloud_service.storage.encoding import Row, decode_steps, encode_steps, json_text
from cloud_service.watch.records import (
    AlarmKind,
    GateAlarm,
    GateKey,
    GateWatch,
    IssuedPolicy,
    KnownGate,
    LabelFigures,
    StepFigures,
    WatchDetail,
    WatchKey,
    WatchKind,
    WatchState,
)
from shared.gate import gate_document, parse_gate
from shared.types import GatePolicy


def gate_row(known: KnownGate) -> Row:
    """The row of `gates`."""
    return {
        "digest": known.digest,
        "model": known.model,
        "model_version": known.model_version,
        "model_digest": known.gate.model_digest,
        "document": gate_document(known.gate).decode(),
        "labels": json_text(known.labels),
    }


def gate_of(row: RowMapping) -> KnownGate:
    """The gate in a row of `gates`.

    Raises:
        GateError: the document is of another version of Tandem.
    """
    gate = parse_gate(row["document"].encode())
    return KnownGate(row["digest"], row["model"], row["model_version"], gate, tuple(from_json(row["labels"])))


def policy_row(issued: IssuedPolicy) -> Row:
    """The row of `gate_policies`."""
    policy = issued.policy
    return {
        "policy_id": policy.policy_id,
        "sequence": policy.sequence,
        "model": policy.model,
        "ring": issued.ring,
        "gate_digest": policy.gate_digest,
        "document": json_text(asdict(policy)),
        "issued_by": policy.issued_by,
        "issued_s": issued.issued_s,
        "published_s": issued.published_s,
    }


def policy_of(row: RowMapping) -> IssuedPolicy:
    """The order in a row of `gate_policies`."""
    return IssuedPolicy(GatePolicy(**from_json(row["document"])), row["ring"], row["issued_s"], row["published_s"])


def alarm_row(alarm: GateAlarm) -> Row:
    """The row of `gate_alarms`."""
    return {
        "id": alarm.id,
        **vars(alarm.gate),
        "kind": alarm.kind.value,
        "label": alarm.label,
        "raised_s": alarm.raised_s,
        "text": alarm.text,
        "evidence": json_text(alarm.evidence),
        "acknowledged_by": alarm.acknowledged_by,
        "acknowledged_s": alarm.acknowledged_s,
    }


def alarm_of(row: RowMapping) -> GateAlarm:
    """The alarm in a row of `gate_alarms`."""
    return GateAlarm(
        row["id"],
        _gate_key(row),
        AlarmKind(row["kind"]),
        row["raised_s"],
        row["text"],
        row["label"],
        from_json(row["evidence"]),
        row["acknowledged_by"],
        row["acknowledged_s"],
    )


def watch_row(watch: GateWatch) -> Row:
    """The row of `gate_watches`."""
    detail = {**asdict(watch.detail), "window": encode_steps(watch.detail.window)}
    return {
        **vars(watch.key.gate),
        "kind": watch.key.kind.value,
        "state": watch.state.value,
        **{name: getattr(watch, name) for name in _PLAIN},
        "steps": json_text([asdict(step) for step in watch.steps]),
        "labels": json_text({label: asdict(figures) for label, figures in watch.labels.items()}),
        "detail": json_text(detail),
    }


def watch_of(row: RowMapping) -> GateWatch:
    """The watch in a row of `gate_watches`."""
    return GateWatch(
        WatchKey(_gate_key(row), WatchKind(row["kind"])),
        WatchState(row["state"]),
        steps=tuple(StepFigures(**step) for step in from_json(row["steps"])),
        labels={label: LabelFigures(**figures) for label, figures in from_json(row["labels"]).items()},
        detail=_detail_of(from_json(row["detail"])),
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = (
    "alpha", "threshold", "judged", "wrong", "lower", "upper", "cusum", "cusum_limit", "since_s", "updated_s",
)  # fmt: skip


def _detail_of(fields: dict[str, Any]) -> WatchDetail:
    return WatchDetail(**{**fields, "window": decode_steps(fields["window"]), "scores": tuple(fields["scores"])})


def _gate_key(row: RowMapping) -> GateKey:
    return GateKey(row["model"], row["model_version"], row["gate_digest"], row["ring"])
