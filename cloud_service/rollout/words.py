"""Rollouts in plain words and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from cloud_service.rollout.conditions import condition_words
from cloud_service.rollout.device_order import DeviceOrder
from cloud_service.rollout.durations import duration_words
from cloud_service.rollout.plan import Plan, Stage
from cloud_service.rollout.records import DeviceFailure, Rollout
from shared.update.report import UpdateReport


def rollout_lines(rollout: Rollout) -> Iterator[str]:
    """What an operator wants to know of it, one fact a line."""
    plan = rollout.plan
    moment = datetime.fromtimestamp(rollout.created_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    yield f"{rollout.id}  {plan.model} {plan.release.version}  {rollout.state.value.replace('_', ' ')}"
    yield f"  since {moment} by {rollout.created_by}: {rollout.reason}"
    if plan.comparison:
        yield f"  an A/B test by {split_words(plan)}"
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
        yield f"  stage 1 is an A/B test of both by {split_words(plan)}; the verdict on disagreement in audits {end}"
    if plan.needs_approval:
        yield "  another person has to approve it first"


def split_words(plan: Plan) -> str:
    """What an A/B test splits between its releases."""
    return "request key" if plan.splits_requests else "device"


def failure_line(failure: DeviceFailure) -> str:
    """One device's reason."""
    return f"  {failure.device_id} (ring {failure.ring}): {failure.error or failure.kind.value}"


def pinned_lines(pins: Sequence[DeviceOrder]) -> Iterator[str]:
    """How many devices no rollout counts; none where all take part."""
    if pins:
        whom = (
            "1 device is pinned to a release of its own"
            if len(pins) == 1
            else (f"{len(pins)} devices are pinned to releases of their own")
        )
        yield f"{whom} and in no rollout: see `rollout pins`"


def pin_lines(pin: DeviceOrder, report: UpdateReport | None) -> Iterator[str]:
    """What a device is pinned to, why, and how far it has come by its newest word."""
    moment = datetime.fromtimestamp(pin.decided_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    reason = f": {pin.reason}" if pin.reason else ""
    yield f"{pin.device_id}  {pin.model} {pin.version}  since {moment} by {pin.decided_by}{reason}"
    yield f"  {_pin_progress(pin, report)}"


def pin_fields(pin: DeviceOrder, report: UpdateReport | None) -> dict[str, object]:
    """The same for programs."""
    return {
        "device_id": pin.device_id,
        "model": pin.model,
        "version": pin.version,
        "id": pin.rollout_id,
        "sequence": pin.sequence,
        "assignment": asdict(pin.assignment) if pin.assignment else None,
        "since_s": pin.decided_s,
        "by": pin.decided_by,
        "reason": pin.reason,
        "signed_s": pin.signed_s,
        "runs": report.active.version if report else None,
        "phase": report.phase.value if report else None,
        "obeys": report is not None and report.rollout == pin.rollout_id,
        "error": report.error if report and report.rollout == pin.rollout_id else "",
    }


def _pin_progress(pin: DeviceOrder, report: UpdateReport | None) -> str:
    if pin.signed_s is None:
        return "waits for the director's signature"
    if report is None:
        return "has not been heard of yet"
    runs = f"runs {report.active.version}"
    if report.rollout != pin.rollout_id:
        return f"{runs}, and has not looked yet"
    error = f": {report.error}" if report.error else ""
    return f"{runs}, {report.phase.value.replace('_', ' ')}{error}"


def stage_words(stage: Stage) -> str:
    """A stage's name."""
    share = "" if stage.share == 1.0 else f"{stage.share:.0%} of "
    devices = "" if stage.is_whole else f", {share}its devices"
    condition = f" {condition_words(stage.labels)}" if stage.labels else ""
    shadow = f", as a shadow of {stage.shadow_share:.0%} of the requests" if stage.shadow_share else ""
    split = f", {stage.key_share:.0%} of the requests by their key" if stage.key_share else ""
    return f"ring {stage.ring}{devices}{condition}{shadow}{split}"


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
