"""The words that both tiers share, as types."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import Enum

from shared.errors import InputError

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEFAULT_RING = "default"
OTHER_LABELS = "(other labels)"
"""Under this name a device counts the labels together that find no room of their own in its messages."""
MAX_LABEL_CHARACTERS = 256


def checked_identifier(kind: str, value: str) -> str:
    """Return `value` when it may name a device, model or variant (it becomes a part of MQTT topics).

    Raises:
        InputError: `value` is empty, longer than 64 characters or holds other characters than
            letters, digits, '.', '_' and '-'.
    """
    if not IDENTIFIER.fullmatch(value):
        raise InputError(
            f"{kind} {value!r} is not a name: use 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return value


def checked_label(value: str) -> str:
    """Return `value` when it may be a model's label: text of any script, which fits a line.

    Raises:
        InputError: `value` is empty, longer than `MAX_LABEL_CHARACTERS` or holds a control character.
    """
    fits_a_line = value.isprintable() or not any(unicodedata.category(each) in ("Cc", "Cs") for each in value)
    if not fits_a_line or not 1 <= len(value) <= MAX_LABEL_CHARACTERS:
        raise InputError(
            f"label {value[:80]!r} is not 1 to {MAX_LABEL_CHARACTERS} characters, none a control character"
        )
    return value


class RequestedRoute(str, Enum):
    """What the caller asked for."""

    AUTO = "auto"
    EDGE = "edge"
    CLOUD = "cloud"


class Outcome(str, Enum):
    """How one request ended."""

    EDGE = "edge"
    CLOUD = "cloud"
    DEGRADED = "degraded"
    FAILED = "failed"
    REJECTED = "rejected"


class Reason(str, Enum):
    """Why a request ended as it did."""

    CONFIDENT = "confident"
    BUDGET = "budget"
    UNCERTAIN = "uncertain"
    UNCERTIFIED = "uncertified"
    REQUESTED = "requested"
    CIRCUIT_OPEN = "circuit_open"
    NO_CLOUD = "no_cloud"
    CLOUD_UNAVAILABLE = "cloud_unavailable"
    CLOUD_TIMED_OUT = "cloud_timed_out"
    CLOUD_OVERLOADED = "cloud_overloaded"
    CLOUD_REFUSED = "cloud_refused"
    DEADLINE = "deadline"
    ENGINE_FAILED = "engine_failed"
    CANCELLED = "cancelled"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    BAD_INPUT = "bad_input"


class Priority(int, Enum):
    """The order in which the cloud's batcher serves; smaller first."""

    INTERACTIVE = 1
    AUDIT = 2
    REPLAY = 3


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label with its probability in [0, 1] after temperature scaling."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answered. `digest` is the bundle's model digest (64 hexadecimal digits)."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class CloudTimings:
    """Where the time of one escalated request went in the cloud, in milliseconds.

    `compute_ms` is this request's share of its batch (batch time / batch size);
    `batch_ms` is the whole batch's time.
    """

    queue_ms: float
    compute_ms: float
    batch_ms: float
    batch_size: int


@dataclass(frozen=True)
class EscalationRequest:
    """One text on its way from a device to the cloud.

    The deadline travels as gRPC's own; the device's identity as its credential.
    `edge_label` and `edge_score` are the device's own answer ("" and 0.0 where it has none), `gate_score` is what its
    gate (SHA-256 `gate_digest`) looked at, and `kept` what that gate said.
    """

    request_id: str
    model: str
    text: str
    top_k: int = 5
    priority: Priority = Priority.INTERACTIVE
    edge_model_version: str = ""
    edge_label: str = ""
    edge_score: float = 0.0
    reason: Reason = Reason.UNCERTAIN
    gate_score: float = 0.0
    gate_digest: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class EscalationAnswer:
    """The full model's answer. `replayed` says that it was computed for an earlier copy of the request."""

    request_id: str
    model: ModelIdentity
    top: tuple[LabelScore, ...]
    timings: CloudTimings
    replayed: bool = False


