"""The certificate's promise, tried on populations whose true risk is known."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from cloud_service.calibration.learn_then_test import CertifiedStep, certify, share_delta
from cloud_service.calibration.risk_curve import ScoredSample, candidate_thresholds, measure
from cloud_service.calibration.starts import SmoothSample, choose_start, smooth_chances

ALPHAS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20)
DELTA = 0.1


def draw(random: np.random.Generator, count: int, worst: float, power: float) -> ScoredSample:
    """Scores uniform in 0..1; the chance of a wrong answer is worst · (1 - score)^power."""
    scores = random.uniform(size=count)
    return ScoredSample(scores, random.uniform(size=count) < worst * (1 - scores) ** power)


def true_risk(threshold: np.float64, worst: float, power: float) -> np.float64:
    """Chance of a wrong answer among scores of at least `threshold`."""
    return worst * (1 - threshold) ** power / (power + 1)


def calibrate(tuned: ScoredSample, tested: ScoredSample, alphas: Sequence[float] = ALPHAS) -> list[CertifiedStep]:
    thresholds = candidate_thresholds(tuned.scores, 0.0)
    smooth = SmoothSample(tuned.scores, smooth_chances(1.0 - tuned.scores, tuned.wrong))
    levels = share_delta(alphas, DELTA, 0.05, 0.5)
    starts = [choose_start(smooth, thresholds, len(tested), *each) for each in zip(alphas, levels, strict=True)]
    return certify(measure(tested, thresholds), alphas, starts, levels)


@pytest.mark.parametrize(("worst", "power"), [(0.16, 1.0), (0.6, 4.0), (0.1, 0.01)])
def test_all_thresholds_of_the_grid_hold_at_once_as_often_as_promised(worst: float, power: float) -> None:
    random = np.random.default_rng(11)
    rounds = 400
    broken = 0
    for _ in range(rounds):
        tuned, tested = draw(random, 300, worst, power), draw(random, 600, worst, power)
        thresholds = candidate_thresholds(tuned.scores, 0.0)
        steps = calibrate(tuned, tested)
        certified = [(step.alpha, thresholds[step.index]) for step in steps if step.index is not None]
        broken += any(true_risk(threshold, worst, power) > alpha for alpha, threshold in certified)
    assert broken <= stats.binom.ppf(0.999, rounds, DELTA)


def test_a_good_model_keeps_much_and_looser_alphas_keep_more() -> None:
    random = np.random.default_rng(5)
    tuned, tested = draw(random, 500, 0.6, 4.0), draw(random, 1200, 0.6, 4.0)
    steps = calibrate(tuned, tested)
    indices = [-1 if step.index is None else step.index for step in steps]
    assert indices == sorted(indices)
    assert indices[-1] == len(candidate_thresholds(tuned.scores, 0.0)) - 1, "at 20% everything may be kept"
    assert indices[ALPHAS.index(0.05)] > 0
    assert all(step.risk_bound <= step.alpha for step in steps if step.index is not None)


def test_a_model_that_only_guesses_gets_no_threshold() -> None:
    random = np.random.default_rng(5)
    tuned, tested = draw(random, 500, 0.9, 0.01), draw(random, 1200, 0.9, 0.01)
    assert all(step.index is None for step in calibrate(tuned, tested))


def test_a_chain_rejected_to_its_end_hands_its_share_to_the_next_smaller_alpha() -> None:
    flawless = ScoredSample(np.linspace(0, 1, 200), np.zeros(200, dtype=bool))
    curve = measure(flawless, np.unique(flawless.scores)[::-1])
    alone = certify(curve, (0.015,), [199], [0.03])
    assert alone[0].index is None, "0 errors of 200 cannot show 1.5% at level 0.03"
    together = certify(curve, (0.2, 0.1, 0.015), [199, 199, 199], [0.03, 0.03, 0.03])
    assert together[2].index == 199, "but at 0.09 they can"
    assert together[2].level == pytest.approx(0.09)


def test_the_favourite_alpha_gets_half_of_delta_and_no_more_than_delta_is_spent() -> None:
    shares = share_delta(ALPHAS, DELTA, 0.05, 0.5)
    assert shares[ALPHAS.index(0.05)] == pytest.approx(0.05)
    assert sum(shares) == pytest.approx(DELTA)
    assert sum(share_delta(ALPHAS, DELTA, 0.4, 0.5)) == pytest.approx(DELTA)
