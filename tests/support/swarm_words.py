"""What the devices of a swarm say: real telemetry whose counts after any number of steps are known beforehand.

All devices of one profile count alike, so that the counts of a step are encoded once; what differs (device, boot)
stands before them: protobuf merges messages that are joined end to end.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from shared.codec import encode_presence, encode_telemetry
from shared.histogram import BOUNDS_MS
from shared.pb import fleet_pb2
from shared.types import (
    AuditCounts,
    GateReport,
    LabelCounts,
    LatencyHistogram,
    ModelIdentity,
    ModelTelemetry,
    Presence,
    RequestCounters,
    StepCounts,
)

PROFILES = 50
MODEL = ModelIdentity("intents", "1", "a" * 64)
BOOT = "boot-1"
_EDGE_BUCKETS, _CLOUD_BUCKETS, _DEGRADED_BUCKETS = range(6, 22), range(20, 28), range(24, 28)
_AUDITS_A_DISAGREEMENT = 50
_LABELS, _SCORE_BINS = ("balance", "lost_card", "refund"), 12
_NOBODY = "d"


@dataclass(frozen=True)
class Profile:
    """How much every count of a device grows from step to step."""

    edge: int
    cloud: int
    degraded: int

    @classmethod
    def of(cls, device: int) -> Profile:
        """The profile of one device."""
        number = device % PROFILES
        return cls(len(_EDGE_BUCKETS) * (1 + number % 5), len(_CLOUD_BUCKETS) * (1 + number % 3), 4 + 4 * (number % 2))

    def counters(self, steps: int) -> RequestCounters:
        """The counters after so many steps."""
        accepted, wanted = self.edge + self.cloud + self.degraded, self.cloud + self.degraded
        each = RequestCounters(
            received=accepted + 1,
            rejected=1,
            accepted=accepted,
            edge=self.edge,
            cloud=self.cloud,
            degraded=self.degraded,
            wanted=wanted,
            attempted=wanted,
            served=self.cloud,
            call_failed=self.degraded,
        )
        return RequestCounters(**{item.name: getattr(each, item.name) * steps for item in fields(each)})

    def telemetry(self, device_id: str, steps: int) -> ModelTelemetry:
        """All that a device of this profile tells after so many steps; more than 60 counts in it are not zero."""
        counters = self.counters(steps)
        audits = self.edge // 8 * steps
        disagreed = audits // _AUDITS_A_DISAGREEMENT
        return ModelTelemetry(
            device_id=device_id,
            boot_id=BOOT,
            sequence=steps,
            sent_at_unix_ms=0,
            uptime_ms=10_000 * steps,
            model=MODEL,
            variant="",
            counters=counters,
            latency_by_outcome={
                "edge": _spread(_EDGE_BUCKETS, counters.edge),
                "cloud": _spread(_CLOUD_BUCKETS, counters.cloud),
                "degraded": _spread(_DEGRADED_BUCKETS, counters.degraded),
            },
            reasons={
                "confident": counters.edge,
                "uncertain": counters.cloud,
                "cloud_unavailable": counters.degraded,
                "overloaded": counters.rejected,
            },
            gate=GateReport("max_probability", 0.82, "d" * 64, {"kept-disagreement": 0.05}),
            cloud_link="closed",
            audits=AuditCounts(chosen=audits, agreed=audits - disagreed, disagreed=disagreed),
            audit_steps=(StepCounts(0.9, audits // 2, 0), StepCounts(0.82, audits, disagreed)),
            labels=_labels(counters, audits, disagreed),
            score_counts=_shares(counters.accepted, _SCORE_BINS),
        )


class Vocabulary:
    """Payloads; what a step says is made once for each profile and kept until the next step's is asked for."""

    def __init__(self) -> None:
        self._said: dict[Profile, tuple[int, bytes]] = {}

    def telemetry(self, device: int, device_id: str, steps: int) -> bytes:
        """The payload of a device after so many steps."""
        profile = Profile.of(device)
        known_steps, counts = self._said.get(profile, (0, b""))
        if known_steps != steps:
            counts = encode_telemetry(profile.telemetry(_NOBODY, steps))
            self._said[profile] = steps, counts
        return counts + fleet_pb2.DeviceModelTelemetry(device_id=device_id).SerializeToString()


def presence(device_id: str, *, online: bool) -> bytes:
    """The payload that says whether a device is there."""
    return encode_presence(Presence(device_id, BOOT, online, 0, "0.1.0"))


def non_zero_counts(telemetry: ModelTelemetry) -> int:
    """How many counts of a message are not zero."""
    values = [getattr(telemetry.counters, item.name) for item in fields(telemetry.counters)]
    values += [count for histogram in telemetry.latency_by_outcome.values() for count in histogram.counts]
    values += [*telemetry.reasons.values(), *telemetry.score_counts]
    values += [getattr(telemetry.audits, item.name) for item in fields(telemetry.audits)]
    values += [value for step in telemetry.audit_steps for value in (step.judged, step.wrong)]
    values += [getattr(each, item.name) for each in telemetry.labels.values() for item in fields(each)]
    return sum(value > 0 for value in values)


def _spread(buckets: range, total: int) -> LatencyHistogram:
    counts = [0] * (len(BOUNDS_MS) + 1)
    for bucket in buckets:
        counts[bucket] = total // len(buckets)
    return LatencyHistogram(tuple(counts), sum(BOUNDS_MS[bucket] * counts[bucket] for bucket in buckets))


def _shares(total: int, places: int) -> tuple[int, ...]:
    """`total` dealt out one by one, so that no share ever shrinks when the total grows."""
    share, rest = divmod(total, places)
    return tuple(share + (place < rest) for place in range(places))


def _labels(counters: RequestCounters, audits: int, disagreed: int) -> dict[str, LabelCounts]:
    totals = (counters.accepted, counters.wanted, audits, disagreed)
    shares = zip(*(_shares(total, len(_LABELS)) for total in totals), strict=True)
    return {label: LabelCounts(*share) for label, share in zip(_LABELS, shares, strict=True)}
