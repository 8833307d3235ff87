"""What is known of a gate in the field: its watches, alarms and orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from shared.gate import Gate
from shared.types import GatePolicy, StepCounts


class WatchKind(str, Enum):
    """What a watch holds against the gate's promise."""

    DISAGREEMENT = "disagreement"
    ERROR = "error"
    DRIFT = "drift"


class AlarmKind(str, Enum):
    """What an alarm is about: a risk over its alpha, scores unlike those of calibration, or one label."""

    DISAGREEMENT = "disagreement"
    ERROR = "error"
    DRIFT = "drift"
    LABEL = "label"


class WatchState(str, Enum):
    """What the gate is worth now: as certified, made stricter, escalating all, or with no promise to watch."""

    CERTIFIED = "certified"
    TIGHTENED = "tightened"
    UNCERTIFIED = "uncertified"
    UNWATCHED = "unwatched"


@dataclass(frozen=True)
class GateKey:
    """One gate (SHA-256 `gate_digest`) of one model version in one ring."""

    model: str
    model_version: str
    gate_digest: str
    ring: str


@dataclass(frozen=True)
class WatchKey:
    """One watch over a gate."""

    gate: GateKey
    kind: WatchKind


@dataclass(frozen=True)
class KnownGate:
    """A gate whose document the cloud has. `labels`: of its model, in the order of the logits."""

    digest: str
    model: str
    model_version: str
    gate: Gate
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepFigures:
    """Of the kept answers at or above `threshold`: judged, wrong, and the time-uniform bounds on their risk."""

    threshold: float
    judged: int
    wrong: int
    lower: float
    upper: float


@dataclass(frozen=True)
class LabelFigures:
    """The same for one label. `alpha`: its own where it is critical, else the gate's (None: nothing is promised)."""

    judged: int
    wrong: int
    lower: float
    upper: float
    alpha: float | None
    alarmed: bool = False


@dataclass(frozen=True)
class WatchDetail:
    """What a watch goes on from.

    `policy_id`: the order under which it counts; `window`: counts by step since the sum was last zero; `scores`:
    requests by bin; `alarmed`: it has raised its alarm.
    """

    policy_id: str = ""
    window: tuple[StepCounts, ...] = ()
    scores: tuple[int, ...] = ()
    alarmed: bool = False


@dataclass(frozen=True)
class GateWatch:
    """One watch since `since_s` (seconds since 1970-01-01 UTC), when the gate in force began.

    `threshold`: from which score on answers are kept (None: all is escalated). `judged` and `wrong` are of the step in
    force, `lower` and `upper` bound its risk at any time together with probability 1 - delta. `cusum` raises the
    alarm at `cusum_limit`. For drift, `judged` are requests, `cusum` is the evidence's logarithm, and the bounds are of
    the share of requests that lies in another bin than in calibration (estimate, both alike).
    """

    key: WatchKey
    state: WatchState
    alpha: float | None
    threshold: float | None
    judged: int = 0
    wrong: int = 0
    lower: float = 0.0
    upper: float = 1.0
    cusum: float = 0.0
    cusum_limit: float = 0.0
    steps: tuple[StepFigures, ...] = ()
    labels: Mapping[str, LabelFigures] = field(default_factory=dict)
    detail: WatchDetail = WatchDetail()
    since_s: int = 0
    updated_s: int = 0


@dataclass(frozen=True)
class GateAlarm:
    """One alarm. `evidence`: the figures it was raised by. Times in seconds since 1970-01-01 UTC."""

    id: str
    gate: GateKey
    kind: AlarmKind
    raised_s: int
    text: str
    label: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)
    acknowledged_by: str | None = None
    acknowledged_s: int | None = None


@dataclass(frozen=True)
class IssuedPolicy:
    """One order and its ring; `published_s` is None until the broker took it."""

    policy: GatePolicy
    ring: str
    issued_s: int
    published_s: int | None = None


@dataclass(frozen=True)
class WatchRecords:
    """All that the store holds of gates. `policies`: of each ring, model and gate the newest."""

    gates: tuple[KnownGate, ...] = ()
    watches: tuple[GateWatch, ...] = ()
    policies: tuple[IssuedPolicy, ...] = ()
