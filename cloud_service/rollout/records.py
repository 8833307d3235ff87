"""How far a rollout has come. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from cloud_service.rollout.plan import Plan
from shared.update.report import ErrorKind


class RolloutState(str, Enum):
    """Where a rollout stands. `failed`: broken, in a ring that has nothing to go back to."""

    PENDING_APPROVAL = "pending_approval"
    RUNNING = "running"
    SOAKING = "soaking"
    PAUSED = "paused"
    DONE = "done"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"

    @property
    def is_active(self) -> bool:
        """Whether it has not ended: no other one may begin in its rings."""
        return self in _ACTIVE


_ACTIVE = (RolloutState.PENDING_APPROVAL, RolloutState.RUNNING, RolloutState.SOAKING, RolloutState.PAUSED)


class StageState(str, Enum):
    """Where one stage stands."""

    WAITING = "waiting"
    OPEN = "open"
    SOAKING = "soaking"
    PASSED = "passed"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"

    @property
    def is_reached(self) -> bool:
        """Whether its devices were told to run the release, and nothing else since."""
        return self in (StageState.OPEN, StageState.SOAKING, StageState.PASSED, StageState.STOPPED)


@dataclass(frozen=True)
class StageFigures:
    """Devices of a stage. `eligible`: known ones of its ring, share and labels; the others are a part of these.

    `committed`: they run the release (where it only answers beside: it has answered enough requests); `failed`: held
    against the bundle; `hindered`: no room or no connection; `under_way`: obeying it now; `crashed`: the agent did not
    get ready. `compared` answers were held against another model's on the devices themselves, `disagreed` of them
    differed.
    """

    eligible: int = 0
    committed: int = 0
    failed: int = 0
    hindered: int = 0
    under_way: int = 0
    crashed: int = 0
    compared: int = 0
    disagreed: int = 0

    @property
    def ended(self) -> int:
        """Devices that say something of the bundle."""
        return self.committed + self.failed


@dataclass(frozen=True)
class StageProgress:
    """One stage. `enough_since_s`: since when it has done well without a break, 0 where it does not.

    `note`: what it waits for, or why it ended, in plain words. `forgiven`: failed devices that an operator accepted.
    Times in seconds since 1970-01-01 UTC.
    """

    state: StageState = StageState.WAITING
    opened_s: int = 0
    enough_since_s: int = 0
    figures: StageFigures = StageFigures()
    note: str = ""
    forgiven: int = 0


@dataclass(frozen=True)
class Rollout:
    """One rollout. `stages` are in the plan's order; `reason` is why it is in its state, in plain words."""

    id: str
    plan: Plan
    state: RolloutState
    stages: tuple[StageProgress, ...]
    created_s: int
    created_by: str
    approved_by: str = ""
    reason: str = ""
    updated_s: int = 0

    @property
    def current(self) -> int | None:
        """The place of the stage that was opened last; None before the first one."""
        reached = [place for place, stage in enumerate(self.stages) if stage.state.is_reached]
        return reached[-1] if reached else None


@dataclass(frozen=True)
class DeviceFailure:
    """Why a device could not take a rollout's release, by its last word. `error` is plain words, the device's own."""

    device_id: str
    ring: str
    kind: ErrorKind
    error: str
    heard_s: int


@dataclass(frozen=True)
class FieldSide:
    """What telemetry counted of one side. `latency_ms`: median; None where nothing was answered."""

    requests: int = 0
    wanted: int = 0
    latency_ms: float | None = None
    audited: int = 0
    disagreed: int = 0


@dataclass(frozen=True)
class FieldFigures:
    """The release in a ring, and what ran there before, in the same ring."""

    new: FieldSide = FieldSide()
    old: FieldSide = FieldSide()


@dataclass(frozen=True)
class Seen:
    """What is judged: `figures` of each stage by its place, and `field` by ring.

    `heard_for_s`: for how long reports have come in without a break; `has_jumped`: the clock was set since the last
    look, or nobody looked while the machine slept.
    """

    figures: tuple[StageFigures, ...]
    field: Mapping[str, FieldFigures] = field(default_factory=dict)
    heard_for_s: float = math.inf
    has_jumped: bool = False


@dataclass(frozen=True)
class RolloutCounts:
    """Of this moment: rollouts by model and state, devices by model and phase, orders that are not signed."""

    rollouts: Mapping[tuple[str, RolloutState], int]
    devices: Mapping[tuple[str, str], int]
    unsigned_orders: int


class DecisionKind(str, Enum):
    """What a rollout decides."""

    START = "start"
    APPROVE = "approve"
    OPEN = "open"
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"
    ROLL_BACK = "roll_back"
    WITHDRAW = "withdraw"
    FINISH = "finish"


TELLS_A_RING = (DecisionKind.OPEN, DecisionKind.ROLL_BACK, DecisionKind.WITHDRAW)
"""Decisions after which a ring's assignment is another one."""


@dataclass(frozen=True)
class Decision:
    """One decision; `ring` is empty where it concerns the whole rollout. `reason` is for people."""

    kind: DecisionKind
    reason: str
    ring: str = ""


@dataclass(frozen=True)
class Step:
    """A rollout after its next step, and what was decided on the way."""

    rollout: Rollout
    decisions: tuple[Decision, ...] = ()
