"""The rules of a rollout: from what is seen to what is decided. No clock, no store, no network.

A stage is opened, its devices take the release, it does well for the soak time, and the next one is opened. Whatever
shows that the bundle is bad, in any ring reached so far, stops it; rings not reached never hear of it.
"""

from __future__ import annotations

from dataclasses import replace

from cloud_service.rollout.comparing import Verdict, compare
from cloud_service.rollout.conditions import condition_words
from cloud_service.rollout.judging import fault_of, shortfall_of
from cloud_service.rollout.plan import Comparison, OnFailure
from cloud_service.rollout.records import (
    Decision,
    DecisionKind,
    FieldFigures,
    Rollout,
    RolloutState,
    Seen,
    StageProgress,
    StageState,
    Step,
)


def advance(rollout: Rollout, seen: Seen, now_s: int) -> Step:
    """The next step at `now_s` (seconds since 1970-01-01 UTC); the same rollout where there is nothing to do.

    One that waits for approval, is paused or has ended is left as it is, whatever is seen.
    """
    if rollout.state not in (RolloutState.RUNNING, RolloutState.SOAKING):
        return Step(rollout)
    rollout = _with_figures(rollout, seen)
    for place, progress in enumerate(rollout.stages):
        fault = fault_of(rollout.plan, place, progress, seen, now_s) if progress.state.is_reached else ""
        if fault:
            ring = rollout.plan.stages[place].ring
            return _broken(rollout, ring, f"ring {ring}: {fault}", now_s)
    return _proceed(rollout, seen, now_s)


def roll_back(rollout: Rollout, rings: tuple[str, ...], reason: str, now_s: int, state: RolloutState) -> Step:
    """Tell these rings, as far as they were reached, to run what they ran before; the rollout ends in `state`."""
    reached = {
        stage.ring for stage, told in zip(rollout.plan.stages, rollout.stages, strict=True) if told.state.is_reached
    }
    concerned = [ring for ring in rollout.plan.rings if ring in reached and ring in rings]
    decisions = [_way_back(rollout, ring, reason) for ring in concerned]
    stages = tuple(
        _ended(told, StageState.ROLLED_BACK if stage.ring in concerned else StageState.STOPPED, reason)
        for stage, told in zip(rollout.plan.stages, rollout.stages, strict=True)
    )
    if any(decision.kind is DecisionKind.WITHDRAW for decision in decisions):
        state = RolloutState.FAILED if state is RolloutState.ROLLED_BACK else state
        reason += "; there is no release to go back to: devices that have it keep it, no other one takes it"
    return Step(replace(rollout, state=state, stages=stages, reason=reason, updated_s=now_s), tuple(decisions))


def open_next(rollout: Rollout, now_s: int, reason: str) -> Step:
    """Open the stage after the current one, or finish after the last."""
    current = rollout.current
    place = 0 if current is None else current + 1
    if place == len(rollout.stages):
        done = replace(rollout, state=RolloutState.DONE, reason=reason, updated_s=now_s)
        return Step(done, (Decision(DecisionKind.FINISH, reason),))
    stage = rollout.plan.stages[place]
    forgiven = max((told.forgiven for other, told in zip(rollout.plan.stages, rollout.stages, strict=True)
                    if other.ring == stage.ring and stage.covers(other)), default=0)  # fmt: skip
    opened = StageProgress(StageState.OPEN, opened_s=now_s, forgiven=forgiven)
    changed = _at(rollout, place, opened)
    whom = f"{stage.key_share:.0%} of the requests by their key" if stage.key_share else f"{stage.share:.0%}"
    whom += f" of the devices {condition_words(stage.labels)}" if stage.labels else ""
    text = f"{reason}; ring {stage.ring} is opened for {whom}" + " as a shadow" * stage.is_shadow
    changed = replace(changed, state=RolloutState.RUNNING, reason=text, updated_s=now_s)
    return Step(changed, (Decision(DecisionKind.OPEN, text, stage.ring),))


def _proceed(rollout: Rollout, seen: Seen, now_s: int) -> Step:
    place = rollout.current
    if place is None:
        return _open_if_allowed(rollout, now_s, "it begins")
    progress, is_deaf = rollout.stages[place], _is_deaf(rollout, seen)
    if progress.state is not StageState.PASSED:
        shortfall = shortfall_of(rollout.plan, progress)
        if shortfall:
            return _waits(rollout, place, shortfall, now_s)
        rollout, progress = _soaks(rollout, place, now_s, anew=seen.has_jumped)
        left_s = progress.enough_since_s + rollout.plan.soak_s - now_s
        if left_s > 0 or is_deaf:
            return Step(rollout)
        if rollout.plan.comparison and place == 0:
            return _judged(rollout, rollout.plan.comparison, seen, now_s)
        reason = f"ring {rollout.plan.stages[place].ring} did well: {progress.figures.committed} devices committed"
        passed = replace(progress, state=StageState.PASSED, note=reason)
        rollout = replace(_at(rollout, place, passed), updated_s=now_s)
    return Step(rollout) if is_deaf else _open_if_allowed(rollout, now_s, rollout.stages[place].note)


