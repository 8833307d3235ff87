"""What devices' reports say of each stage of a rollout. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cloud_service.rollout.plan import Plan, Release, Stage
from cloud_service.rollout.records import Rollout, StageFigures
from shared.update.assignment import place_of
from shared.update.report import ErrorKind, InstalledRelease, Phase, UpdateReport

_SETTLED = (Phase.COMMITTED, Phase.IDLE)


@dataclass
class _Count:
    eligible: int = 0
    committed: int = 0
    failed: int = 0
    hindered: int = 0
    under_way: int = 0
    crashed: int = 0
    compared: int = 0
    disagreed: int = 0


def stage_figures(
    rollout: Rollout, reports: Iterable[UpdateReport], pinned: Collection[str] = frozenset()
) -> tuple[StageFigures, ...]:
    """Each stage's devices, in the plan's order. `reports`: the newest of each device, of any model.

    Devices of these names are `pinned` to a release of their own: they are in no stage.
    """
    plan, counts = rollout.plan, [_Count() for _ in rollout.plan.stages]
    by_ring: dict[str, list[tuple[Stage, _Count]]] = {}
    for stage, count in zip(plan.stages, counts, strict=True):
        by_ring.setdefault(stage.ring, []).append((stage, count))
    for report in reports:
        if report.model != plan.model or report.device_id in pinned:
            continue
        if plan.hardware and report.hardware not in plan.hardware:
            continue
        place = place_of(rollout.id, report.device_id)
        for stage, count in by_ring.get(report.ring, ()):
            if stage.reaches(place, report.labels):
                _add(count, plan, stage, report, obeys=report.rollout == rollout.id)
    return tuple(StageFigures(**vars(count)) for count in counts)


def runs(active: InstalledRelease, release: Release) -> bool:
    """Whether what a device runs is this release with this gate."""
    told = (active.version, active.release, active.gate_digest)
    return told == (release.version, release.release, release.gate_digest)


def _add(count: _Count, plan: Plan, stage: Stage, report: UpdateReport, *, obeys: bool) -> None:
    count.eligible += 1
    if not obeys:
        return
    has_it = runs(report.active, plan.release)
    is_failed = _is_failed(plan, stage, report, has_it=has_it)
    if is_failed:
        count.failed += 1
    elif _is_done(plan, stage, report, has_it=has_it):
        count.committed += 1
    elif report.error_kind is not ErrorKind.NONE:
        count.hindered += 1
    else:
        count.under_way += 1
    count.crashed += report.crashes > 0 and (has_it or is_failed)
    count.compared += report.trial.compared
    count.disagreed += report.trial.compared - report.trial.agreed


def _is_done(plan: Plan, stage: Stage, report: UpdateReport, *, has_it: bool) -> bool:
    if has_it and report.phase in _SETTLED:
        return True
    is_beside = _shadows(stage, report) or (stage.key_share > 0 and report.phase is Phase.SPLIT)
    return is_beside and report.trial.requests >= plan.trial.requests


def _is_failed(plan: Plan, stage: Stage, report: UpdateReport, *, has_it: bool) -> bool:
    if report.error_kind is ErrorKind.REFUSED and report.active.release > plan.release.release:
        # it came from a ring that is ahead, and its version floor with it
        return False
    if stage.key_share > 0 and report.phase is Phase.SPLIT:
        # it answers on whatever stands in the way of the next look
        return False
    if report.error_kind in plan.thresholds.failure_kinds and not has_it:
        return True
    figures = report.trial
    is_slow = 0 < figures.old_latency_ms * plan.trial.max_latency_ratio < figures.latency_ms
    return _shadows(stage, report) and figures.requests >= plan.trial.requests and is_slow


def _shadows(stage: Stage, report: UpdateReport) -> bool:
    return stage.is_shadow and report.phase is Phase.SHADOW
