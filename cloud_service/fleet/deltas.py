"""From cumulative snapshots to increases. Pure.

A device's counts are cumulative for each series: (device, model, boot, model version, variant). A message that is
lost, doubled or out of order therefore changes nothing: the next newer one says it all again. A series never seen
before began at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.fleet.tally import COUNTER_NAMES, Tally, counter_values, sparse
from shared.errors import MessageError
from shared.types import ModelTelemetry

MAX_COUNT = 2**48
"""No honest device counts as far; bounded, so that the sum over 30,000 devices still fits a 64-bit column."""

_GAUGES = frozenset({"in_flight", "calls_in_flight"})
_CUMULATIVE = tuple(index for index, name in enumerate(COUNTER_NAMES) if name not in _GAUGES)


@dataclass(frozen=True)
class Series:
    """What a device counts together: a new boot, model version or variant starts from zero."""

    device_id: str
    model: str
    boot_id: str
    model_version: str
    variant: str


@dataclass(frozen=True)
class Snapshot:
    """One series' cumulative counts at one moment; `sequence` orders the moments of one boot."""

    sequence: int
    tally: Tally


def series_of(telemetry: ModelTelemetry) -> Series:
    """Which series a message tells of."""
    return Series(
        telemetry.device_id, telemetry.model.name, telemetry.boot_id, telemetry.model.version, telemetry.variant
    )


def snapshot_of(telemetry: ModelTelemetry) -> Snapshot:
    """The counts of a message.

    Raises:
        MessageError: a count is beyond `MAX_COUNT`.
    """
    latency = {outcome: sparse(histogram) for outcome, histogram in telemetry.latency_by_outcome.items()}
    tally = Tally(
        telemetry.counters,
        {outcome: histogram for outcome, histogram in latency.items() if histogram.counts},
        {reason: count for reason, count in telemetry.reasons.items() if count},
    )
    buckets = [count for histogram in latency.values() for count in histogram.counts.values()]
    if max(telemetry.sequence, *counter_values(tally.counters), *buckets, *tally.reasons.values()) > MAX_COUNT:
        raise MessageError(f"device {telemetry.device_id}: a count is larger than {MAX_COUNT}")
    return Snapshot(telemetry.sequence, tally)


def increase(last: Snapshot | None, new: Snapshot) -> Tally | None:
    """What `new` adds to `last`, the newest that was booked (None: nothing yet). None when `new` is no newer.

    Raises:
        MessageError: a cumulative count went backwards, so one of the two is wrong.
    """
    if last is None:
        return new.tally
    if new.sequence <= last.sequence:
        return None
    grown = new.tally - last.tally
    if _shrinks(grown):
        raise MessageError(f"a cumulative count went backwards between messages {last.sequence} and {new.sequence}")
    return grown


def _shrinks(grown: Tally) -> bool:
    values = counter_values(grown.counters)
    return (
        any(values[index] < 0 for index in _CUMULATIVE)
        or any(count < 0 for count in grown.reasons.values())
        or any(count < 0 for histogram in grown.latency.values() for count in histogram.counts.values())
    )
