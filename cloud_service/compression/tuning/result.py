"""What a tuning run found: the choice among its trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cloud_service.compression.tuning.explanation import explain
from cloud_service.compression.tuning.goal import Goal, Judge, Objective, Outcome, Verdict
from cloud_service.compression.tuning.space import Plan, PlanKey, SearchSpace, changed, plan_key
from cloud_service.compression.tuning.trials import Trial
from shared.documents import Document


@dataclass(frozen=True)
class Sensitivity:
    """What one part loses and gains in `choice`, all others unchanged. Loss in points, as the goal judges it."""

    part: str
    choice: str
    loss_points: float
    latency_change_ms: float
    bytes_change: int


@dataclass(frozen=True)
class FinalTimes(Document):
    """Milliseconds of one text by each of `plans`, which took turns within every round."""

    plans: tuple[dict[str, str], ...]
    latencies_ms: tuple[float, ...]

    def of(self, plan: Plan) -> float | None:
        """The time of `plan`; None where it was not among them."""
        times_ms = {plan_key(one): ms for one, ms in zip(self.plans, self.latencies_ms, strict=True)}
        return times_ms.get(plan_key(plan))


@dataclass(frozen=True)
class TuningResult:
    """The best plan tried, `met` where it serves the goal, and why in `explanation`.

    `verdict` is None, and so may be `best.outcome`, where no plan could be measured. `pareto` are the plans
    that no other beats in everything that the goal looks at, cheapest first; `trials` is every trial. `finals`
    are the times by which the best was chosen in the end, where they were taken; `verdict` then goes by them.
    `parts`: how many parts have more than one choice; `sensitivity` may not reach them all.
    """

    best: Trial
    verdict: Verdict | None
    met: bool
    explanation: str
    pareto: tuple[Trial, ...]
    sensitivity: tuple[Sensitivity, ...]
    trials: tuple[Trial, ...]
    finals: FinalTimes | None = None
    parts: int = 0

    @property
    def parts_tried(self) -> int:
        """Of how many parts a change was measured alone."""
        return len({one.part for one in self.sensitivity})


def judge_of(space: SearchSpace, goal: Goal, trials: Sequence[Trial]) -> Judge:
    """The goal with its reference: as the goal says, or the baseline's quality, or the best quality measured.

    A limit by the quickest uniform plan becomes one in milliseconds, if such a plan is among `trials`.
    """
    judge = Judge(goal, _reference_quality(space, goal, trials))
    quickest_ms = _quickest_uniform_ms(space, judge, trials)
    if goal.latency_ratio_limit is None or quickest_ms is None:
        return judge
    limits_ms = [goal.latency_ratio_limit * quickest_ms, goal.latency_limit_ms]
    limit_ms = min(limit for limit in limits_ms if limit is not None)
    return dataclasses.replace(judge, goal=dataclasses.replace(goal, latency_limit_ms=limit_ms))


def _reference_quality(space: SearchSpace, goal: Goal, trials: Sequence[Trial]) -> float:
    if goal.reference_quality is not None:
        return goal.reference_quality
    outcome = _outcomes(trials).get(plan_key(space.baseline))
    qualities = [outcome.quality] if outcome else [found.quality for found in _outcomes(trials).values()]
    return max(qualities, default=0.0)


def _quickest_uniform_ms(space: SearchSpace, judge: Judge, trials: Sequence[Trial]) -> float | None:
    """Of the uniform plans that keep the tolerance; the others say nothing of what can be had."""
    found = _outcomes(trials)
    outcomes = [found[key] for key in map(plan_key, space.menu()) if key in found]
    kept_ms = [one.latency_ms for one in outcomes if judge.goal.can_judge(one) and judge.keeps_tolerance(one)]
    return min(kept_ms, default=None)


def conclude(space: SearchSpace, goal: Goal, trials: Sequence[Trial]) -> TuningResult:
    """Choose among `trials` (at least one). A plan that breaks the goal is never chosen over one that keeps it."""
    judge, parts = judge_of(space, goal, trials), sum(len(offered) > 1 for offered in space.choices.values())
    goal = judge.goal
    judged = [
        (trial, judge.verdict(trial.outcome)) for trial in trials if trial.outcome and goal.can_judge(trial.outcome)
    ]
    if not judged:
        return TuningResult(trials[0], None, False, _nothing_measured(trials), (), (), tuple(trials), parts=parts)
    best, verdict = min(judged, key=lambda pair: (pair[1].rank, pair[0].key))
    met, explanation = verdict.met, explain(goal, [verdict for _, verdict in judged])
    if not _loss_is_known(space, goal, trials):
        met, explanation = False, "the unchanged network could not be measured, so that no loss is known"
    sensitivity = _sensitivity(space, judge, trials)
    return TuningResult(best, verdict, met, explanation, _pareto(goal, judged), sensitivity, tuple(trials), parts=parts)


def _loss_is_known(space: SearchSpace, goal: Goal, trials: Sequence[Trial]) -> bool:
    """Whether there is a reference, or none is needed: nothing is limited, or pairs bring their own."""
    needless = goal.tolerance_points is None or goal.confidence is not None
    return needless or goal.reference_quality is not None or plan_key(space.baseline) in _outcomes(trials)


def _outcomes(trials: Sequence[Trial]) -> dict[PlanKey, Outcome]:
    return {trial.key: trial.outcome for trial in trials if trial.outcome is not None}


def _nothing_measured(trials: Sequence[Trial]) -> str:
    failure = next((trial.failure for trial in trials if trial.failure), "its texts were not counted in pairs")
    return f"no plan could be measured; of {len(trials)} tried, the first failed: {failure}"


def _pareto(goal: Goal, judged: Sequence[tuple[Trial, Verdict]]) -> tuple[Trial, ...]:
    """Of plans alike in every figure, the first tried."""
    front: dict[tuple[float, ...], Trial] = {}
    for trial, verdict in sorted(judged, key=lambda pair: _axes(goal, *pair)):
        axes = _axes(goal, trial, verdict)
        if not any(all(a <= b for a, b in zip(better, axes, strict=True)) for better in front):
            front[axes] = trial
    return tuple(front.values())


def _axes(goal: Goal, trial: Trial, verdict: Verdict) -> tuple[float, ...]:
    """What the goal looks at, the objective first; less is better in each."""
    outcome = trial.outcome
    if outcome is None:
        raise ValueError("a failed trial has no figures")
    axes = [verdict.cost, verdict.loss_points]
    if goal.latency_limit_ms is not None or goal.objective is Objective.OFFLOAD:
        axes.append(outcome.latency_ms)
    if goal.bytes_limit is not None:
        axes.append(float(outcome.bytes))
    return tuple(axes)


def _sensitivity(space: SearchSpace, judge: Judge, trials: Sequence[Trial]) -> tuple[Sensitivity, ...]:
    """Of every change that was tried alone against the baseline, the most harmful first."""
    outcomes = {key: outcome for key, outcome in _outcomes(trials).items() if judge.goal.can_judge(outcome)}
    base = outcomes.get(plan_key(space.baseline))
    found = []
    for part, offered in space.choices.items() if base else ():
        for choice in offered:
            alone = outcomes.get(plan_key(changed(space.baseline, (part, choice))))
            if base and alone and choice != space.baseline[part]:
                loss = judge.verdict(alone).loss_points
                faster, smaller = alone.latency_ms - base.latency_ms, alone.bytes - base.bytes
                found.append(Sensitivity(part, choice, loss, faster, smaller))
    return tuple(sorted(found, key=lambda one: -one.loss_points))
