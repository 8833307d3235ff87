"""The search finds what a person would have found by trying everything, and loses nothing on the way."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_service.compression.tuning.goal import Confidence, Goal, Objective, Outcome, Pairs
from cloud_service.compression.tuning.result import TuningResult, judge_of
from cloud_service.compression.tuning.search import tune
from cloud_service.compression.tuning.space import Plan, PlanKey, SearchSpace, plan_key
from cloud_service.compression.tuning.trials import Budget, Trial
from shared.errors import ConfigurationError
from tests.support.fake_clock import FakeClock
from tests.unit.cloud_service.compression.tuning.landscapes import CHOICES, Landscape, simple

LATENCY = Goal(Objective.LATENCY, tolerance_points=0.3)
AMPLE = Budget()


def search(landscape: Landscape, goal: Goal = LATENCY, budget: Budget = AMPLE, seed: int = 0) -> TuningResult:
    return tune(landscape.space, goal, budget, landscape, FakeClock(), seed=seed)


def every_plan(space: SearchSpace) -> list[Plan]:
    return [dict(zip(space.choices, picks, strict=True)) for picks in itertools.product(*space.choices.values())]


def best_latency_ms(landscape: Landscape, tolerance: float) -> float:
    outcomes = [landscape(plan) for plan in every_plan(landscape.space)]
    return min(outcome.latency_ms for outcome in outcomes if outcome.quality >= 90.0 - tolerance - 1e-9)


def test_the_quickest_plan_within_the_tolerance_is_found_without_trying_all() -> None:
    landscape = simple()
    result = search(landscape)
    assert result.met and result.best.outcome
    assert len(result.trials) < 120 < 3**6
    assert result.best.outcome.latency_ms == best_latency_ms(landscape, 0.3)
    assert result.explanation == "the plan loses 0.30 points; 0.30 are allowed"


def test_a_tolerance_that_no_plan_keeps_is_said_with_the_best_there_is() -> None:
    landscape = simple()
    goal = Goal(Objective.LATENCY, tolerance_points=0.3, reference_quality=90.52)
    result = search(landscape, goal)
    assert not result.met
    assert result.explanation == "no plan loses at most 0.30 points; the best loses 0.52"
    assert result.best.outcome and result.best.outcome.quality == 90.0


def test_a_latency_limit_that_no_plan_keeps_is_said_in_milliseconds() -> None:
    goal = Goal(Objective.OFFLOAD, tolerance_points=0.1, latency_limit_ms=5.0)
    result = search(simple(), goal)
    assert not result.met
    assert result.explanation.startswith("no plan that loses at most 0.10 points runs within 5.00 ms; the best takes")


def test_least_offload_within_a_latency_limit_is_found() -> None:
    landscape = simple()
    result = search(landscape, Goal(Objective.OFFLOAD, latency_limit_ms=9.0))
    outcomes = [landscape(plan) for plan in every_plan(landscape.space)]
    least = min(outcome.offload for outcome in outcomes if outcome.latency_ms <= 9.0)
    assert result.met and result.verdict and result.verdict.cost == pytest.approx(least)


def test_a_limit_by_the_quickest_uniform_plan_looks_only_at_those_that_keep_the_tolerance() -> None:
    goal = Goal(Objective.OFFLOAD, tolerance_points=0.3, latency_ratio_limit=1.25)
    result = search(simple(), goal)
    # int4 takes 6 ms and loses 2.1 points; int8 takes 12 ms and loses 0.3.
    judge = judge_of(simple().space, goal, result.trials)
    assert judge.goal.latency_limit_ms == pytest.approx(1.25 * 12.0)
    assert result.met and result.best.outcome and 12.0 <= result.best.outcome.latency_ms <= 15.0


def test_every_part_is_tried_before_any_is_tried_twice() -> None:
    landscape = simple(parts=30)
    result = search(landscape, budget=Budget(trials=60))
    alone = [trial for trial in result.trials if list(trial.plan.values()).count("fp32") == 29]
    assert result.parts_tried == result.parts == 30
    # int4 is quicker as a whole, but loses more than is allowed, as int8 does: then the quicker one comes first.
    assert len({key_of_change(trial.plan) for trial in alone[:30]}) == 30
    assert {choice for trial in alone[:30] for choice in trial.plan.values()} == {"fp32", "int4"}


def test_of_each_part_the_quickest_precision_that_keeps_the_tolerance_as_a_whole_comes_first() -> None:
    landscape = simple(parts=6)
    result = search(landscape, budget=Budget(trials=9))
    alone = [trial for trial in result.trials if list(trial.plan.values()).count("fp32") == 5]
    assert alone and {choice for trial in alone for choice in trial.plan.values()} == {"fp32", "int8"}


def test_where_the_trials_reach_not_all_parts_some_are_left_to_use_what_was_learned() -> None:
    result = search(simple(parts=40), budget=Budget(trials=30))
    assert (result.parts_tried, result.parts) == (21, 40)
    assert len(result.trials) == 30


def key_of_change(plan: Plan) -> str:
    return next(part for part, choice in plan.items() if choice != "fp32")


def test_sensitivity_names_the_part_that_loses_most() -> None:
    worst = search(simple()).sensitivity[0]
    assert (worst.part, worst.choice) == ("layers.5", "int4")
    assert worst.loss_points == pytest.approx(0.6) and worst.latency_change_ms == -3.0


def test_divergence_tells_parts_apart_that_lose_no_whole_text() -> None:
    quiet = simple(parts=8)

    def found_ms(smooth: bool) -> float:
        def evaluate(plan: Plan) -> Outcome:
            outcome = quiet(plan)
            loss = 90.0 - outcome.quality
            divergence = loss if smooth else None
            return Outcome(90.0 - (loss > 0.4), outcome.latency_ms, outcome.bytes, divergence=divergence)

        result = tune(quiet.space, LATENCY, Budget(trials=32), evaluate, FakeClock())
        assert result.met and result.best.outcome
        return result.best.outcome.latency_ms

    assert found_ms(smooth=True) < found_ms(smooth=False)


def test_the_pareto_set_holds_no_plan_that_another_beats() -> None:
    result = search(simple())
    figures = [(t.outcome.latency_ms, 90.0 - t.outcome.quality) for t in result.pareto if t.outcome]
    assert len(figures) == len(result.pareto) >= 3
    assert figures == sorted(figures)
    assert [loss for _, loss in figures] == sorted((loss for _, loss in figures), reverse=True)


def test_failed_trials_are_recorded_and_their_choice_is_left_alone() -> None:
    landscape = simple()
    landscape.fails = lambda key: ("layers.0", "int4") in key
    result = search(landscape)
    assert result.met and result.best.plan["layers.0"] != "int4"
    failed = [trial for trial in result.trials if trial.outcome is None]
    assert failed and {trial.failure for trial in failed} == {"ONNX Runtime does not take it"}


def test_a_crash_that_is_no_error_of_ours_ends_its_trial_alone() -> None:
    landscape = simple()

    def evaluate(plan: Plan) -> Outcome:
        if plan["layers.1"] == "int8":
            raise MemoryError("no room")
        return landscape(plan)

    result = tune(landscape.space, LATENCY, Budget(), evaluate, FakeClock())
    assert result.met and any(trial.failure == "MemoryError: no room" for trial in result.trials)


def test_figures_that_are_no_numbers_are_a_failure() -> None:
    def evaluate(plan: Plan) -> Outcome:
        return Outcome(float("nan") if plan["a"] == "int8" else 90.0, 1.0, 1)

    result = tune(SearchSpace.of(["a"], CHOICES, "fp32"), LATENCY, Budget(), evaluate, FakeClock())
    assert [trial.failure for trial in result.trials if trial.outcome is None] == ["its figures are not finite numbers"]


def test_where_everything_fails_the_first_failure_is_told() -> None:
    landscape = simple()
    landscape.fails = lambda key: True
    result = search(landscape)
    assert not result.met and result.best.outcome is None
    assert "of 3 tried, the first failed: ONNX Runtime does not take it" in result.explanation


def test_without_the_unchanged_network_no_loss_is_claimed() -> None:
    landscape = simple()
    landscape.fails = lambda key: {choice for _, choice in key} == {"fp32"}
    result = search(landscape)
    assert not result.met and "unchanged network could not be measured" in result.explanation
    assert result.best.outcome is not None


def test_the_budget_of_trials_holds_and_one_trial_is_always_run() -> None:
    landscape = simple()
    assert len(search(landscape, budget=Budget(trials=17)).trials) == 17
    assert len(search(landscape, budget=Budget(seconds=0.0)).trials) == 1


def test_the_budget_of_seconds_holds() -> None:
    clock, landscape = FakeClock(), simple()

    def evaluate(plan: Plan) -> Outcome:
        clock.advance(10.0)
        return landscape(plan)

    result = tune(landscape.space, LATENCY, Budget(seconds=95.0), evaluate, clock)
    assert len(result.trials) == 10 and result.trials[0].seconds == 10.0


def test_the_same_seed_makes_the_same_trials_and_no_plan_twice() -> None:
    one, other = simple(), simple()
    search(one, seed=3)
    search(other, seed=3)
    assert one.calls == other.calls
    assert len(set(one.calls)) == len(one.calls)


def test_confidence_asks_for_more_texts_where_they_cannot_show_so_small_a_loss() -> None:
    result = search(simple(), Goal(Objective.LATENCY, 0.1, Confidence(delta=0.1)))
    assert not result.met
    assert result.explanation.startswith("no plan is shown to lose at most 0.10 points; the best may lose 0.30")


def test_confidence_chooses_a_plan_whose_bound_is_within_the_tolerance() -> None:
    result = search(simple(), Goal(Objective.LATENCY, 1.0, Confidence(delta=0.1)))
    assert result.met and result.best.outcome and result.verdict
    assert 90.0 - result.best.outcome.quality < result.verdict.loss_points <= 1.0


def test_confidence_without_pairs_is_told() -> None:
    def evaluate(plan: Plan) -> Outcome:
        return Outcome(90.0, 1.0, 1)

    goal = Goal(Objective.LATENCY, 1.0, Confidence())
    result = tune(simple().space, goal, Budget(), evaluate, FakeClock())
    assert not result.met and "not counted in pairs" in result.explanation


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_a_confidence_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(ConfigurationError, match="delta"):
        Confidence(delta)


def test_a_space_whose_baseline_is_not_offered_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="baseline"):
        SearchSpace.of(["a"], ["int8"], "fp32")
    with pytest.raises(ConfigurationError, match="nothing to tune"):
        SearchSpace.of([], ["int8"], "int8")


@st.composite
def landscapes(draw: st.DrawFn) -> Landscape:
    """Two to five parts; losses and times at random, also such as help or slow down; a twist and failures or none."""
    names = [f"p{number}" for number in range(draw(st.integers(2, 5)))]
    figures = random.Random(draw(st.integers(0, 2**32)))
    losses = {(name, choice): figures.uniform(-0.05, 0.5) for name in names for choice in CHOICES}
    losses |= {(name, "fp32"): 0.0 for name in names}
    times = {(name, choice): figures.uniform(0.5, 3.0) for name in names for choice in CHOICES}
    strength = draw(st.sampled_from([0.0, 0.1, 1.0]))
    failing = draw(st.sampled_from([0.0, 0.2, 0.7]))
    salt = figures.random()

    def noise(key: PlanKey, what: str) -> float:
        return random.Random(f"{salt}{what}{key}").random()

    return Landscape(
        losses, times, lambda key: strength * (noise(key, "loss") - 0.3), lambda key: noise(key, "fails") < failing
    )


GOALS: Mapping[str, Goal] = {
    "latency": LATENCY,
    "bytes": Goal(Objective.BYTES, 0.2),
    "offload": Goal(Objective.OFFLOAD, latency_limit_ms=6.0),
    "sure": Goal(Objective.LATENCY, 1.0, Confidence(0.2)),
    "limits": Goal(Objective.LATENCY, 0.3, latency_limit_ms=4.0, bytes_limit=4000, reference_quality=90.0),
}


@settings(max_examples=60, deadline=None)
@given(landscapes(), st.sampled_from(sorted(GOALS)), st.integers(1, 60), st.integers(0, 5))
def test_a_plan_that_breaks_the_goal_is_never_chosen_over_one_that_keeps_it(
    landscape: Landscape, goal_name: str, trials: int, seed: int
) -> None:
    goal = GOALS[goal_name]
    result = search(landscape, goal, Budget(trials=trials), seed)
    assert 1 <= len(result.trials) <= trials
    assert result.explanation and result.best in result.trials
    reference = goal.reference_quality or next(
        (t.outcome.quality for t in result.trials if t.outcome and set(t.plan.values()) == {"fp32"}), None
    )
    kept = [trial for trial in result.trials if trial.outcome and keeps(goal, trial.outcome, reference)]
    if result.met:
        assert result.best in kept
        costs = [goal.cost(trial.outcome) for trial in kept if trial.outcome]
        assert result.verdict and result.verdict.cost == min(costs)
        assert {t.key for t in result.pareto} <= {t.key for t in result.trials}
    else:
        assert not kept


def keeps(goal: Goal, outcome: Outcome, reference: float | None) -> bool:
    within = goal.latency_limit_ms is None or outcome.latency_ms <= goal.latency_limit_ms * (1 + 1e-9)
    within &= goal.bytes_limit is None or outcome.bytes <= goal.bytes_limit
    if goal.confidence and goal.tolerance_points is not None and outcome.pairs:
        from cloud_service.compression.tuning.bound import loss_upper_points

        pairs = outcome.pairs
        upper = loss_upper_points(pairs.lost, pairs.gained, pairs.total, goal.confidence.delta)
        return within and upper <= goal.tolerance_points
    if goal.tolerance_points is None:
        return within
    return within and reference is not None and reference - outcome.quality <= goal.tolerance_points + 1e-9


@pytest.mark.parametrize("seed", range(30))
def test_on_additive_landscapes_the_search_comes_close_to_the_best(seed: int) -> None:
    # Seeds are fixed because a local search promises nothing: of some landscape it misses the best by more.
    figures = random.Random(seed)
    names = [f"p{number}" for number in range(6)]
    losses = {(name, choice): figures.uniform(0.0, 0.4) for name in names for choice in CHOICES}
    losses |= {(name, "fp32"): 0.0 for name in names}
    times = {(name, choice): figures.uniform(1.0, 3.0) for name in names for choice in CHOICES}
    landscape = Landscape(losses, times)
    result = search(landscape, budget=Budget(trials=120))
    assert result.met and result.best.outcome
    assert result.best.outcome.latency_ms <= 1.05 * best_latency_ms(landscape, 0.3)


def test_every_trial_is_told_as_it_ends() -> None:
    told: list[Trial] = []
    landscape = simple()
    result = tune(landscape.space, LATENCY, Budget(trials=9), landscape, FakeClock(), on_trial=told.append)
    assert tuple(told) == result.trials
    assert plan_key(told[0].plan) == plan_key(landscape.space.baseline)


def test_the_bound_covers_the_true_loss_as_often_as_it_says() -> None:
    from cloud_service.compression.tuning.bound import loss_upper_points

    draw = random.Random(1)
    total, lost_ratio, gained_ratio, delta = 300, 0.03, 0.02, 0.2
    misses = 0
    for _ in range(400):
        fates = [draw.random() for _ in range(total)]
        pairs = Pairs(
            sum(f < lost_ratio for f in fates), sum(lost_ratio <= f < lost_ratio + gained_ratio for f in fates), total
        )
        misses += loss_upper_points(pairs.lost, pairs.gained, total, delta) < 100 * (lost_ratio - gained_ratio)
    assert misses <= 400 * delta
