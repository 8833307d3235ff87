"""Whether a stage shows that the bundle is bad, or good enough to go on. Pure, in plain words."""

from __future__ import annotations

from cloud_service.rollout.plan import FieldGates, Plan
from cloud_service.rollout.records import FieldFigures, Seen, StageFigures, StageProgress
from cloud_service.watch.confidence import BetaMixture


def fault_of(plan: Plan, place: int, progress: StageProgress, seen: Seen, now_s: int) -> str:
    """What is wrong in a stage that was reached; "" where nothing is."""
    figures = seen.figures[place]
    fault = _devices_fault(plan, progress, figures, now_s) or _crash_fault(plan, progress, figures)
    if fault:
        return fault
    if plan.stages[place].shadow_share:
        return _disagreement(plan.gates, figures.disagreed, figures.compared, "answers disagree with the active model")
    return field_fault(plan.gates, seen.field.get(plan.stages[place].ring, FieldFigures()))


def shortfall_of(plan: Plan, progress: StageProgress) -> str:
    """What a stage still lacks before its soak time begins; "" where it has done well."""
    figures, told = progress.figures, plan.thresholds
    if figures.committed < told.min_devices:
        known = f", {figures.eligible} devices are known there" if figures.eligible < told.min_devices else ""
        return f"{figures.committed} of at least {told.min_devices} devices committed{known}"
    ended = max(figures.committed, figures.ended - progress.forgiven)
    if figures.committed < told.success_share * ended:
        return f"{figures.committed} of {ended} devices committed, less than {told.success_share:.0%}"
    return ""


def field_fault(gates: FieldGates, field: FieldFigures) -> str:
    """What telemetry shows of the release that it may not; "" where nothing."""
    new, old = field.new, field.old
    if min(new.requests, old.requests) >= gates.min_requests:
        if new.latency_ms and old.latency_ms and new.latency_ms > gates.max_latency_ratio * old.latency_ms:
            return f"answers take {new.latency_ms:.1f} ms, before they took {old.latency_ms:.1f} ms"
        offload, before = new.wanted / new.requests, old.wanted / old.requests
        if offload - before > gates.max_offload_rise:
            return f"{offload:.0%} is offloaded, before it was {before:.0%}"
    return _disagreement(gates, new.disagreed, new.audited, "audited answers disagree with the full model")


def _disagreement(gates: FieldGates, disagreed: int, judged: int, what: str) -> str:
    if not judged or not 0.0 < gates.max_disagreement < 1.0:
        return ""
    bounds = BetaMixture.around(gates.max_disagreement)
    if bounds.lower_bound(disagreed, judged, gates.level) <= gates.max_disagreement:
        return ""
    return f"{disagreed} of {judged} {what}"


def _devices_fault(plan: Plan, progress: StageProgress, figures: StageFigures, now_s: int) -> str:
    told = plan.thresholds
    failed = max(0, figures.failed - progress.forgiven)
    ended = figures.committed + failed
    all_failed = not figures.committed and not figures.under_way and now_s >= progress.opened_s + told.settle_s
    is_told_enough = failed >= told.min_failures or ended >= figures.eligible - progress.forgiven or all_failed
    if not failed or not is_told_enough or failed <= told.failure_share * ended:
        return ""
    return f"{failed} of {ended} devices could not take it, more than {told.failure_share:.0%}"


def _crash_fault(plan: Plan, progress: StageProgress, figures: StageFigures) -> str:
    crashed = max(0, figures.crashed - progress.forgiven)
    if not crashed or crashed <= plan.gates.max_crash_share * figures.ended:
        return ""
    if crashed < min(plan.thresholds.min_failures, figures.eligible):
        return ""
    return f"on {crashed} of {figures.ended} devices the agent did not get ready again"
