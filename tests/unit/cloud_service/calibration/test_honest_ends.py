"""Where no gate can be had, what is said instead."""

import numpy as np
import pytest

from cloud_service.calibration.output_calibration import CalibrationRequest, OutputCalibration, calibrate_outputs
from cloud_service.calibration.predictions import Predictions
from shared.gate import Risk, Shortfall, score_values

LABELS = 5


def calibrated(logits: np.ndarray, labels: np.ndarray, alpha: float = 0.05, delta: float = 0.1) -> OutputCalibration:
    truth = labels.astype(np.int64)
    return calibrate_outputs(Predictions(logits, truth, truth), CalibrationRequest(Risk.KEPT_ERROR, (alpha,), delta))


def end_of(found: OutputCalibration) -> tuple[str, Shortfall]:
    step = found.steps[0]
    assert step.threshold is None and step.expected_offload == 1.0 and step.risk_bound == 1.0
    assert step.shortfall is not None
    return step.reason, step.shortfall


def model(count: int, accuracy: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose margins say nothing about which answers are wrong."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, LABELS))
    right = random.uniform(size=count) < accuracy
    return logits, np.where(right, logits.argmax(axis=1), logits.argmin(axis=1))


def test_too_few_samples_say_how_many_more_would_do() -> None:
    reason, shortfall = end_of(calibrated(*model(30, 1.0)))
    assert "too few samples" in reason and "45 without an error" in reason
    assert shortfall.smallest_alpha is not None and 0.05 < shortfall.smallest_alpha < 0.2
    assert shortfall.least_offload == 0.0
    more = shortfall.more_samples
    assert more is not None and calibrated(*model(30 + 2 * more, 1.0)).steps[0].threshold is not None


@pytest.mark.parametrize("alpha", [1e-9, 1e-300, 5e-324])
def test_an_alpha_that_nobody_has_samples_for_is_no_error(alpha: float) -> None:
    reason, shortfall = end_of(calibrated(*model(200, 1.0), alpha=alpha))
    assert "takes more than 10000000 without an error" in reason
    assert shortfall.more_samples is None and shortfall.smallest_alpha is not None


def test_a_threshold_out_of_reach_at_an_alpha_near_1_is_no_error() -> None:
    assert end_of(calibrated(*model(20, 0.0), alpha=0.9999))[1].smallest_alpha is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_next_to_no_samples_are_no_error(count: int) -> None:
    reason, shortfall = end_of(calibrated(*model(count, 1.0)))
    assert "too few" in reason
    assert shortfall.more_samples is not None


def test_an_alpha_out_of_reach_says_which_is_within_and_what_must_go() -> None:
    reason, shortfall = end_of(calibrated(*model(3000, 0.8)))
    assert "too many" in reason
    assert shortfall.smallest_alpha is not None and 0.15 < shortfall.smallest_alpha < 0.3
    assert shortfall.least_offload == pytest.approx((0.2 - 0.05) / 0.95, abs=0.03)
    assert calibrated(*model(3000, 0.8), alpha=shortfall.smallest_alpha * 1.2).steps[0].threshold is not None


def test_tied_scores_are_named() -> None:
    labels = np.random.default_rng(0).integers(0, LABELS, 1000)
    reason, shortfall = end_of(calibrated(np.zeros((1000, LABELS)), labels))
    assert "tied" in reason
    assert shortfall.more_samples is None


def test_tied_scores_of_a_good_model_are_kept_together() -> None:
    logits = np.tile([3.0, 0.0], (1000, 1))
    step = calibrated(logits, (np.arange(1000) % 100 == 0).astype(int)).steps[0]
    assert step.threshold is not None and step.expected_offload == 0.0


def test_a_model_at_chance_gets_nothing_and_hears_that_samples_do_not_help() -> None:
    random = np.random.default_rng(3)
    reason, shortfall = end_of(calibrated(random.normal(size=(5000, LABELS)), random.integers(0, LABELS, 5000)))
    assert "too many" in reason
    assert shortfall.least_offload == pytest.approx((0.8 - 0.05) / 0.95, abs=0.03)
    assert shortfall.smallest_alpha is not None and shortfall.smallest_alpha > 0.6


def test_questions_out_of_scope_are_wrong_when_kept() -> None:
    logits, labels = model(4000, 1.0)
    labels[np.random.default_rng(1).uniform(size=4000) < 0.3] = -1
    _, shortfall = end_of(calibrated(logits, labels))
    assert shortfall.least_offload == pytest.approx((0.3 - 0.05) / 0.95, abs=0.03)


def test_labels_that_are_all_out_of_scope_leave_the_temperature_alone() -> None:
    found = calibrated(model(200, 1.0)[0], np.full(200, -1))
    assert found.gate.temperature == 1.0
    assert end_of(found)[1].smallest_alpha is None


@pytest.mark.parametrize("seed", range(3))
def test_small_sets_keep_the_promise(seed: int) -> None:
    """200 samples each, from a population whose risk is known: the kept risk is over alpha seldom enough."""
    random = np.random.default_rng(seed)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        logits = random.normal(size=(count, LABELS)) * 2.5
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return logits, (chances.cumsum(axis=1) > random.uniform(size=(count, 1))).argmax(axis=1)

    logits, labels = draw(50_000)
    wrong = logits.argmax(axis=1) != labels
    broken = 0
    for _ in range(60):
        found = calibrated(*draw(200), alpha=0.1, delta=0.2)
        threshold = found.steps[0].threshold
        if threshold is not None:
            kept = score_values(logits, found.gate.score, found.gate.temperature) >= threshold
            broken += bool(wrong[kept].mean() > 0.1)
    assert broken <= 22, "the 99.9% quantile of 60 at 20%"
