"""What people may do with a rollout: each order from the rollout as it is to what is decided. Pure."""

from __future__ import annotations

from dataclasses import replace

from cloud_service.rollout.engine import open_next, roll_back
from cloud_service.rollout.plan import Plan, checked_plan
from cloud_service.rollout.records import (
    Decision,
    DecisionKind,
    Rollout,
    RolloutState,
    StageProgress,
    StageState,
    Step,
)
from shared.errors import RolloutError


def start(rollout_id: str, plan: Plan, by: str, now_s: int) -> Step:
    """A new rollout: running, or waiting for another person's approval.

    Raises:
        RolloutError: the plan cannot be followed.
    """
    checked_plan(plan)
    state = RolloutState.PENDING_APPROVAL if plan.needs_approval else RolloutState.RUNNING
    reason = "another person has to approve it" if plan.needs_approval else "it begins"
    stages = tuple(StageProgress() for _ in plan.stages)
    rollout = Rollout(rollout_id, plan, state, stages, now_s, by, reason=reason, updated_s=now_s)
    text = f"{plan.model} {plan.release.version} to {', '.join(plan.rings)}"
    return Step(rollout, (Decision(DecisionKind.START, text),))


def start_everywhere(rollout_id: str, plan: Plan, by: str, now_s: int) -> Step:
    """A new rollout that opens all of its stages at once and is done with that: for an emergency.

    Raises:
        RolloutError: the plan cannot be followed, or waits for approval.
    """
    step = start(rollout_id, plan, by, now_s)
    decisions = step.decisions
    while step.rollout.state.is_active:
        step = promote(step.rollout, by, now_s)
        decisions += step.decisions
    return Step(step.rollout, decisions)


def approve(rollout: Rollout, by: str, now_s: int) -> Step:
    """Let one begin that waits for it.

    Raises:
        RolloutError: it waits for no approval, or `by` started it.
    """
    _require(rollout, (RolloutState.PENDING_APPROVAL,), "approved")
    if by == rollout.created_by:
        raise RolloutError(f"{by} started rollout {rollout.id}: another person has to approve it")
    reason = f"approved by {by}"
    begun = replace(rollout, state=RolloutState.RUNNING, approved_by=by, reason=reason, updated_s=now_s)
    return Step(begun, (Decision(DecisionKind.APPROVE, reason),))


def pause(rollout: Rollout, by: str, now_s: int) -> Step:
    """Stop where it is: no ring is opened, none goes back. Devices of open rings go on with what they were told.

    Raises:
        RolloutError: it does not run.
    """
    _require(rollout, (RolloutState.RUNNING, RolloutState.SOAKING), "paused")
    reason = f"paused by {by}"
    paused = replace(rollout, state=RolloutState.PAUSED, reason=reason, updated_s=now_s)
    return Step(paused, (Decision(DecisionKind.PAUSE, reason),))


def resume(rollout: Rollout, by: str, now_s: int) -> Step:
    """Go on; a soak time that was under way begins anew, as nobody watched in between.

    Raises:
        RolloutError: it is not paused.
    """
    _require(rollout, (RolloutState.PAUSED,), "resumed")
    stages = tuple(
        replace(told, state=StageState.OPEN, enough_since_s=0) if told.state is StageState.SOAKING else told
        for told in rollout.stages
    )
    reason = f"resumed by {by}"
    running = replace(rollout, state=RolloutState.RUNNING, stages=stages, reason=reason, updated_s=now_s)
    return Step(running, (Decision(DecisionKind.RESUME, reason),))


def promote(rollout: Rollout, by: str, now_s: int) -> Step:
    """Take the current stage for passed, with the failures it has, and open the next one, whatever the schedule says.

    Raises:
        RolloutError: it waits for approval, or has ended.
    """
    _require(rollout, (RolloutState.RUNNING, RolloutState.SOAKING, RolloutState.PAUSED), "promoted")
    reason, place = f"promoted by {by}", rollout.current
    stages = list(rollout.stages)
    if place is not None:
        ring = rollout.plan.stages[place].ring
        stages = [
            replace(told, forgiven=max(told.figures.failed, told.figures.crashed, told.forgiven))
            if stage.ring == ring
            else told
            for stage, told in zip(rollout.plan.stages, stages, strict=True)
        ]
        stages[place] = replace(stages[place], state=StageState.PASSED, note=reason)
    step = open_next(replace(rollout, stages=tuple(stages)), now_s, reason)
    return Step(step.rollout, (Decision(DecisionKind.PROMOTE, reason), *step.decisions))


def abort(rollout: Rollout, by: str, now_s: int, *, keep: bool = False) -> Step:
    """End it; the rings it has reached go back, unless `keep`: then they stay with what they were told.

    Raises:
        RolloutError: it has ended already.
    """
    if not rollout.state.is_active:
        raise RolloutError(f"rollout {rollout.id} has ended: {rollout.state.value}")
    reason = f"aborted by {by}"
    rings = () if keep else rollout.plan.rings
    step = roll_back(rollout, rings, reason, now_s, RolloutState.ABORTED)
    return Step(step.rollout, (Decision(DecisionKind.ABORT, reason), *step.decisions))


def take_back(rollout: Rollout, by: str, now_s: int) -> Step:
    """Send all rings that it has reached back to what they ran before, while it runs or after it is done.

    Raises:
        RolloutError: it has reached no ring, or was taken back already.
    """
    if rollout.current is None:
        raise RolloutError(f"rollout {rollout.id} is {rollout.state.value}: there is nothing to take back")
    return roll_back(rollout, rollout.plan.rings, f"rolled back by {by}", now_s, RolloutState.ROLLED_BACK)


def _require(rollout: Rollout, states: tuple[RolloutState, ...], action: str) -> None:
    if rollout.state not in states:
        raise RolloutError(f"rollout {rollout.id} is {rollout.state.value} and cannot be {action}")
