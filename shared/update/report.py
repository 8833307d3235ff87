"""What a device says of its updates, and the director's hint."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from shared.update.labels import Labels


class Phase(str, Enum):
    """How far an update has come on a device. `split`: both bundles answer, each its share of the requests."""

    IDLE = "idle"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGED = "staged"
    LOADING = "loading"
    PROVING = "proving"
    SHADOW = "shadow"
    SPLIT = "split"
    TRIAL = "trial"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


class ErrorKind(str, Enum):
    """Why an update failed; see the errors of the same names."""

    NONE = ""
    REFUSED = "refused"
    FETCH = "fetch"
    NO_ROOM = "no_room"
    PROVING = "proving"
    TRIAL = "trial"


@dataclass(frozen=True)
class InstalledRelease:
    """One release with its gate, as it lies on a device. `release` is 0 for a bundle that came with the device."""

    version: str
    model_digest: str
    gate_digest: str = ""
    release: int = 0
    variant: str = ""


@dataclass(frozen=True)
class TrialFigures:
    """The new bundle beside the old one. Latencies are medians in ms; offloads are shares of accepted requests.

    `failed` of the new one's `requests` failed, and the share `old_failed` of the old one's.
    `compared` answers were held against the full model's (in the shadow: the active model's), `agreed` of them agreed.
    """

    requests: int = 0
    failed: int = 0
    latency_ms: float = 0.0
    old_latency_ms: float = 0.0
    offload: float = 0.0
    old_offload: float = 0.0
    compared: int = 0
    agreed: int = 0
    old_failed: float = 0.0


@dataclass(frozen=True)
class UpdateReport:
    """One device's word on one model. `slot`: the active one, "a", "b", or "factory" for the configuration's bundle.

    `assignment_sequence`, `rollout`: of the assignment last obeyed or refused. `bytes_fetched` is what really
    travelled for this update. `crashes`: starts that did not become ready since the active bundle was installed.
    `labels`: the device's, by its configuration.
    """

    device_id: str
    boot_id: str
    sequence: int
    sent_at_unix_ms: int
    model: str
    ring: str
    hardware: str
    agent_version: str
    phase: Phase
    slot: str
    active: InstalledRelease
    candidate: InstalledRelease | None = None
    rollout: str = ""
    assignment_sequence: int = 0
    bytes_done: int = 0
    bytes_to_fetch: int = 0
    bytes_fetched: int = 0
    error: str = ""
    error_kind: ErrorKind = ErrorKind.NONE
    attempts: int = 0
    trial: TrialFigures = TrialFigures()
    crashes: int = 0
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateHint:
    """There is something new to look up; what a device runs is decided by signed metadata alone."""

    model: str
    rollout: str
    sequence: int
    sent_at_unix_ms: int
