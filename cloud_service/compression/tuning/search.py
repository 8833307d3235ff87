"""The search for a plan: the menu of uniform plans, sensitivity, exchange by benefit per loss, local improvement.

What it returns depends on the outcomes and the seed alone. Latencies are taken as they come, and the least of many
noisy times is too small: `finals.settle` times the few best plans again, in turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

from cloud_service.compression.tuning.additive import AdditiveModel, Effect, Move, by_benefit
from cloud_service.compression.tuning.goal import Goal, Judge, Outcome
from cloud_service.compression.tuning.result import TuningResult, conclude, judge_of
from cloud_service.compression.tuning.space import Plan, SearchSpace, changed, plan_key
from cloud_service.compression.tuning.trials import Budget, BudgetSpent, Evaluate, Record, Trial, TrialLog
from shared.clock import Clock

_COVERAGE_SHARE = 0.8
"""Share of the trials after which parts that no change was tried of are left untried."""

_SENSITIVITY_SHARE = 0.6
"""Share of the trials after which sensitivity is taken as it is, so that some are left to use it."""


def tune(
    space: SearchSpace,
    goal: Goal,
    budget: Budget,
    evaluate: Evaluate,
    clock: Clock,
    *,
    seed: int = 0,
    record: Record | None = None,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> TuningResult:
    """Find the plan of `space` that serves `goal` best, trying plans with `evaluate` while `budget` lasts.

    `evaluate` builds and measures one plan. What else it raises is recorded as that plan's failure. With a
    `record` (a `Journal`), plans that an earlier run tried are not run again.

    Returns:
        The best plan tried, even where the goal is not met; see `TuningResult`.

    Raises:
        CheckpointError: the record cannot be written.
        WriteError, OSError: `evaluate` found the disk full or not writable; the trial is not recorded.
    """
    log = TrialLog(evaluate, budget, clock, record, on_trial)
    with suppress(BudgetSpent):
        _Search(space, goal, budget, log, Random(seed)).run()  # noqa: S311
    return conclude(space, goal, [trial for trial in log.known if space.holds(trial.plan)])


class _Search:
    """One search; each phase asks for trials until it has nothing to ask or the budget is spent."""

    def __init__(self, space: SearchSpace, goal: Goal, budget: Budget, log: TrialLog, random: Random) -> None:
        self._space, self._goal, self._budget, self._log, self._random = space, goal, budget, log, random

    def run(self) -> None:
        menu = [self._log.ask(plan) for plan in self._space.menu()]
        measured = [trial for trial in menu if self._goal.can_judge(trial.outcome)]
        if not measured:
            return
        judge = judge_of(self._space, self._goal, measured)
        anchor = measured[0] if measured[0] is menu[0] else max(measured, key=lambda trial: _of(trial).quality)
        self._probe(judge, anchor, menu)
        model = AdditiveModel(self._space, anchor.plan, self._effects(judge, anchor))
        self._exchange(judge, model.chain())
        self._improve(judge, model)

    def _probe(self, judge: Judge, anchor: Trial, menu: list[Trial]) -> None:
        """Each change alone against the anchor: of every part the most promising one first, then the others."""
        promise = self._promise(judge, menu)
        firsts, others = [], []
        for part, offered in self._space.choices.items():
            new = sorted((choice for choice in offered if choice != anchor.plan[part]), key=promise.__getitem__)
            firsts += [(part, choice) for choice in new[:1]]
            others += [(part, choice) for choice in new[1:]]
        for changes, share in ((firsts, _COVERAGE_SHARE), (others, _SENSITIVITY_SHARE)):
            self._random.shuffle(changes)
            changes.sort(key=lambda change: promise[change[1]])
            for change in changes:
                if len(self._log.asked) >= max(len(menu) + 1, share * self._budget.trials):
                    break
                self._log.ask(changed(anchor.plan, change))

    def _promise(self, judge: Judge, menu: list[Trial]) -> dict[str, tuple[float, ...]]:
        """By choice, less is better: first whether the uniform plan keeps the tolerance, then what it costs.

        Those whose uniform plan failed are last.
        """
        found = {
            trial.key: (float(not judge.keeps_tolerance(_of(trial))), judge.goal.cost(_of(trial)))
            for trial in menu
            if judge.goal.can_judge(trial.outcome)
        }
        names = dict.fromkeys(choice for offered in self._space.choices.values() for choice in offered)
        return {name: found.get(plan_key(self._space.uniform(name)), (math.inf,)) for name in names}

    def _effects(self, judge: Judge, anchor: Trial) -> dict[tuple[str, str], Effect]:
        """Of each change tried alone; of one not tried, its share of the uniform plan's."""
        outcomes: dict[tuple[str, str], tuple[Outcome, int]] = {}
        for part, offered in self._space.choices.items():
            for choice in offered:
                found = self._evidence(anchor, part, choice)
                if found is not None:
                    outcomes[part, choice] = found
        harms = _Harm(judge, _of(anchor), [outcome for outcome, _ in outcomes.values()])
        base = self._goal.cost(_of(anchor))
        return {
            change: Effect((self._goal.cost(outcome) - base) / share, harms.of(outcome) / share)
            for change, (outcome, share) in outcomes.items()
        }

    def _evidence(self, anchor: Trial, part: str, choice: str) -> tuple[Outcome, int] | None:
        """An outcome in which `part` has `choice`, and among how many parts its effect is shared."""
        alone, uniform = changed(anchor.plan, (part, choice)), self._space.uniform(choice)
        plan = alone if self._log.knows(alone) else uniform
        if choice == anchor.plan[part] or not self._log.knows(plan):
            return None
        outcome = self._log.ask(plan).outcome
        if outcome is None or not self._goal.can_judge(outcome):
            return None
        return outcome, sum(plan[other] != anchor.plan[other] for other in plan)

    def _exchange(self, judge: Judge, chain: list[Plan]) -> None:
        """Find by bisection the boldest plan of `chain` that keeps the limits."""
        if self._is_met(judge, self._log.ask(chain[-1])):
            return
        low, high = -1, len(chain) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_met(judge, self._log.ask(chain[middle])):
                low = middle
            else:
                high = middle

    def _improve(self, judge: Judge, model: AdditiveModel) -> None:
        """From the best plan so far, take the first neighbour that is better; stop when patience ends."""
        best, patience = self._best(judge), self._budget.patience
        moves = self._neighbours(judge, model, best)
        while patience > 0:
            move = next((move for move in moves if not self._log.knows(move.plan)), None)
            if move is None:
                return
            patience -= 1
            trial = self._log.ask(move.plan)
            if self._goal.can_judge(trial.outcome) and _rank(judge, trial) < _rank(judge, best):
                best, patience = trial, self._budget.patience
                moves = self._neighbours(judge, model, best)

    def _neighbours(self, judge: Judge, model: AdditiveModel, best: Trial) -> Iterator[Move]:
        """Promising single changes and exchanges, then the other single changes: the forecast may be wrong."""
        singles = model.single_moves(best.plan)
        self._random.shuffle(singles)
        broken = not judge.verdict(_of(best)).met
        promising = by_benefit([*singles, *model.exchanges(best.plan, singles)], lower_harm=broken)
        yield from promising
        yield from singles

    def _best(self, judge: Judge) -> Trial:
        judged = [trial for trial in self._log.asked if self._goal.can_judge(trial.outcome)]
        return min(judged, key=lambda trial: _rank(judge, trial))

    def _is_met(self, judge: Judge, trial: Trial) -> bool:
        return self._goal.can_judge(trial.outcome) and judge.verdict(_of(trial)).met