def _is_deaf(rollout: Rollout, seen: Seen) -> bool:
    """After a restart or without a broker, what devices said meanwhile has not been heard yet."""
    return seen.heard_for_s < min(rollout.plan.soak_s, rollout.plan.thresholds.settle_s)


def _judged(rollout: Rollout, comparison: Comparison, seen: Seen, now_s: int) -> Step:
    """An A/B test's stage passes by its verdict alone."""
    ring, version = rollout.plan.stages[0].ring, rollout.plan.release.version
    judgement = compare(comparison, seen.field.get(ring, FieldFigures()))
    text = f"{version}: {judgement.reason}"
    told = replace(rollout.stages[0], note=text)
    if judgement.verdict is Verdict.UNDECIDED:
        return Step(replace(_at(rollout, 0, told), reason=text))
    text = f"A/B test: {judgement.verdict.value} {text}"
    if not comparison.decides:
        paused = replace(_at(rollout, 0, told), state=RolloutState.PAUSED, reason=text, updated_s=now_s)
        return Step(paused, (Decision(DecisionKind.PAUSE, text, ring),))
    if judgement.verdict is Verdict.DROP:
        return roll_back(_at(rollout, 0, told), rollout.plan.rings, text, now_s, RolloutState.ROLLED_BACK)
    passed = replace(told, state=StageState.PASSED)
    return _open_if_allowed(replace(_at(rollout, 0, passed), updated_s=now_s), now_s, text)


def _open_if_allowed(rollout: Rollout, now_s: int, reason: str) -> Step:
    is_last = rollout.current == len(rollout.stages) - 1
    if is_last or rollout.plan.may_open(now_s):
        return open_next(rollout, now_s, reason)
    text = f"{reason}; the next ring is opened when the schedule allows it"
    if rollout.reason == text:
        return Step(rollout)
    return Step(replace(rollout, state=RolloutState.RUNNING, reason=text, updated_s=now_s))


def _waits(rollout: Rollout, place: int, shortfall: str, now_s: int) -> Step:
    told = replace(rollout.stages[place], state=StageState.OPEN, enough_since_s=0, note=shortfall)
    changed = _at(rollout, place, told)
    reason = f"ring {rollout.plan.stages[place].ring}: {shortfall}"
    if rollout.reason == reason and rollout.state is RolloutState.RUNNING:
        return Step(changed)
    return Step(replace(changed, state=RolloutState.RUNNING, reason=reason, updated_s=now_s))


def _soaks(rollout: Rollout, place: int, now_s: int, *, anew: bool) -> tuple[Rollout, StageProgress]:
    progress = rollout.stages[place]
    if progress.state is StageState.SOAKING and not anew and progress.enough_since_s <= now_s:
        return rollout, progress
    note = f"enough devices have it; it is watched for {rollout.plan.soak_s} s"
    progress = replace(progress, state=StageState.SOAKING, enough_since_s=now_s, note=note)
    reason = f"ring {rollout.plan.stages[place].ring}: {note}"
    changed = replace(_at(rollout, place, progress), state=RolloutState.SOAKING, reason=reason, updated_s=now_s)
    return changed, progress


def _broken(rollout: Rollout, ring: str, reason: str, now_s: int) -> Step:
    answer = rollout.plan.on_failure
    if answer is OnFailure.PAUSE:
        paused = replace(rollout, state=RolloutState.PAUSED, reason=reason, updated_s=now_s)
        return Step(paused, (Decision(DecisionKind.PAUSE, reason, ring),))
    rings = (ring,) if answer is OnFailure.ROLL_BACK_RING else rollout.plan.rings
    return roll_back(rollout, rings, reason, now_s, RolloutState.ROLLED_BACK)


def _way_back(rollout: Rollout, ring: str, reason: str) -> Decision:
    fallback = rollout.plan.fallback(ring)
    if fallback is None:
        return Decision(DecisionKind.WITHDRAW, reason, ring)
    return Decision(DecisionKind.ROLL_BACK, f"{reason}; ring {ring} goes back to {fallback.version}", ring)


def _ended(progress: StageProgress, state: StageState, reason: str) -> StageProgress:
    """A stage that passed and is not taken back stays passed; one that was never opened stays waiting."""
    if not progress.state.is_reached or (progress.state is StageState.PASSED and state is StageState.STOPPED):
        return progress
    return replace(progress, state=state, note=reason)


def _with_figures(rollout: Rollout, seen: Seen) -> Rollout:
    pairs = zip(rollout.stages, seen.figures, strict=True)
    return replace(rollout, stages=tuple(replace(told, figures=figures) for told, figures in pairs))


def _at(rollout: Rollout, place: int, progress: StageProgress) -> Rollout:
    return replace(rollout, stages=(*rollout.stages[:place], progress, *rollout.stages[place + 1 :]))