@dataclass(frozen=True)
class RequestCounters:
    """One model's cumulative counts on one device since its agent started.

    received = accepted + rejected; accepted = edge + cloud + degraded + failed + in_flight.
    `wanted` counts the accepted requests that the gate wanted to escalate, whatever became of them;
    attempted = served + call_failed + timed_out + calls_in_flight counts calls to the cloud, audits apart.
    """

    received: int = 0
    rejected: int = 0
    accepted: int = 0
    edge: int = 0
    cloud: int = 0
    degraded: int = 0
    failed: int = 0
    in_flight: int = 0
    wanted: int = 0
    attempted: int = 0
    served: int = 0
    call_failed: int = 0
    timed_out: int = 0
    calls_in_flight: int = 0


@dataclass(frozen=True, slots=True)
class TrueLabel:
    """A true label that came back for an earlier answer of a device, with that answer (see `EscalationRequest`)."""

    request_id: str
    model: str
    label: str
    edge_label: str
    edge_score: float
    edge_model_version: str
    gate_score: float
    gate_digest: str
    kept: bool
    answered_at_unix_ms: int


@dataclass(frozen=True)
class AuditCounts:
    """Cumulative counts of audits: chosen = agreed + disagreed + failed + in_flight."""

    chosen: int = 0
    agreed: int = 0
    disagreed: int = 0
    failed: int = 0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Of the kept answers that score at or above `threshold`: how many were judged, and how many of these wrong."""

    threshold: float
    judged: int
    wrong: int


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Cumulative counts of the requests that a device answered with one label.

    `labelled` counts kept answers whose true label came back, `wrong` those of them that were wrong.
    """

    accepted: int = 0
    wanted: int = 0
    audited: int = 0
    disagreed: int = 0
    labelled: int = 0
    wrong: int = 0


@dataclass(frozen=True)
class GateReport:
    """What a device's gate obeys. `in_force` from risk to alpha; `policy_id` "" for the bundle's own.

    `refused_policy_id` names the newest policy that was refused, `refusal` says why.
    """

    score: str = ""
    threshold: float | None = None
    digest: str = ""
    in_force: dict[str, float] = field(default_factory=dict)
    policy_id: str = ""
    refused_policy_id: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class GatePolicy:
    """Which of a gate's certified thresholds holds in a ring; see fleet.proto. `in_force` from risk to alpha."""

    policy_id: str
    sequence: int
    model: str
    gate_digest: str
    in_force: dict[str, float] = field(default_factory=dict)
    escalate_all: bool = False
    least_threshold: float | None = None
    audit_share: float | None = None
    offload_cap: float | None = None
    budget_in_force: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    issued_by: str = ""
    issued_at_unix_ms: int = 0
    traceparent: str = ""


@dataclass(frozen=True)
class LatencyHistogram:
    """Cumulative counts per bucket of `shared.histogram.BOUNDS_MS`, and the sum of all values in ms."""

    counts: tuple[int, ...]
    sum_ms: float


@dataclass(frozen=True)
class ModelTelemetry:
    """What a device tells of one model: cumulative, so that a lost or doubled message changes nothing."""

    device_id: str
    boot_id: str
    sequence: int
    sent_at_unix_ms: int
    uptime_ms: int
    model: ModelIdentity
    variant: str
    counters: RequestCounters
    latency_by_outcome: dict[str, LatencyHistogram] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    gate: GateReport = field(default_factory=GateReport)
    cloud_link: str = ""
    ring: str = DEFAULT_RING
    audits: AuditCounts = field(default_factory=AuditCounts)
    audit_steps: tuple[StepCounts, ...] = ()
    label_steps: tuple[StepCounts, ...] = ()
    labels: dict[str, LabelCounts] = field(default_factory=dict)
    score_counts: tuple[int, ...] = ()
    traceparent: str = ""


@dataclass(frozen=True)
class Presence:
    """Whether a device is connected. The broker publishes the last will for it when it is gone."""

    device_id: str
    boot_id: str
    online: bool
    sent_at_unix_ms: int
    agent_version: str
    ring: str = DEFAULT_RING
