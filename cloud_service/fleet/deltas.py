"""From cumulative snapshots to increases. Pure.

A device's counts are cumulative for each series: (device, model, boot, model version, variant). A message that is
lost, doubled or out of order therefore changes nothing: the next newer one says it all again. A series never seen
before began at zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from cloud_service.fleet.tally import (
    AUDIT_NAMES,
    COUNTER_NAMES,
    Tally,
    label_values,
    sparse,
)
from shared.errors import MessageError
from shared.types import ModelTelemetry, StepCounts

_GAUGES = frozenset({"in_flight", "calls_in_flight"})
_cumulative_counters = attrgetter(*(name for name in COUNTER_NAMES if name not in _GAUGES))
_cumulative_audits = attrgetter(*(name for name in AUDIT_NAMES if name not in _GAUGES))


@dataclass(frozen=True)
class Series:
    """What a device counts together: a new boot, model version or variant starts from zero."""

    device_id: str
    model: str
    boot_id: str
    model_version: str
    variant: str


@dataclass(frozen=True)
class Verdicts:
    """What was found out about the kept answers of one gate (SHA-256 `gate_digest`), cumulative or an increase.

    `audits` and `labels` count by the gate's certified thresholds, strict to loose; `scores` by the bins of its score
    histogram.
    """

    gate_digest: str = ""
    audits: tuple[StepCounts, ...] = ()
    labels: tuple[StepCounts, ...] = ()
    scores: tuple[int, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """One series' cumulative counts at one moment; `sequence` orders the moments of one boot."""

    sequence: int
    tally: Tally
    verdicts: Verdicts = field(default_factory=Verdicts)


def series_of(telemetry: ModelTelemetry) -> Series:
    """Which series a message tells of."""
    return Series(
        telemetry.device_id, telemetry.model.name, telemetry.boot_id, telemetry.model.version, telemetry.variant
    )


def snapshot_of(telemetry: ModelTelemetry) -> Snapshot:
    """The counts of a message."""
    latency = {outcome: sparse(histogram) for outcome, histogram in telemetry.latency_by_outcome.items()}
    tally = Tally(
        telemetry.counters,
        {outcome: histogram for outcome, histogram in latency.items() if histogram.counts},
        {reason: count for reason, count in telemetry.reasons.items() if count},
        telemetry.audits,
        telemetry.labels,
    )
    verdicts = Verdicts(telemetry.gate.digest, telemetry.audit_steps, telemetry.label_steps, telemetry.score_counts)
    return Snapshot(telemetry.sequence, tally, verdicts)


def increase(last: Snapshot | None, new: Snapshot) -> Tally:
    """What `new` adds to `last`, the newest that was booked and an older one (None: nothing yet).

    Raises:
        MessageError: a cumulative count went backwards, so one of the two is wrong.
    """
    if last is None:
        return new.tally
    grown = new.tally - last.tally
    if _shrinks(grown):
        raise MessageError(f"a cumulative count went backwards between messages {last.sequence} and {new.sequence}")
    return grown


def further_verdicts(last: Verdicts | None, new: Verdicts) -> Verdicts:
    """What `new` adds to `last`. Another gate counts from zero, and so do steps of other thresholds or fewer counts."""
    if last is None or last.gate_digest != new.gate_digest:
        return new
    return Verdicts(
        new.gate_digest,
        _further_steps(last.audits, new.audits),
        _further_steps(last.labels, new.labels),
        _further_scores(last.scores, new.scores),
    )


def _further_steps(last: tuple[StepCounts, ...], new: tuple[StepCounts, ...]) -> tuple[StepCounts, ...]:
    if last == new:
        return ()
    if len(last) != len(new):
        return new
    grown = tuple(
        StepCounts(now.threshold, now.judged - before.judged, now.wrong - before.wrong)
        for before, now in zip(last, new, strict=True)
    )
    is_same = all(before.threshold == now.threshold for before, now in zip(last, new, strict=True))
    return grown if is_same and all(step.wrong >= 0 and step.judged >= step.wrong for step in grown) else new


def _further_scores(last: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    if last == new:
        return ()
    if len(last) != len(new):
        return new
    grown = tuple(now - before for before, now in zip(last, new, strict=True))
    return grown if min(grown) >= 0 else new


def _shrinks(grown: Tally) -> bool:
    return (
        min(_cumulative_counters(grown.counters)) < 0
        or min(_cumulative_audits(grown.audits)) < 0
        or min(grown.reasons.values(), default=0) < 0
        or any(min(histogram.counts.values()) < 0 for histogram in grown.latency.values())
        or any(min(label_values(counts)) < 0 for counts in grown.labels.values())
    )
