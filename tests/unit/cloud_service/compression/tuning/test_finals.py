"""Of the few best plans the one is chosen that is quickest when they are timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cloud_service.compression.tuning.finals import FINALISTS, settle
from cloud_service.compression.tuning.goal import Goal, Objective
from cloud_service.compression.tuning.journal import Journal
from cloud_service.compression.tuning.result import TuningResult, judge_of
from cloud_service.compression.tuning.search import tune
from cloud_service.compression.tuning.space import Plan, plan_key
from cloud_service.compression.tuning.trials import Budget, Trial
from tests.support.fake_clock import FakeClock
from tests.unit.cloud_service.compression.tuning.landscapes import Landscape, simple

GOAL = Goal(Objective.LATENCY, tolerance_points=0.3)
LANDSCAPE = simple(4)
BASELINE = LANDSCAPE.space.baseline


class ScriptedMeter:
    """A `Meter` whose times are made up; remembers what it was asked to time."""

    def __init__(self, latency_ms: Callable[[Plan], float]) -> None:
        self.asked: list[tuple[Plan, ...]] = []
        self._latency_ms = latency_ms

    def latencies_ms(self, plans: Sequence[Plan]) -> Sequence[float]:
        self.asked.append(tuple(plans))
        return [self._latency_ms(plan) for plan in plans]


def searched(goal: Goal = GOAL, landscape: Landscape = LANDSCAPE) -> TuningResult:
    return tune(landscape.space, goal, Budget(), landscape, FakeClock())


def best_first(result: TuningResult, goal: Goal = GOAL) -> list[Trial]:
    judge = judge_of(LANDSCAPE.space, goal, result.trials)
    judged = [(judge.verdict(trial.outcome), trial) for trial in result.trials if trial.outcome]
    return [trial for verdict, trial in sorted(judged, key=lambda one: (one[0].rank, one[1].key)) if verdict.met]


def test_only_the_unchanged_network_and_the_best_three_are_timed_again() -> None:
    meter, result = ScriptedMeter(lambda _: 1.0), searched()
    settle(LANDSCAPE.space, GOAL, result, meter)
    assert meter.asked == [(BASELINE, *(trial.plan for trial in best_first(result)[:FINALISTS]))]


def test_the_plan_that_is_quickest_in_turns_wins_over_the_one_whose_trial_was() -> None:
    result = searched()
    third = best_first(result)[2].plan
    meter = ScriptedMeter(lambda plan: 2.0 if plan == third else 3.0)
    settled = settle(LANDSCAPE.space, GOAL, result, meter)
    assert settled.best.plan == third != result.best.plan
    assert settled.met and settled.verdict and settled.verdict.cost == 2.0
    assert settled.explanation.endswith("of 4 plans timed in turns it takes 2.00 ms, the unchanged network 3.00 ms")
    assert settled.best in settled.trials


def test_the_unchanged_network_wins_where_no_plan_is_quicker_in_turns() -> None:
    meter = ScriptedMeter(lambda plan: 1.0 if plan == BASELINE else 1.5)
    assert settle(LANDSCAPE.space, GOAL, searched(), meter).best.plan == BASELINE


def test_of_plans_alike_in_time_the_one_that_loses_less_wins() -> None:
    settled = settle(LANDSCAPE.space, GOAL, searched(), ScriptedMeter(lambda _: 1.0))
    assert settled.best.plan == BASELINE


def test_a_finalist_that_breaks_the_limit_in_turns_is_not_chosen() -> None:
    goal = Goal(Objective.OFFLOAD, latency_limit_ms=9.0)
    result = searched(goal)
    first, second = (trial.plan for trial in best_first(result, goal)[:2])
    times_ms = {plan_key(first): 9.5, plan_key(second): 8.5}
    settled = settle(LANDSCAPE.space, goal, result, ScriptedMeter(lambda plan: times_ms.get(plan_key(plan), 20.0)))
    assert settled.met and settled.best.plan == second


@pytest.mark.parametrize(
    "goal",
    [
        Goal(Objective.BYTES, tolerance_points=0.3),
        Goal(Objective.LATENCY, tolerance_points=0.3, reference_quality=95.0),
    ],
    ids=["latency is no matter", "no plan keeps the tolerance"],
)
def test_nothing_is_timed_again_where_it_could_not_decide(goal: Goal) -> None:
    meter, result = ScriptedMeter(lambda _: 1.0), searched(goal)
    assert settle(LANDSCAPE.space, goal, result, meter) is result
    assert meter.asked == []


def test_a_rerun_takes_the_times_from_the_journal(tmp_path: Path) -> None:
    settled = []
    meter = ScriptedMeter(lambda plan: 1.0 + list(plan.values()).count("int8"))
    for _ in range(2):
        with Journal(tmp_path / "journal", "net") as journal:
            result = tune(LANDSCAPE.space, GOAL, Budget(), LANDSCAPE, FakeClock(), record=journal)
            settled.append(settle(LANDSCAPE.space, GOAL, result, meter, journal))
    assert len(meter.asked) == 1
    assert settled[0].finals is not None and settled[0].finals == settled[1].finals
    assert settled[0].best.key == settled[1].best.key


def test_other_finalists_are_timed_anew(tmp_path: Path) -> None:
    meter = ScriptedMeter(lambda _: 1.0)
    for tolerance in (0.3, 0.1):
        goal = Goal(Objective.LATENCY, tolerance)
        with Journal(tmp_path / "journal", "net") as journal:
            result = tune(LANDSCAPE.space, goal, Budget(), LANDSCAPE, FakeClock(), record=journal)
            settle(LANDSCAPE.space, goal, result, meter, journal)
    assert len(meter.asked) == 2
