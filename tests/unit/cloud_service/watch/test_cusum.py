from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_service.watch.cusum import CusumRule, cusum_rule, false_alarm_probability


def alarms(risk: float, rule: CusumRule, answers: int, runs: int) -> float:
    """The share of simulated runs, from zero, in which the sum reaches its limit."""
    random = np.random.default_rng(1)
    values, reached = np.zeros(runs, np.int64), np.zeros(runs, np.bool_)
    for _ in range(answers):
        wrong = random.uniform(size=runs) < risk
        values = np.maximum(0, values + np.where(wrong, rule.step - 1, -1))
        reached |= values >= rule.limit
    return float(reached.mean())


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1])
def test_a_risk_of_alpha_seldom_alarms_and_the_limit_is_the_smallest_that_does_so(alpha: float) -> None:
    rule = cusum_rule(alpha, 0.1, 1000)
    assert false_alarm_probability(alpha, rule.step, rule.limit, 1000) <= 0.1
    assert false_alarm_probability(alpha, rule.step, rule.limit - 1, 1000) > 0.1
    assert alarms(alpha, rule, 1000, 2000) <= 0.1 + 3 * (0.09 / 2000) ** 0.5


def test_a_risen_risk_alarms_soon() -> None:
    rule = cusum_rule(0.05, 0.09, 2000)
    assert alarms(0.125, rule, 250, 2000) > 0.9
    assert alarms(0.3, rule, 100, 2000) > 0.99


def test_the_probability_is_that_of_a_sum_that_has_run_for_long() -> None:
    rule = cusum_rule(0.05, 0.1, 2000)
    probability = false_alarm_probability(0.05, rule.step, rule.limit, 2000)
    assert alarms(0.05, rule, 2000, 4000) == pytest.approx(probability, abs=0.02)


def test_of_a_small_alpha_a_wrong_answer_weighs_more() -> None:
    assert cusum_rule(0.01, 0.1, 500).step > cusum_rule(0.05, 0.1, 500).step > cusum_rule(0.5, 0.1, 500).step >= 2


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 50))
def test_a_batch_never_gives_more_than_its_answers_one_by_one(wrong: list[bool], value: int) -> None:
    rule = CusumRule(13, 100)
    one_by_one = value
    for each in wrong:
        one_by_one = rule.after(one_by_one, 1, int(each))
    assert 0 <= rule.after(value, len(wrong), sum(wrong)) <= one_by_one
