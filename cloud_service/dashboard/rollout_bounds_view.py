"""What a stage shows, held against the bounds of its plan, as rows of a table. Pure.

The verdicts follow `cloud_service.rollout.judging`, which alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.dashboard.wording import count, milliseconds, percent, percentage_points
from cloud_service.rollout.plan import FieldGates, Plan
from cloud_service.rollout.records import FieldFigures, StageFigures, StageProgress
from cloud_service.watch.confidence import BetaMixture

NO_FIGURES = "nothing yet"


@dataclass(frozen=True)
class BoundRow:
    """One figure. `verdict`: `within`, `over`, or `open` where there is too little to tell. `detail` may be ""."""

    name: str
    value: str
    bound: str
    verdict: str
    detail: str = ""


def bound_rows(
    plan: Plan, place: int, progress: StageProgress, field: FieldFigures | None, now_s: int
) -> tuple[BoundRow, ...]:
    """A stage's figures at `now_s`; `field` is None where telemetry is not asked."""
    rows = _device_rows(plan, progress, now_s)
    figures = progress.figures
    if plan.stages[place].shadow_share:
        what = "answers compared on devices with the active model's"
        return (*rows, _disagreement(plan.gates, figures.disagreed, figures.compared, what))
    return rows if field is None else (*rows, *_field_rows(plan.gates, field))


def _device_rows(plan: Plan, progress: StageProgress, now_s: int) -> tuple[BoundRow, ...]:
    figures, told = progress.figures, plan.thresholds
    enough = "within" if figures.committed >= told.min_devices else "open"
    least = f"at least {count(told.min_devices)}"
    return (
        BoundRow("Devices committed", count(figures.committed), least, enough, f"of {count(figures.eligible)} known"),
        _committed_share(plan, progress),
        _failed_share(plan, progress, now_s),
        _crashed_share(plan, figures, progress.forgiven),
    )


def _committed_share(plan: Plan, progress: StageProgress) -> BoundRow:
    figures, least = progress.figures, plan.thresholds.success_share
    ended = max(figures.committed, figures.ended - progress.forgiven)
    verdict = "within" if ended and figures.committed >= least * ended else "open"
    detail = f"{count(figures.committed)} of {count(ended)} that ended" if ended else ""
    return BoundRow(
        "Committed, of those that ended", _share(figures.committed, ended), _at_least(least), verdict, detail
    )


def _failed_share(plan: Plan, progress: StageProgress, now_s: int) -> BoundRow:
    figures, told = progress.figures, plan.thresholds
    failed = max(0, figures.failed - progress.forgiven)
    ended = figures.committed + failed
    all_failed = not figures.committed and not figures.under_way and now_s >= progress.opened_s + told.settle_s
    is_told_enough = failed >= told.min_failures or ended >= figures.eligible - progress.forgiven or all_failed
    verdict = _verdict(ended > 0, is_over=failed > told.failure_share * ended, is_told_enough=is_told_enough)
    forgiven = f"; {count(progress.forgiven)} accepted by promotion" if progress.forgiven else ""
    detail = f"{count(failed)} of {count(ended)}, judged from {count(told.min_failures)} failures on{forgiven}"
    return BoundRow("Failed", _share(failed, ended), _at_most(told.failure_share), verdict, detail)


def _crashed_share(plan: Plan, figures: StageFigures, forgiven: int) -> BoundRow:
    crashed, most = max(0, figures.crashed - forgiven), plan.gates.max_crash_share
    is_told_enough = crashed >= min(plan.thresholds.min_failures, figures.eligible)
    verdict = _verdict(figures.ended > 0, is_over=crashed > most * figures.ended, is_told_enough=is_told_enough)
    detail = f"{count(crashed)} of {count(figures.ended)}" if figures.ended else ""
    return BoundRow("Agent did not get ready again", _share(crashed, figures.ended), _at_most(most), verdict, detail)


def _field_rows(gates: FieldGates, field: FieldFigures) -> tuple[BoundRow, ...]:
    what = "audited answers, with the full model's"
    return (_latency(gates, field), _offload(gates, field), _disagreement(
        gates, field.new.disagreed, field.new.audited, what))  # fmt: skip


def _latency(gates: FieldGates, field: FieldFigures) -> BoundRow:
    name, bound = "Latency, new to old", f"at most {gates.max_latency_ratio:.4g}×"
    new, old = field.new.latency_ms, field.old.latency_ms
    if not new or not old:
        return BoundRow(name, NO_FIGURES, bound, "open", _too_few(gates, field))
    is_over, is_told_enough = new > gates.max_latency_ratio * old, not _too_few(gates, field)
    verdict = _verdict(is_told_enough, is_over=is_over, is_told_enough=is_told_enough)
    detail = f"median {milliseconds(new)}, before {milliseconds(old)}"
    return BoundRow(name, f"{new / old:.2f}×", bound, verdict, _joined(detail, _too_few(gates, field)))


def _offload(gates: FieldGates, field: FieldFigures) -> BoundRow:
    name, bound = "Offload ratio, new less old", f"at most {percentage_points(gates.max_offload_rise)}"
    new, old = field.new, field.old
    if not new.requests or not old.requests:
        return BoundRow(name, NO_FIGURES, bound, "open", _too_few(gates, field))
    now, before = new.wanted / new.requests, old.wanted / old.requests
    is_told_enough = not _too_few(gates, field)
    verdict = _verdict(is_told_enough, is_over=now - before > gates.max_offload_rise, is_told_enough=is_told_enough)
    detail = _joined(f"{percent(now)}, before {percent(before)}", _too_few(gates, field))
    return BoundRow(name, percentage_points(now - before), bound, verdict, detail)


def _disagreement(gates: FieldGates, disagreed: int, judged: int, what: str) -> BoundRow:
    name, most = "Disagreement", gates.max_disagreement
    if not judged or not 0.0 < most < 1.0:
        return BoundRow(name, NO_FIGURES, _at_most(most), "open", f"of {what}")
    bounds = BetaMixture.around(most)
    lower, upper = (side(disagreed, judged, gates.level) for side in (bounds.lower_bound, bounds.upper_bound))
    verdict = "over" if lower > most else "within" if upper <= most else "open"
    counted = f"{count(disagreed)} of {count(judged)} {what}; between {percent(lower)} and {percent(upper)}"
    return BoundRow(name, percent(disagreed / judged), _at_most(most), verdict, counted)


def _too_few(gates: FieldGates, field: FieldFigures) -> str:
    """Why latency and offload are not judged yet; "" where they are."""
    if min(field.new.requests, field.old.requests) >= gates.min_requests:
        return ""
    told = f"{count(field.new.requests)} and {count(field.old.requests)} requests"
    return f"{told}, judged from {count(gates.min_requests)} of both on"


def _verdict(has_figures: bool, *, is_over: bool, is_told_enough: bool) -> str:
    if not has_figures or (is_over and not is_told_enough):
        return "open"
    return "over" if is_over else "within"


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else NO_FIGURES


def _at_most(share: float) -> str:
    return f"at most {percent(share)}"


def _at_least(share: float) -> str:
    return f"at least {percent(share)}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
