"""The share of all answers that is kept and wrong: with a probability, or on average."""

import numpy as np
import pytest
from scipy import stats

from cloud_service.calibration.output_calibration import CalibrationRequest, calibrate_outputs
from cloud_service.calibration.predictions import Predictions
from shared.errors import ConfigurationError
from shared.gate import Guarantee, Risk, score_values

LABELS = 4
ALPHA, DELTA = 0.05, 0.1


def outputs(random: np.random.Generator, count: int) -> Predictions:
    logits = random.normal(size=(count, LABELS)) * 2.0
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > random.uniform(size=(count, 1))).argmax(axis=1)
    return Predictions(logits, labels, labels)


POPULATION = outputs(np.random.default_rng(0), 100_000)


def joint_risks(guarantee: Guarantee, rounds: int) -> list[float]:
    """The true joint risk of each of so many gates, each calibrated on 300 outputs."""
    found = []
    for seed in range(rounds):
        sample = outputs(np.random.default_rng(seed + 1), 300)
        request = CalibrationRequest(Risk.JOINT, (ALPHA,), DELTA, seed, guarantee)
        result = calibrate_outputs(sample, request)
        threshold = result.steps[0].threshold
        if threshold is None:
            found.append(0.0)
            continue
        scores = score_values(POPULATION.edge_logits, result.gate.score, result.gate.temperature)
        found.append(float(((scores >= threshold) & POPULATION.wrong(Risk.JOINT)).mean()))
    return found


def test_a_probability_is_kept() -> None:
    risks = joint_risks(Guarantee.PROBABILITY, 120)
    assert sum(risk > ALPHA for risk in risks) <= stats.binom.ppf(0.999, len(risks), DELTA)
    assert np.mean(risks) > ALPHA / 3, "and not by keeping nothing"


def test_an_expectation_is_kept_and_keeps_more() -> None:
    risks = joint_risks(Guarantee.EXPECTATION, 120)
    assert np.mean(risks) <= ALPHA + 3 * np.std(risks) / np.sqrt(len(risks))
    assert np.mean(risks) > np.mean(joint_risks(Guarantee.PROBABILITY, 60))


def test_the_certificate_says_how_it_is_meant() -> None:
    sample = outputs(np.random.default_rng(7), 600)
    on_average = CalibrationRequest(Risk.JOINT, (ALPHA,), DELTA, guarantee=Guarantee.EXPECTATION)
    certificate = calibrate_outputs(sample, on_average).gate.certificate(Risk.JOINT)
    assert (certificate.guarantee, certificate.delta) == (Guarantee.EXPECTATION, 1.0)
    step = certificate.steps[0]
    assert step.risk_bound == (step.errors + 1) / (certificate.n + 1) <= ALPHA


def test_the_kept_risk_has_no_guarantee_on_average() -> None:
    with pytest.raises(ConfigurationError, match="joint"):
        CalibrationRequest(Risk.KEPT_ERROR, (ALPHA,), DELTA, guarantee=Guarantee.EXPECTATION)


def test_tied_scores_on_average_say_what_keeping_them_all_reaches() -> None:
    logits, labels = np.zeros((1000, LABELS)), np.random.default_rng(0).integers(0, LABELS, 1000)
    request = CalibrationRequest(Risk.JOINT, (ALPHA,), DELTA, guarantee=Guarantee.EXPECTATION)
    step = calibrate_outputs(Predictions(logits, labels, labels), request).steps[0]
    assert step.threshold is None and step.shortfall is not None
    assert step.shortfall.smallest_alpha == pytest.approx(0.75, abs=0.05) and step.shortfall.more_samples is None


@pytest.mark.parametrize("guarantee", list(Guarantee))
def test_too_few_samples_for_a_joint_risk_are_counted(guarantee: Guarantee) -> None:
    sample = outputs(np.random.default_rng(7), 12)
    step = calibrate_outputs(sample, CalibrationRequest(Risk.JOINT, (0.01,), DELTA, guarantee=guarantee)).steps[0]
    assert step.threshold is None and "too few samples" in step.reason
    assert step.shortfall is not None and step.shortfall.more_samples is not None
    assert step.shortfall.more_samples > 80
