"""From a rollout to what the director signs for a ring. Pure."""

from __future__ import annotations

from dataclasses import replace

from cloud_service.rollout.plan import Plan, Release, Stage
from cloud_service.rollout.records import Rollout
from shared.update.assignment import Arm, Assignment

OLD_VARIANT, NEW_VARIANT = "a", "b"
"""The arms of an A/B test."""


def assignment_for(rollout: Rollout, ring: str, sequence: int) -> Assignment | None:
    """What the ring is to run as the rollout stands; None where nothing is said to it.

    The floor lies at the lower of both releases, so that the way back stays open.
    """
    plan, fallback = rollout.plan, rollout.plan.fallback(ring)
    stage = _last_reached(rollout, ring)
    if stage is not None:
        return _forward(rollout, stage, fallback, sequence)
    if fallback is None:
        return None
    # what ran here before is not put on trial again
    trial = replace(plan.trial, requests=0, seconds=0.0)
    arms = (arm_of(fallback),)
    return Assignment(plan.model, rollout.id, sequence, _floor(plan, fallback), arms, plan.hardware, trial)


def arm_of(release: Release, *, share_until: float = 1.0, shadow_share: float = 0.0, variant: str = "") -> Arm:
    """The release for the devices below `share_until`."""
    return Arm(
        release.version,
        release.manifest_sha256,
        release.gate_digest,
        release.release,
        share_until,
        variant,
        shadow_share,
    )


def release_of(assignment: Assignment) -> Release | None:
    """What most devices of a ring run by an assignment: its last arm, where that reaches all; else None."""
    last = assignment.arms[-1] if assignment.arms else None
    if last is None or last.share_until < 1.0 or last.shadow_share:
        return None
    return Release(last.version, last.manifest_sha256, last.gate_digest, last.release)


def _forward(rollout: Rollout, stage: Stage, fallback: Release | None, sequence: int) -> Assignment:
    plan = rollout.plan
    is_test = plan.comparison is not None and stage == plan.stages[0]
    new, old = (NEW_VARIANT, OLD_VARIANT) if is_test else ("", "")
    arms = [arm_of(plan.release, share_until=stage.share, shadow_share=stage.shadow_share, variant=new)]
    if stage.share < 1.0 and fallback is not None:
        arms.append(arm_of(fallback, variant=old))
    return Assignment(
        plan.model,
        rollout.id,
        sequence,
        _floor(plan, fallback),
        tuple(arms),
        plan.hardware,
        plan.trial,
        plan.not_before_s,
    )


def _last_reached(rollout: Rollout, ring: str) -> Stage | None:
    stages = [
        stage
        for stage, told in zip(rollout.plan.stages, rollout.stages, strict=True)
        if stage.ring == ring and told.state.is_reached
    ]
    return stages[-1] if stages else None


def _floor(plan: Plan, fallback: Release | None) -> int:
    return min(plan.release.release, fallback.release) if fallback else plan.release.release
