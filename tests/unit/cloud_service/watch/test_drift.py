from __future__ import annotations

import math

import numpy as np
import pytest

from cloud_service.watch.drift import log_evidence_of_drift, share_moved

USUAL = np.array([0.05, 0.1, 0.25, 0.6])


def test_without_requests_there_is_no_evidence() -> None:
    assert log_evidence_of_drift([10, 20], [0, 0]) == pytest.approx(0.0)


def test_the_evidence_is_the_ratio_of_predictions_one_request_after_the_other() -> None:
    calibration, field, evidence = np.array([3.0, 5.0]), np.zeros(2), 0.0
    for place in (0, 1, 1, 0, 1):
        apart = (field[place] + 0.5) / (field.sum() + 1.0)
        alike = (field[place] + calibration[place] + 0.5) / (field.sum() + calibration.sum() + 1.0)
        evidence += math.log(apart / alike)
        field[place] += 1
    assert log_evidence_of_drift(calibration, field) == pytest.approx(evidence)


def test_scores_as_in_calibration_seldom_warn_however_often_one_looks() -> None:
    random, warned, runs = np.random.default_rng(5), 0, 300
    for _ in range(runs):
        calibration = random.multinomial(1000, USUAL)
        seen = random.multinomial(50, USUAL, size=200).cumsum(axis=0)
        warned += any(log_evidence_of_drift(calibration, look) >= -math.log(0.05) for look in seen)
    assert warned / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_scores_that_moved_warn_after_some_hundred_requests() -> None:
    calibration, moved = np.array([50, 100, 250, 600]), np.array([150, 100, 100, 150])
    assert log_evidence_of_drift(calibration, moved) > -math.log(0.01)
    assert share_moved(calibration, moved) == pytest.approx(0.35)


def test_of_nothing_no_share_has_moved() -> None:
    assert share_moved([0, 0], [1, 2]) == share_moved([1, 2], [0, 0]) == 0.0
