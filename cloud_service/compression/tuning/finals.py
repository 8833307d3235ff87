"""The last comparison: the best plans timed again in turns, for times that were taken minutes apart do not compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from cloud_service.compression.tuning.explanation import explain
from cloud_service.compression.tuning.goal import Goal, Outcome, Verdict
from cloud_service.compression.tuning.result import FinalTimes, TuningResult, judge_of
from cloud_service.compression.tuning.space import Plan, SearchSpace, plan_key
from cloud_service.compression.tuning.trials import Trial

FINALISTS = 3


class Meter(Protocol):
    """Times plans side by side, on the machine that trials were timed on."""

    def latencies_ms(self, plans: Sequence[Plan]) -> Sequence[float]:
        """Milliseconds of one text by each plan; the plans take turns within every round."""
        ...


class FinalsRecord(Protocol):
    """Where times are kept beyond this process; `tuning.journal.Journal` is one."""

    def finals(self) -> tuple[FinalTimes, ...]:
        """What earlier runs recorded, in their order."""
        ...

    def end_finals(self, times: FinalTimes) -> None:
        """Plans were timed; on disk when this returns."""
        ...


def settle(
    space: SearchSpace, goal: Goal, result: TuningResult, meter: Meter, record: FinalsRecord | None = None
) -> TuningResult:
    """Choose among the baseline and the best `FINALISTS` plans that keep the goal, by times taken in turns.

    The same plans are never timed twice where `record` remembers them. `result` itself is returned where
    latency is no matter to the goal, or there is nothing to choose.

    Raises:
        CheckpointError: the record cannot be written.
    """
    contenders = _contenders(space, goal, result)
    if len(contenders) < 2:
        return result
    times = _recorded(record, contenders) or _timed(meter, record, contenders)
    judge = judge_of(space, goal, result.trials)
    judged = [(trial, judge.verdict(_with_latency(trial, outcome, times))) for trial, outcome in contenders]
    best, verdict = min(judged, key=lambda pair: (pair[1].rank, pair[0].key))
    return dataclasses.replace(
        result,
        best=best,
        verdict=verdict,
        met=verdict.met,
        explanation=_explanation(space, judge.goal, [one for _, one in judged], times, best),
        finals=times,
    )


def _contenders(space: SearchSpace, goal: Goal, result: TuningResult) -> list[tuple[Trial, Outcome]]:
    """The baseline where it was measured, then the best."""
    if not result.met or not goal.looks_at_latency:
        return []
    judge, baseline = judge_of(space, goal, result.trials), plan_key(space.baseline)
    judged = [
        (judge.verdict(trial.outcome), trial, trial.outcome)
        for trial in result.trials
        if trial.outcome is not None and goal.can_judge(trial.outcome)
    ]
    kept = sorted((one for one in judged if one[0].met), key=lambda one: (one[0].rank, one[1].key))[:FINALISTS]
    first = [one for one in judged if one[1].key == baseline]
    return [(trial, outcome) for _, trial, outcome in (*first, *(one for one in kept if one[1].key != baseline))]


def _recorded(record: FinalsRecord | None, contenders: Sequence[tuple[Trial, Outcome]]) -> FinalTimes | None:
    wanted = {trial.key for trial, _ in contenders}
    known = record.finals() if record is not None else ()
    return next((times for times in reversed(known) if {plan_key(plan) for plan in times.plans} == wanted), None)


def _timed(meter: Meter, record: FinalsRecord | None, contenders: Sequence[tuple[Trial, Outcome]]) -> FinalTimes:
    plans = tuple(trial.plan for trial, _ in contenders)
    times = FinalTimes(plans, tuple(meter.latencies_ms(plans)))
    if record is not None:
        record.end_finals(times)
    return times


def _with_latency(trial: Trial, outcome: Outcome, times: FinalTimes) -> Outcome:
    latency_ms = times.of(trial.plan)
    assert latency_ms is not None, "every contender was timed"
    return dataclasses.replace(outcome, latency_ms=latency_ms)


def _explanation(space: SearchSpace, goal: Goal, verdicts: Sequence[Verdict], times: FinalTimes, best: Trial) -> str:
    own_ms, baseline_ms = times.of(best.plan), times.of(space.baseline)
    said = f"{explain(goal, verdicts)}; of {len(times.plans)} plans timed in turns it takes {own_ms:.2f} ms"
    return said if baseline_ms is None else f"{said}, the unchanged network {baseline_ms:.2f} ms"
