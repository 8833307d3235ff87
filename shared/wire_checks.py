"""What arrives is not believed: names, texts and numbers one by one, and telemetry as a whole.

Telemetry is checked on protobuf's own message, which is several times cheaper than taking it apart: so the fleet
service knows at once that a message is sound, and takes apart only those that it books.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

from shared.errors import InputError, MessageError
from shared.histogram import BOUNDS_MS
from shared.pb import fleet_pb2
from shared.types import AuditCounts, LabelCounts, Outcome, RequestCounters, checked_identifier, checked_label

MAX_COUNT = 2**48
"""No honest device counts as far; bounded, so that the sum over 30,000 devices still fits a 64-bit column."""

_BUCKETS = len(BOUNDS_MS) + 1
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)
counter_values = attrgetter(*(field.name for field in fields(RequestCounters)))
"""The counters of a message, in the order of `shared.types.RequestCounters`."""
audit_values = attrgetter(*(field.name for field in fields(AuditCounts)))
"""The audits of a message, in the order of `shared.types.AuditCounts`."""
label_values = attrgetter(*(field.name for field in fields(LabelCounts)))
"""A label's counts of a message, in the order of `shared.types.LabelCounts`."""


@dataclass(frozen=True)
class TelemetryHead:
    """Which series a telemetry message tells of, and which moment of it."""

    device_id: str
    boot_id: str
    sequence: int
    model: str
    model_version: str
    variant: str
    traceparent: str


def identifier(kind: str, value: str) -> str:
    """Raises: MessageError: `value` may not name anything."""
    try:
        return checked_identifier(kind, value)
    except InputError as error:
        raise MessageError(str(error)) from error


def label(value: str) -> str:
    """Raises: MessageError: `value` is no label."""
    try:
        return checked_label(value)
    except InputError as error:
        raise MessageError(str(error)) from error


def printable(name: str, value: str, characters: int) -> str:
    """The first `characters` of `value`.

    Raises:
        MessageError: it is not printable.
    """
    if not value.isprintable():
        raise MessageError(f"{name} {value!r} is not printable")
    return value[:characters]


def finite(name: str, value: float) -> float:
    """Raises: MessageError: `value` is no number."""
    if not math.isfinite(value):
        raise MessageError(f"{name} {value} is no number")
    return value


def checked_head(message: fleet_pb2.DeviceModelTelemetry) -> TelemetryHead:
    """Check the whole of `message`.

    Raises:
        MessageError: names that are none, unprintable text, a threshold that is no number, counts that break
            their sums or are beyond `MAX_COUNT`, or histograms of other buckets.
    """
    head = TelemetryHead(
        identifier("device", message.device_id),
        identifier("boot_id", message.boot_id),
        message.sequence,
        identifier("model", message.model),
        identifier("version", message.model_version),
        identifier("variant", message.variant) if message.variant else "",
        printable("traceparent", message.traceparent, 64),
    )
    if message.ring:
        identifier("ring", message.ring)
    printable("model_digest", message.model_digest, 64)
    printable("cloud_link", message.cloud_link, 16)
    _check_gate(message.gate)
    largest = max(
        message.sequence,
        _largest_counter(message.counters),
        _largest_bucket(message.latency_by_outcome),
        max(message.reasons.values(), default=0),
        _largest_audit(message.audits),
        _largest_judged(message.audit_steps),
        _largest_judged(message.label_steps),
        _largest_of_labels(message.labels),
        max(message.score_counts, default=0),
    )
    if largest > MAX_COUNT:
        raise MessageError(f"device {message.device_id}: a count is larger than {MAX_COUNT}")
    return head


def _check_gate(message: fleet_pb2.GateState) -> None:
    texts = (message.score, message.digest, message.policy_id, message.refused_policy_id, message.refusal)
    for text in (*texts, *message.in_force):
        printable("gate", text, 0)
    finite("gate.threshold", message.threshold)
    for alpha in message.in_force.values():
        finite("alpha", alpha)


def _largest_counter(message: fleet_pb2.Counters) -> int:
    ended = message.edge + message.cloud + message.degraded + message.failed
    calls = message.served + message.call_failed + message.timed_out
    if (
        message.received != message.accepted + message.rejected
        or message.accepted != ended + message.in_flight
        or message.attempted != calls + message.calls_in_flight
        or message.wanted > message.accepted
    ):
        raise MessageError(f"the counters do not add up: {message}")
    return max(message.received, message.attempted)


def _largest_bucket(wire: Mapping[str, fleet_pb2.Histogram]) -> int:
    largest = 0
    for outcome, histogram in wire.items():
        counts = histogram.counts
        if outcome not in _OUTCOMES or len(counts) != _BUCKETS or not math.isfinite(histogram.sum_ms):
            raise MessageError(f"the latency histogram of {outcome!r} is not of {_BUCKETS} buckets")
        largest = max(largest, max(counts[:]))  # a slice is a list, which is read faster
    return largest


def _largest_audit(message: fleet_pb2.AuditCounts) -> int:
    if message.chosen != message.agreed + message.disagreed + message.failed + message.in_flight:
        raise MessageError(f"the audits do not add up: {message}")
    return message.chosen


def _largest_judged(wire: Iterable[fleet_pb2.StepCounts]) -> int:
    largest = 0
    for step in wire:
        finite("threshold", step.threshold)
        if step.wrong > step.judged:
            raise MessageError(f"more answers are wrong than were judged: {step}")
        largest = max(largest, step.judged)
    return largest


def _largest_of_labels(wire: Mapping[str, fleet_pb2.LabelCounts]) -> int:
    largest = 0
    for name, counts in wire.items():
        label(name)
        largest = max(largest, *label_values(counts))
    return largest
