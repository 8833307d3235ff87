"""From one rollout, and what the store says of it, to what its page shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloud_service.dashboard.rollout_arms_view import ArmsView, arms_view
from cloud_service.dashboard.rollout_bounds_view import BoundRow, bound_rows
from cloud_service.dashboard.rollout_order_view import OrderButton, order_buttons, state_words
from cloud_service.rollout.durations import duration_words
from cloud_service.rollout.plan import OnFailure, Plan, Window
from cloud_service.rollout.records import (
    DeviceFailure,
    FieldFigures,
    Rollout,
    RolloutState,
    StageFigures,
    StageState,
)
from cloud_service.rollout.ring_order import RingOrder
from cloud_service.rollout.words import stage_words
from shared.update.report import ErrorKind

FAILURES_A_PAGE = 25
KIND_WORDS = {
    ErrorKind.NONE: "no reason told",
    ErrorKind.REFUSED: "refused it",
    ErrorKind.FETCH: "could not fetch it",
    ErrorKind.NO_ROOM: "no room for it",
    ErrorKind.PROVING: "failed the proving",
    ErrorKind.TRIAL: "failed the trial",
}
_ON_FAILURE = {
    OnFailure.ROLL_BACK_ALL: "all rings that it reached go back",
    OnFailure.ROLL_BACK_RING: "the ring where it broke goes back",
    OnFailure.PAUSE: "it pauses and waits for a person",
}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Segment:
    """A part of a bar: `left` and `width` in percent of it."""

    name: str
    words: str
    devices: int
    left: float
    width: float


@dataclass(frozen=True)
class RolloutReading:
    """What the page needs of the store. `fields`: by ring, what telemetry counted while the rollout is under way."""

    rollout: Rollout
    fields: Mapping[str, FieldFigures] = field(default_factory=dict)
    unsigned: tuple[RingOrder, ...] = ()
    failures: tuple[DeviceFailure, ...] = ()
    failure_counts: Mapping[str, Mapping[ErrorKind, int]] = field(default_factory=dict)
    failures_page: int = 1


@dataclass(frozen=True)
class StageView:
    """`soak_left_s`: None where nothing is watched now; `unsigned_s`: since when its order waits, or None.

    `is_current`: the rollout stands at it; `is_newest`: no other stage was opened after it.
    """

    number: int
    title: str
    state: StageState
    state_words: str
    opened_s: int
    note: str
    figures: StageFigures
    segments: tuple[Segment, ...]
    soak_left_s: int | None
    unsigned_s: int | None
    is_current: bool
    is_newest: bool
    bounds: tuple[BoundRow, ...]


@dataclass(frozen=True)
class FailuresView:
    """The devices that could not take it, a page of them. `before`, `after`: page numbers, None where there is none."""

    rows: tuple[DeviceFailure, ...]
    total: int
    counts: tuple[tuple[str, ErrorKind, int], ...]
    page: int
    pages: int

    @property
    def before(self) -> int | None:
        """See the class."""
        return self.page - 1 if self.page > 1 else None

    @property
    def after(self) -> int | None:
        """See the class."""
        return self.page + 1 if self.page < self.pages else None


@dataclass(frozen=True)
class RolloutView:
    """All that the page shows. `facts`: what its plan says, as pairs of a name and words."""

    rollout: Rollout
    state_words: str
    buttons: tuple[OrderButton, ...]
    facts: tuple[tuple[str, str], ...]
    stages: tuple[StageView, ...]
    arms: ArmsView | None
    failures: FailuresView
    now_s: int


def rollout_view(reading: RolloutReading, now_s: int) -> RolloutView:
    """One rollout at `now_s` (seconds since 1970-01-01 UTC)."""
    rollout = reading.rollout
    return RolloutView(
        rollout=rollout,
        state_words=state_words(rollout),
        buttons=order_buttons(rollout),
        facts=tuple(_facts(rollout.plan)),
        stages=tuple(_stage(reading, place, now_s) for place in range(len(rollout.stages))),
        arms=arms_view(rollout, reading.fields),
        failures=_failures(reading),
        now_s=now_s,
    )


def rings_watched(rollout: Rollout) -> dict[str, int]:
    """By ring, since when its devices answer with the release: what telemetry is asked for while it is under way."""
    since: dict[str, int] = {}
    if rollout.state.is_active:
        for stage, progress in zip(rollout.plan.stages, rollout.stages, strict=True):
            if progress.state.is_reached and not stage.shadow_share:
                since.setdefault(stage.ring, progress.opened_s)
    return since


def stage_segments(figures: StageFigures, rest: str = "waiting") -> tuple[Segment, ...]:
    """A stage's bar; together all of its devices. `rest`: what the others are said to be."""
    others = figures.eligible - figures.committed - figures.failed - figures.hindered - figures.under_way
    parts = (
        ("committed", "committed", figures.committed),
        ("taking", "under way", figures.under_way),
        ("hindered", "hindered", figures.hindered),
        ("broken", "failed", figures.failed),
        ("waiting", rest, max(0, others)),
    )
    whole, left, segments = max(1, sum(devices for _, _, devices in parts)), 0.0, []
    for name, words, devices in parts:
        width = 100.0 * devices / whole
        segments.append(Segment(name, words, devices, round(left, 3), round(width, 3)))
        left += width
    return tuple(segments)


