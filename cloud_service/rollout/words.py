"""Rollouts in plain words and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from cloud_service.rollout.conditions import condition_words
from cloud_service.rollout.durations import duration_words
from cloud_service.rollout.plan import Plan, Stage
from cloud_service.rollout.records import DeviceFailure, Rollout


def rollout_lines(rollout: Rollout) -> Iterator[str]:
    """What an operator wants to know of it, one fact a line."""
    plan = rollout.plan
    moment = datetime.fromtimestamp(rollout.created_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    yield f"{rollout.id}  {plan.model} {plan.release.version}  {rollout.state.value.replace('_', ' ')}"
    yield f"  since {moment} by {rollout.created_by}: {rollout.reason}"
    for stage, progress in zip(plan.stages, rollout.stages, strict=True):
        told = progress.figures
        counts = f"{told.committed} committed, {told.failed} failed, {told.under_way} under way"
        counts += f", {told.hindered} hindered" * bool(told.hindered)
        note = f" ({progress.note})" if progress.note else ""
        state = progress.state.value.replace("_", " ")
        yield f"  {stage_words(stage)}: {state}, of {told.eligible} devices {counts}{note}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """What would happen."""
    yield f"{plan.model} {plan.release.version} (release {plan.release.release}, gate {plan.release.gate_digest[:12]})"
    for number, stage in enumerate(plan.stages, 1):
        before = plan.fallback(stage.ring)
        back = f"back to {before.version} where it fails" if before else "with nothing to go back to"
        yield f"  {number}. {stage_words(stage)}, watched for {duration_words(plan.soak_s)}, {back}"
    if plan.comparison:
        end = "is carried out" if plan.comparison.decides else "waits for you"
        yield f"  stage 1 is an A/B test of both; the verdict on disagreement in audits {end}"
    if plan.needs_approval:
        yield "  another person has to approve it first"


def failure_line(failure: DeviceFailure) -> str:
    """One device's reason."""
    return f"  {failure.device_id} (ring {failure.ring}): {failure.error or failure.kind.value}"


def stage_words(stage: Stage) -> str:
    """A stage's name."""
    share = "" if stage.share == 1.0 else f"{stage.share:.0%} of "
    devices = "" if stage.is_whole else f", {share}its devices"
    condition = f" {condition_words(stage.labels)}" if stage.labels else ""
    shadow = f", as a shadow of {stage.shadow_share:.0%} of the requests" if stage.shadow_share else ""
    return f"ring {stage.ring}{devices}{condition}{shadow}"


def rollout_fields(rollout: Rollout, failures: Sequence[DeviceFailure] = ()) -> dict[str, object]:
    """The same for programs."""
    stages = [
        {**asdict(stage), **asdict(progress), "state": progress.state.value}
        for stage, progress in zip(rollout.plan.stages, rollout.stages, strict=True)
    ]
    told = [
        {"device_id": each.device_id, "ring": each.ring, "kind": each.kind.value, "error": each.error}
        for each in failures
    ]
    return {
        "id": rollout.id,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "created_s": rollout.created_s,
        "created_by": rollout.created_by,
        "approved_by": rollout.approved_by,
        "plan": asdict(rollout.plan),
        "stages": stages,
        "failures": told,
    }
