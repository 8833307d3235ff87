"""What is to happen in a rollout, fixed at its start. Pure.

Everything that an operator may choose stands here; how far it has come stands in `records.Rollout`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from shared.documents import Document, DocumentError, canonical_json, read_document
from shared.errors import InputError, RolloutError
from shared.types import checked_identifier
from shared.update.assignment import Trial
from shared.update.labels import LabelCondition, Labels, checked_condition, is_met, is_within
from shared.update.report import ErrorKind

_MINUTES_A_DAY = 24 * 60
_DAY_S = 86_400
_FIRST_WEEKDAY = 3
"""1970-01-01 was a Thursday; days count from Monday, 0."""


class OnFailure(str, Enum):
    """What a broken rollout does by itself."""

    ROLL_BACK_ALL = "roll_back_all"
    ROLL_BACK_RING = "roll_back_ring"
    PAUSE = "pause"


@dataclass(frozen=True)
class Release(Document):
    """A published release with the gate that goes with it; see `shared.update.assignment.Arm`."""

    version: str
    manifest_sha256: str
    gate_digest: str
    release: int


@dataclass(frozen=True)
class Fallback(Document):
    """What a ring goes back to."""

    ring: str
    release: Release


@dataclass(frozen=True)
class Stage(Document):
    """One step: the devices of `ring` whose labels meet `labels` and whose hash lies below `share`.

    It comes on top of the stages before it: what these have reached keeps the release. `shadow_share` above 0: the
    release only answers this share of requests beside the active one, for nobody to see. `key_share` above 0, in an A/B
    test alone: it answers this share of each device's requests, by the hash of their keys, the active one the others.
    """

    ring: str
    share: float = 1.0
    shadow_share: float = 0.0
    labels: LabelCondition = field(default_factory=dict)
    key_share: float = 0.0

    @property
    def is_shadow(self) -> bool:
        """Whether the release becomes active on no device."""
        return self.shadow_share > 0

    @property
    def is_whole(self) -> bool:
        """Whether it is for every device of its ring."""
        return self.share >= 1.0 and not self.labels

    def reaches(self, place: float, labels: Labels) -> bool:
        """Whether it is for a device of its ring with this hash and these labels."""
        return place < self.share and is_met(self.labels, labels)

    def covers(self, other: Stage) -> bool:
        """Whether it is for every device that `other`, of the same ring, is for."""
        return other.share <= self.share and is_within(other.labels, self.labels)


@dataclass(frozen=True)
class Window(Document):
    """When stages may be opened: on `days` (0 is Monday; none is every day), in minutes since midnight UTC.

    One that ends before it begins reaches into the next day.
    """

    from_minute: int
    until_minute: int
    days: tuple[int, ...] = ()

    def holds(self, now_s: int) -> bool:
        """Whether the moment `now_s` (seconds since 1970-01-01 UTC) lies in it."""
        day, minute = now_s // _DAY_S, now_s % _DAY_S // 60
        if self.from_minute < self.until_minute:
            return self._is_on(day) and self.from_minute <= minute < self.until_minute
        return (self._is_on(day) and minute >= self.from_minute) or (
            self._is_on(day - 1) and minute < self.until_minute
        )

    def _is_on(self, day: int) -> bool:
        return not self.days or (day + _FIRST_WEEKDAY) % 7 in self.days


@dataclass(frozen=True)
class Thresholds(Document):
    """When a stage has done well, and when the bundle is broken. Shares are of devices whose update has ended.

    A stage does well from `min_devices` committed on, if these are `success_share` of those that ended. The bundle is
    broken when more than `failure_share` failed and there are `min_failures` of them, or no device of the stage is
    left; so no single device stops a rollout, and none that is off holds it up. `failure_kinds`: what is held against
    the bundle; a device without room or connection says nothing of it. Where other devices of the stage are silent, it
    is broken too when `settle_s` after the opening all that took it up have failed.
    """

    min_devices: int = 1
    success_share: float = 0.9
    failure_share: float = 0.1
    min_failures: int = 3
    settle_s: int = 30
    failure_kinds: tuple[ErrorKind, ...] = (ErrorKind.PROVING, ErrorKind.TRIAL, ErrorKind.REFUSED)


@dataclass(frozen=True)
class FieldGates(Document):
    """What the field may show at most. Latency is a ratio of medians, new to old; the others are shares.

    Latency and offload are judged from `min_requests` answered requests of both sides on. Disagreement is told by
    audits, and too much when its lower bound, which holds at all times with probability 1 - `level`, lies above.
    """

    max_latency_ratio: float = 1.5
    max_offload_rise: float = 0.15
    max_disagreement: float = 0.25
    max_crash_share: float = 0.05
    min_requests: int = 200
    level: float = 0.05


@dataclass(frozen=True)
class Comparison(Document):
    """An A/B test: in the first stage the release and what the ring runs answer side by side.

    Each on its devices, by the stage's `share`; or both on every device, each its share of the requests (`key_share`).

    The stage passes when the release is shown to disagree with the full model by at most `margin` more than the other,
    and is taken back when it is shown to disagree more; either is wrong with probability at most `delta`, however
    often it is looked at. `decides`: the verdict is carried out at once; else it pauses and says what it is.
    """

    margin: float = 0.02
    delta: float = 0.05
    decides: bool = False


@dataclass(frozen=True)
class Plan(Document):
    """One rollout's plan. Stages are opened in their order, each after the one before did well for `soak_s`."""

    model: str
    release: Release
    stages: tuple[Stage, ...]
    fallbacks: tuple[Fallback, ...] = ()
    soak_s: int = 600
    thresholds: Thresholds = Thresholds()
    gates: FieldGates = FieldGates()
    trial: Trial = field(default_factory=Trial)
    hardware: tuple[str, ...] = ()
    not_before_s: int = 0
    windows: tuple[Window, ...] = ()
    needs_approval: bool = False
    on_failure: OnFailure = OnFailure.ROLL_BACK_ALL
    comparison: Comparison | None = None

    @property
    def rings(self) -> tuple[str, ...]:
        """Each ring once, in the order in which they are reached."""
        return tuple(dict.fromkeys(stage.ring for stage in self.stages))

    @property
    def splits_requests(self) -> bool:
        """Whether it is an A/B test of each device's requests, by their key, and not of a ring's devices."""
        return self.stages[0].key_share > 0

    def fallback(self, ring: str) -> Release | None:
        """What the ring goes back to; None where nothing is known that it ran before."""
        return next((each.release for each in self.fallbacks if each.ring == ring), None)

    def may_open(self, now_s: int) -> bool:
        """Whether a stage may be opened at this moment."""
        return now_s >= self.not_before_s and (not self.windows or any(each.holds(now_s) for each in self.windows))


