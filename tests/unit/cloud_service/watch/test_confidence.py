from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cloud_service.watch.confidence import BetaMixture

MIXTURE = BetaMixture.around(0.05)
counts = st.integers(0, 500).flatmap(lambda judged: st.tuples(st.integers(0, judged), st.just(judged)))


def test_the_evidence_is_the_mixtures_likelihood_over_that_of_the_risk() -> None:
    wrong, judged, risk = 7, 60, 0.05

    def weighed(p: float) -> float:
        return float(stats.beta.pdf(p, MIXTURE.a, MIXTURE.b) * p**wrong * (1 - p) ** (judged - wrong))

    whole, _ = integrate.quad(weighed, 0, 1)
    above, _ = integrate.quad(weighed, risk, 1)
    below, _ = integrate.quad(weighed, 0, risk)
    likelihood = risk**wrong * (1 - risk) ** (judged - wrong)
    prior_below = float(stats.beta.cdf(risk, MIXTURE.a, MIXTURE.b))
    assert float(MIXTURE.log_evidence(wrong, judged, risk)) == pytest.approx(math.log(whole / likelihood))
    assert float(MIXTURE.log_evidence_above(wrong, judged, risk)) == pytest.approx(
        math.log(above / (1 - prior_below) / likelihood)
    )
    assert float(MIXTURE.log_evidence_below(wrong, judged, risk)) == pytest.approx(
        math.log(below / prior_below / likelihood)
    )


@settings(deadline=None)
@given(counts, st.sampled_from([0.01, 0.05, 0.1]))
def test_bounds_lie_around_the_estimate_and_are_where_the_evidence_reaches_its_limit(
    counted: tuple[int, int], level: float
) -> None:
    wrong, judged = counted
    lower, upper = (float(bound) for bound in MIXTURE.interval(wrong, judged, level))
    estimate = wrong / judged if judged else 0.5
    assert 0.0 <= lower <= estimate <= upper <= 1.0
    for bound in (lower, upper):
        if 1e-9 < bound < 1.0 - 1e-9:
            assert float(MIXTURE.log_evidence(wrong, judged, bound)) == pytest.approx(-math.log(level), abs=1e-3)


@given(counts)
def test_a_one_sided_bound_is_tighter_than_its_side_of_the_interval(counted: tuple[int, int]) -> None:
    wrong, judged = counted
    lower, upper = MIXTURE.interval(wrong, judged, 0.05)
    if judged:
        assert MIXTURE.lower_bound(wrong, judged, 0.05) >= float(lower) - 0.02
        assert MIXTURE.upper_bound(wrong, judged, 0.05) <= float(upper) + 0.02


def test_without_data_nothing_is_known() -> None:
    lower, upper = MIXTURE.interval([0, 0], [0, 10], 0.05)
    assert list(lower) == [0.0, 0.0] and upper[0] == 1.0 and upper[1] < 1.0
    assert (MIXTURE.lower_bound(0, 0, 0.05), MIXTURE.upper_bound(0, 0, 0.05)) == (0.0, 1.0)


def test_looking_after_every_answer_the_true_risk_is_hardly_ever_outside() -> None:
    random, risk, level, runs = np.random.default_rng(3), 0.05, 0.1, 400
    wrong = (random.uniform(size=(runs, 1500)) < risk).cumsum(axis=1)
    judged = np.arange(1, 1501)[np.newaxis, :]
    limit = -math.log(level)
    for evidence in (MIXTURE.log_evidence, MIXTURE.log_evidence_above, MIXTURE.log_evidence_below):
        missed = (evidence(wrong, judged, risk) >= limit).any(axis=1).mean()
        assert missed <= level + 3 * math.sqrt(level * (1 - level) / runs)
