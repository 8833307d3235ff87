"""Comparisons and labels for tests, and a store that the fleet service has set up."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Engine

from cloud_service.cases.comparison import FROM_DEVICE, Comparison, LabelledAnswer
from cloud_service.storage.case_store import CaseStore
from cloud_service.storage.schema import migrate

NOW_S = 1_800_000_000
_COMPARISON = Comparison(
    NOW_S, "d1", "r1", "tiny", "9.0.0", "f" * 64, "1.0.0", "a" * 64, "interactive", "uncertain", False,
    "card", 0.5, 0.5, "cash", 0.9,
)  # fmt: skip
_LABELLED = LabelledAnswer(
    NOW_S, NOW_S + 60, "d1", "r1", "tiny", "1.0.0", "a" * 64, True, "card", 0.95, 0.95, "card", FROM_DEVICE
)


def compared(request_id: str = "r1", **fields: object) -> Comparison:
    """An escalated request on which the models differ, unless `fields` say otherwise."""
    return replace(_COMPARISON, request_id=request_id, **fields)  # type: ignore[arg-type]


def audited(request_id: str = "r1", **fields: object) -> Comparison:
    """An audited request on which the models agree, unless `fields` say otherwise."""
    usual = {"priority": "audit", "reason": "confident", "kept": True, "full_label": "card", "gate_score": 0.95}
    return compared(request_id, **{**usual, **fields})


def labelled(request_id: str = "r1", **fields: object) -> LabelledAnswer:
    """An answer whose true label came back."""
    return replace(_LABELLED, request_id=request_id, **fields)  # type: ignore[arg-type]


def ready_store(engine: Engine) -> CaseStore:
    """A store with its schema."""
    migrate(engine)
    return CaseStore(engine)