def _stage(reading: RolloutReading, place: int, now_s: int) -> StageView:
    rollout = reading.rollout
    stage, progress = rollout.plan.stages[place], rollout.stages[place]
    soak_left_s = None
    if rollout.state is RolloutState.SOAKING and progress.state is StageState.SOAKING:
        soak_left_s = max(0, progress.enough_since_s + rollout.plan.soak_s - now_s)
    is_left_out = progress.state is StageState.WAITING and not rollout.state.is_active
    is_last_of_ring = place == _last_opened(rollout, stage.ring)
    waiting = (each.decided_s for each in reading.unsigned if each.ring == stage.ring and is_last_of_ring)
    seen = reading.fields.get(stage.ring) if is_last_of_ring else None
    return StageView(
        number=place + 1,
        title=stage_words(stage),
        state=progress.state,
        state_words="never opened" if is_left_out else progress.state.value.replace("_", " "),
        opened_s=progress.opened_s,
        note=progress.note,
        figures=progress.figures,
        segments=stage_segments(progress.figures, rest="not reached" if is_left_out else "waiting"),
        soak_left_s=soak_left_s,
        unsigned_s=next(waiting, None),
        is_newest=place == _last_opened(rollout),
        is_current=rollout.state.is_active and place == rollout.current,
        bounds=bound_rows(rollout.plan, place, progress, seen, now_s) if progress.opened_s else (),
    )


def _last_opened(rollout: Rollout, ring: str | None = None) -> int | None:
    """The place of the last stage that was ever opened; of one ring, or of all."""
    pairs = enumerate(zip(rollout.plan.stages, rollout.stages, strict=True))
    places = [place for place, (stage, told) in pairs if ring in (None, stage.ring) and told.opened_s]
    return places[-1] if places else None


def _failures(reading: RolloutReading) -> FailuresView:
    counts = tuple(
        (ring, kind, devices)
        for ring, kinds in sorted(reading.failure_counts.items())
        for kind, devices in sorted(kinds.items(), key=lambda each: -each[1])
    )
    total = sum(devices for _, _, devices in counts)
    return FailuresView(
        reading.failures, total, counts, reading.failures_page, max(1, -(-total // FAILURES_A_PAGE))
    )  # fmt: skip


def _facts(plan: Plan) -> Sequence[tuple[str, str]]:
    back = [
        f"{ring}: {before.version}" if (before := plan.fallback(ring)) else f"{ring}: nothing" for ring in plan.rings
    ]
    facts = [
        ("Goes back to", ", ".join(back)),
        ("When it is broken", _ON_FAILURE[plan.on_failure]),
        ("Each stage is watched for", duration_words(plan.soak_s)),
        ("Trial on each device", f"{plan.trial.requests:,} requests and {plan.trial.seconds:g} s of real traffic"),
    ]
    if plan.windows:
        facts.append(("Rings are opened", "; ".join(_window_words(each) for each in plan.windows)))
    if plan.hardware:
        facts.append(("For hardware", ", ".join(plan.hardware)))
    return facts


def _window_words(window: Window) -> str:
    days = ", ".join(_DAYS[day] for day in window.days) or "every day"
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in (window.from_minute, window.until_minute)]
    return f"{days} {'–'.join(times)} UTC"
