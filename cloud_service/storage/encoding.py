"""Tallies as columns and back: counters as they are, the rest as compact JSON."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import RowMapping

from cloud_service.fleet.tally import (
    AUDIT_COLUMNS,
    COUNTER_NAMES,
    SparseHistogram,
    Tally,
    audit_values,
    counter_values,
    label_values,
)
from shared.types import AuditCounts, LabelCounts, RequestCounters, StepCounts

Row = dict[str, Any]
"""Column names to values, as the database driver takes them."""


def encode_tally(tally: Tally) -> Row:
    """The columns of a tally.

    `latency`: outcome to [sum in ms, buckets, counts of these buckets]; `labels`: label to the counts of
    `shared.types.LabelCounts` in the order of its fields.
    """
    latency = {
        outcome: (each.sum_ms, list(each.counts), list(each.counts.values())) for outcome, each in tally.latency.items()
    }
    row: Row = dict(zip(COUNTER_NAMES, counter_values(tally.counters), strict=True))
    row.update(zip(AUDIT_COLUMNS, audit_values(tally.audits), strict=True))
    row["latency"] = json_text(latency)
    row["reasons"] = json_text(tally.reasons)
    row["labels"] = json_text({label: label_values(each) for label, each in tally.labels.items()})
    return row


def decode_tally(row: RowMapping) -> Tally:
    """The tally in a row; not told apart by label where the row was read without that column."""
    latency = {
        outcome: SparseHistogram(dict(zip(buckets, counts, strict=True)), sum_ms)
        for outcome, (sum_ms, buckets, counts) in from_json(row["latency"]).items()
    }
    return Tally(
        RequestCounters(*(row[name] for name in COUNTER_NAMES)),
        latency,
        from_json(row["reasons"]),
        AuditCounts(*(row[name] for name in AUDIT_COLUMNS)),
        {label: LabelCounts(*values) for label, values in from_json(row.get("labels", "{}")).items()},
    )


def encode_steps(steps: tuple[StepCounts, ...]) -> str:
    """Steps as JSON: a list of [threshold, judged, wrong]."""
    return json_text([(step.threshold, step.judged, step.wrong) for step in steps])


def decode_steps(text: str) -> tuple[StepCounts, ...]:
    """What `encode_steps` wrote."""
    return tuple(StepCounts(*values) for values in from_json(text))


def json_text(value: object) -> str:
    """`value` as compact JSON."""
    return to_json(value).decode()
