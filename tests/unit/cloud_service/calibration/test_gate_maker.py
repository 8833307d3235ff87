"""From predictions to a gate document that devices accept."""

import numpy as np
import pytest

from cloud_service.calibration.gate_maker import GatePlan, Predictions, Provenance, make_gate
from cloud_service.calibration.score_choice import choose_score, fit_temperature
from shared.gate import Risk, Score, gate_document, parse_gate, score_values

LABELS = 6
PLAN = GatePlan(
    alphas=(0.005, 0.02, 0.05, 0.2), delta=0.1, in_force={Risk.KEPT_ERROR: 0.05, Risk.KEPT_DISAGREEMENT: 0.05}
)
PROVENANCE = Provenance("edge", "full", "made up", "0" * 64, "0.1.0")


def predictions(seed: int, count: int, sureness: float = 4.0) -> Predictions:
    """Answers whose logits are truly log-probabilities, divided by a temperature of 2."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, LABELS)) * sureness
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([random.choice(LABELS, p=row) for row in chances])
    full = np.where(random.uniform(size=count) < 0.97, logits.argmax(axis=1), truth)
    return Predictions((logits * 2.0).astype(np.float32), truth, full)


def test_the_temperature_undoes_overconfidence() -> None:
    sample = predictions(1, 4000)
    assert fit_temperature(sample.edge_logits, sample.label_ids) == pytest.approx(2.0, rel=0.1)


def test_the_chosen_score_offloads_least() -> None:
    sample = predictions(2, 2000)
    best, offload = choose_score(sample.edge_logits, sample.wrong(Risk.KEPT_ERROR), 2.0, (0.02, 0.05))
    assert set(offload) == set(Score)
    assert offload[best] <= min(offload.values()) + 0.03, "the least by chance is not chosen"
    assert offload[Score.MAX_PROBABILITY] < offload[Score.ENERGY], "energy says little about these"


def test_a_gate_survives_its_document_and_keeps_its_promise() -> None:
    gate = make_gate(predictions(3, 500), predictions(4, 1500), PLAN, PROVENANCE)
    assert parse_gate(gate_document(gate)) == gate
    threshold = gate.threshold()
    assert threshold is not None
    fresh = predictions(5, 50_000)
    kept = score_values(fresh.edge_logits, gate.score, gate.temperature) >= threshold
    assert kept.mean() > 0.3
    for risk in (Risk.KEPT_ERROR, Risk.KEPT_DISAGREEMENT):
        assert fresh.wrong(risk)[kept].mean() <= 0.05


def test_an_alpha_out_of_reach_says_why() -> None:
    gate = make_gate(predictions(3, 100), predictions(4, 200), PLAN, PROVENANCE)
    step = gate.certificate(Risk.KEPT_ERROR).step(0.005)
    assert step.threshold is None
    assert "200 calibration samples" in step.reason
    assert step.expected_offload == 1.0


def test_a_hopeless_model_escalates_everything() -> None:
    random = np.random.default_rng(0)
    hopeless = Predictions(
        random.normal(size=(400, LABELS)).astype(np.float32),
        random.integers(0, LABELS, 400),
        random.integers(0, LABELS, 400),
    )
    assert make_gate(hopeless, hopeless, PLAN, PROVENANCE).threshold() is None