class _Harm:
    """How much nearer to the goal's limits a plan is than the anchor: loss, latency and bytes, each in units of
    its largest change. Where every outcome says its divergence, that stands for loss.
    """

    def __init__(self, judge: Judge, anchor: Outcome, outcomes: list[Outcome]) -> None:
        self._judge, self._anchor = judge, anchor
        self._smooth = all(outcome.divergence is not None for outcome in (anchor, *outcomes))
        changes = [self._changes(outcome) for outcome in outcomes]
        self._scales = [
            max((abs(change) for change in column), default=0.0) or 1.0 for column in zip(*changes, strict=True)
        ]

    def of(self, outcome: Outcome) -> float:
        """Above 0: nearer to the limits, or further over them."""
        return sum(change / scale for change, scale in zip(self._changes(outcome), self._scales, strict=True))

    def _changes(self, outcome: Outcome) -> tuple[float, float, float]:
        goal, base = self._judge.goal, self._anchor
        loss = self._judge.verdict(outcome).loss_points - self._judge.verdict(base).loss_points
        if self._smooth:
            loss = (outcome.divergence or 0.0) - (base.divergence or 0.0)
        return (
            0.0 if goal.tolerance_points is None else loss,
            0.0 if goal.latency_limit_ms is None else outcome.latency_ms - base.latency_ms,
            0.0 if goal.bytes_limit is None else float(outcome.bytes - base.bytes),
        )


def _rank(judge: Judge, trial: Trial) -> tuple[float, ...]:
    return judge.verdict(_of(trial)).rank


def _of(trial: Trial) -> Outcome:
    if trial.outcome is None:
        raise ValueError("a failed trial has no outcome")
    return trial.outcome