def encode_plan(plan: Plan) -> str:
    """The plan as the store keeps it."""
    return canonical_json(plan).decode()


def parse_plan(text: str) -> Plan:
    """Read what `encode_plan` wrote.

    Raises:
        RolloutError: a newer Tandem wrote it.
    """
    try:
        return read_document(Plan, text.encode())
    except DocumentError as error:
        raise RolloutError(f"the plan cannot be read: {error}") from error


def checked_plan(plan: Plan) -> Plan:
    """`plan`, if it can be followed.

    Raises:
        RolloutError: a name, share, order or threshold is not as it must be; the text says which.
    """
    try:
        checked_identifier("model", plan.model)
        checked_identifier("version", plan.release.version)
        for ring in plan.rings:
            checked_identifier("ring", ring)
        for stage in plan.stages:
            checked_condition(stage.labels)
    except InputError as error:
        raise RolloutError(str(error)) from error
    for problem in (*_stage_problems(plan), *_figure_problems(plan), *_comparison_problems(plan)):
        raise RolloutError(problem)
    return plan


def _stage_problems(plan: Plan) -> list[str]:
    if not plan.stages:
        return ["a rollout has at least one stage"]
    problems = []
    for place, stage in enumerate(plan.stages):
        if not 0.0 < stage.share <= 1.0:
            problems.append(f"ring {stage.ring}: its share {stage.share:g} does not lie in (0, 1]")
        if not 0.0 <= stage.shadow_share <= 1.0:
            problems.append(f"ring {stage.ring}: its shadow share {stage.shadow_share:g} does not lie in [0, 1]")
        if stage.key_share and (plan.comparison is None or place):
            problems.append(f"ring {stage.ring}: only the first stage of an A/B test splits requests by their key")
        if any(_goes_back(earlier, stage) for earlier in plan.stages[:place]):
            problems.append(f"ring {stage.ring}: a later stage reaches fewer devices than an earlier one")
    if plan.stages[-1].is_shadow:
        problems.append("the last stage is a shadow: nothing would ever be updated")
    return problems


def _goes_back(earlier: Stage, later: Stage) -> bool:
    if earlier.ring != later.ring or earlier.is_shadow > later.is_shadow:
        return False
    return later.is_shadow > earlier.is_shadow or (earlier.covers(later) and not later.covers(earlier))


def _comparison_problems(plan: Plan) -> list[str]:
    comparison = plan.comparison
    if comparison is None:
        return []
    problems = []
    first, *rest = plan.stages
    is_split = first.share == 1.0 and 0.0 < first.key_share < 1.0 if first.key_share else first.share < 1.0
    if not is_split or first.shadow_share or rest != [Stage(first.ring)] or plan.fallback(first.ring) is None:
        problems.append("an A/B test has one ring, a share below 1 for one release, and another release beside")
    if first.labels:
        problems.append("an A/B test is between devices of all labels: what is asked elsewhere may be harder")
    if not 0.0 <= comparison.margin < 1.0 or not 0.0 < comparison.delta < 1.0:
        problems.append("an A/B test's margin lies in [0, 1), its delta in (0, 1)")
    return problems


def _figure_problems(plan: Plan) -> list[str]:
    told, problems = plan.thresholds, []
    if told.settle_s < 0:
        problems.append("settle_s is not negative")
    if told.min_devices < 1 or told.min_failures < 1:
        problems.append("at least one device must have committed, and at least one failed, before anything is judged")
    gates = plan.gates
    shares = {
        "success_share": told.success_share,
        "failure_share": told.failure_share,
        "max_crash_share": gates.max_crash_share,
        "max_disagreement": gates.max_disagreement,
    }
    problems += [f"{name} {value:g} does not lie in [0, 1]" for name, value in shares.items() if not 0 <= value <= 1]
    if not 0.0 < gates.level < 1.0 or gates.max_latency_ratio <= 0 or gates.min_requests < 1:
        problems.append("a gate's level lies in (0, 1), a latency ratio above 0, and requests are at least 1")
    if plan.soak_s < 0 or plan.not_before_s < 0:
        problems.append("times are not negative")
    if not all(
        0 <= each.from_minute < _MINUTES_A_DAY and 0 <= each.until_minute <= _MINUTES_A_DAY for each in plan.windows
    ):
        problems.append("a window's times lie between 00:00 and 24:00")
    if any(each.from_minute == each.until_minute or not set(each.days) <= set(range(7)) for each in plan.windows):
        problems.append("a window ends at another time than it begins, and its days are 0 (Monday) to 6")
    return problems
