"""From a rollout to what the director signs for a ring. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cloud_service.rollout.plan import Plan, Release, Stage
from cloud_service.rollout.records import Rollout
from shared.update.assignment import Arm, Assignment
from shared.update.labels import LabelCondition

OLD_VARIANT, NEW_VARIANT = "a", "b"
"""The arms of an A/B test."""


def assignment_for(rollout: Rollout, ring: str, sequence: int) -> Assignment | None:
    """What the ring is to run as the rollout stands; None where nothing is said to it.

    The floor lies at the lower of both releases, so that the way back stays open.
    """
    plan, fallback = rollout.plan, rollout.plan.fallback(ring)
    stages = _in_force(rollout, ring)
    if stages:
        return _forward(rollout, stages, fallback, sequence)
    if fallback is None:
        return None
    # what ran here before is not put on trial again
    trial = replace(plan.trial, requests=0, seconds=0.0)
    arms = (arm_of(fallback),)
    return Assignment(plan.model, rollout.id, sequence, _floor(plan, fallback), arms, plan.hardware, trial)


def arm_of(
    release: Release,
    *,
    share_until: float = 1.0,
    shadow_share: float = 0.0,
    variant: str = "",
    labels: LabelCondition | None = None,
    key_share: float = 0.0,
) -> Arm:
    """The release for the devices below `share_until` whose labels meet `labels`; None is met by all."""
    return Arm(
        release.version,
        release.manifest_sha256,
        release.gate_digest,
        release.release,
        share_until,
        variant,
        shadow_share,
        labels or {},
        key_share,
    )


def release_of(assignment: Assignment) -> Release | None:
    """What most devices of a ring run by an assignment: its last arm, where that reaches all; else None."""
    last = assignment.arms[-1] if assignment.arms else None
    if last is None or last.share_until < 1.0 or last.shadow_share or last.key_share or last.labels:
        return None
    return Release(last.version, last.manifest_sha256, last.gate_digest, last.release)


def _forward(rollout: Rollout, stages: Sequence[Stage], fallback: Release | None, sequence: int) -> Assignment:
    plan = rollout.plan
    new, old = _variants(plan, stages[0], fallback)
    arms = [
        arm_of(
            plan.release,
            share_until=each.share,
            shadow_share=each.shadow_share,
            variant=new,
            labels=each.labels,
            key_share=each.key_share,
        )
        for each in stages
    ]
    if fallback is not None and not any(each.is_whole for each in stages):
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


def _variants(plan: Plan, stage: Stage, fallback: Release | None) -> tuple[str, str]:
    """What the new and the old arm of an A/B test are told under.

    Where both answer on one device, versions that differ tell them apart: the new one is then promoted as it is loaded.
    """
    is_test = plan.comparison is not None and stage == plan.stages[0]
    if not is_test or (stage.key_share and fallback is not None and fallback.version != plan.release.version):
        return "", ""
    return NEW_VARIANT, OLD_VARIANT


def _in_force(rollout: Rollout, ring: str) -> list[Stage]:
    """The stages that were reached in a ring, the newest first, without those that a newer one covers.

    A shadow ends where the first device really takes the release.
    """
    stages = list[Stage]()
    for stage, told in reversed(list(zip(rollout.plan.stages, rollout.stages, strict=True))):
        if stage.ring != ring or not told.state.is_reached or any(newer.covers(stage) for newer in stages):
            continue
        if not stages or stage.is_shadow == stages[0].is_shadow:
            stages.append(stage)
    return stages


def _floor(plan: Plan, fallback: Release | None) -> int:
    return min(plan.release.release, fallback.release) if fallback else plan.release.release
