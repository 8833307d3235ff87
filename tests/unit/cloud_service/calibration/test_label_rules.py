"""Critical labels: an alpha of their own, or never kept."""

import numpy as np
import pytest

from cloud_service.calibration.gate_maker import GatePlan, Predictions, Provenance, make_gate
from cloud_service.calibration.label_rules import CriticalLabel, critical_labels
from shared.errors import ConfigurationError
from shared.gate import Gate, GateKeeper, Risk, gate_document, parse_gate

LABELS = 3
PROVENANCE = Provenance("edge", "full", "made up", "0" * 64, "0.1.0")


def predictions(seed: int, count: int, never: int | None = None) -> Predictions:
    """Answers as often right as they say; `never` is a label that is not answered."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, LABELS)) * 4.0
    if never is not None:
        logits[:, never] = -50.0
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (chances.cumsum(axis=1) > random.uniform(size=(count, 1))).argmax(axis=1)
    return Predictions(logits.astype(np.float32), truth, truth)


def gate_of(*critical: CriticalLabel, never: int | None = None) -> Gate:
    plan = GatePlan((0.02, 0.05, 0.2), 0.1, {Risk.KEPT_ERROR: 0.05}, critical)
    return make_gate(predictions(1, 600, never), predictions(2, 3000, never), plan, PROVENANCE)


def test_a_critical_label_keeps_its_own_alpha_and_survives_the_document() -> None:
    gate = gate_of(CriticalLabel("loan", 2, 0.02))
    assert parse_gate(gate_document(gate)) == gate
    rule = gate.label_rules[0]
    assert rule.certified is not None and rule.certified.threshold is not None
    assert rule.threshold > (gate.threshold() or 0.0)
    fresh = predictions(3, 40_000)
    keeper = GateKeeper(gate)
    kept = np.array([keeper.decide(row).keep for row in fresh.edge_logits])
    loan = fresh.edge_logits.argmax(axis=1) == 2
    wrong = fresh.wrong(Risk.KEPT_ERROR)
    assert wrong[kept & loan].mean() <= 0.02
    assert wrong[kept & ~loan].mean() <= 0.05
    assert wrong[kept].mean() <= 0.05, "so that all together keep it as well"


def test_the_expected_offload_counts_the_answers_of_critical_labels_too() -> None:
    gate = gate_of(CriticalLabel("loan", 2, None))
    fresh = predictions(4, 20_000)
    keeper = GateKeeper(gate)
    offload = 1.0 - np.mean([keeper.decide(row).keep for row in fresh.edge_logits])
    step = gate.certificate(Risk.KEPT_ERROR).step(0.05)
    assert step.expected_offload == pytest.approx(offload, abs=0.03)
    assert step.expected_offload > 1 / 3 - 0.05, "a third is never kept"


def test_answers_of_a_label_that_always_escalates_are_never_kept() -> None:
    keeper = GateKeeper(gate_of(CriticalLabel("loan", 2, None)))
    assert not keeper.decide(np.array([0, 0, 90], np.float32)).keep
    assert keeper.decide(np.array([90, 0, 0], np.float32)).keep


def test_a_critical_label_without_samples_is_escalated_and_says_so() -> None:
    rule = gate_of(CriticalLabel("loan", 2, 0.02), never=2).label_rules[0]
    assert rule.certified is not None and rule.certified.threshold is None
    assert "no calibration sample was answered with this label" in rule.certified.reason
    assert rule.certified.shortfall is not None and rule.certified.shortfall.more_samples == 114
    assert rule.threshold == np.inf


def test_a_critical_label_that_samples_are_too_few_for_says_how_many_of_all_would_do() -> None:
    rule = gate_of(CriticalLabel("loan", 2, 0.001)).label_rules[0]
    assert rule.certified is not None and rule.certified.threshold is None
    assert rule.certified.shortfall is not None
    more = rule.certified.shortfall.more_samples
    assert more is not None and more > 3 * (2302 - 1100)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [({"lone": 0.01}, "no such label"), ({"loan": 0.06}, "at most 0.05"), ({"loan": 0.0}, "above 0")],
)
def test_rules_that_cannot_be_are_refused(wanted: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        critical_labels(dict(wanted), ("card", "cash", "loan"), 0.05)


def test_labels_are_found_by_name() -> None:
    found = critical_labels({"loan": 0.01, "card": "escalate"}, ("card", "cash", "loan"), 0.05)
    assert found == (CriticalLabel("loan", 2, 0.01), CriticalLabel("card", 0, None))
