"""Where chains start, and what the smoothing behind it says."""

import numpy as np
from scipy import stats

from cloud_service.calibration.risk_curve import candidate_thresholds
from cloud_service.calibration.starts import SmoothSample, choose_start, most_errors, smooth_chances


def test_without_experience_the_model_is_believed() -> None:
    doubts = np.array([0.01, 0.2, 0.7])
    np.testing.assert_allclose(smooth_chances(doubts, np.zeros(3, dtype=bool))[0], 0.01, rtol=0.5)


def test_an_overconfident_model_is_corrected_by_what_came_of_its_answers() -> None:
    random = np.random.default_rng(0)
    doubts = random.uniform(0.0, 0.3, 4000)
    wrong = random.uniform(size=4000) < np.minimum(1.0, 2.0 * doubts)
    assert abs(smooth_chances(doubts, wrong).mean() - wrong.mean()) < 0.01


def test_the_most_errors_that_still_show_a_risk_are_exact() -> None:
    kept = np.arange(0, 700, 13, dtype=np.float64)
    for alpha, level in ((0.01, 0.1), (0.05, 0.05), (0.2, 0.00625)):
        for count, most in zip(kept.astype(int), most_errors(kept, alpha, level).astype(int), strict=True):
            assert most == -1 or stats.binom.cdf(most, count, alpha) <= level
            assert count == 0 or stats.binom.cdf(most + 1, count, alpha) > level


def test_a_start_keeps_enough_to_be_tested_and_little_enough_to_pass() -> None:
    random = np.random.default_rng(1)
    scores = random.uniform(size=400)
    tuned = SmoothSample(scores, 0.3 * (1 - scores) ** 3)
    thresholds = candidate_thresholds(scores, 0.0)
    start = thresholds[choose_start(tuned, thresholds, 1200, 0.01, 0.1)]
    assert 1200 * (1 - start) > 229, "fewer without an error show nothing at 1%"
    assert 0.3 * (1 - start) ** 3 / 4 < 0.01


def test_thresholds_fall_and_end_with_one_that_keeps_everything() -> None:
    thresholds = candidate_thresholds(np.array([0.9, 0.5, 0.5, 0.7]), 0.0)
    assert (np.diff(thresholds) < 0).all()
    assert set(thresholds) >= {0.9, 0.7, 0.5, 0.0}
    assert candidate_thresholds(np.array([]), 0.0).tolist() == [0.0]
    assert len(candidate_thresholds(np.random.default_rng(0).uniform(size=50_000), 0.0)) <= 4000
