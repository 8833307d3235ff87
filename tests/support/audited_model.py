"""A gate with steps to count audits by, and a device that has it."""

from __future__ import annotations

from dataclasses import replace

from cloud_service.watch.records import KnownGate
from shared.gate import Certificate, CertifiedThreshold, Gate, LabelRule, Risk, Score, ScoreHistogram
from shared.types import DEFAULT_RING, GateReport
from tests.support.simulated_device import DIGEST, CountedModel

STEPS = (0.9, 0.8, 0.6, 0.4)
ALPHAS = (0.005, 0.01, 0.02, 0.05)
IN_FORCE = 0.4
CRITICAL = "lost_card"


def audited_gate(**changes: object) -> Gate:
    """Kept from 0.4 on at a disagreement of 5%; stricter steps at less. One label is critical, with an alpha of 1%."""
    steps = tuple(
        CertifiedThreshold(alpha, threshold, 1000, 1, alpha, threshold)
        for alpha, threshold in zip(ALPHAS, STEPS, strict=True)
    )
    certificates = tuple(
        Certificate(risk, 0.1, 1500, steps, "made up", "0" * 64, "0")
        for risk in (Risk.KEPT_DISAGREEMENT, Risk.KEPT_ERROR)
    )
    gate = Gate(
        DIGEST,
        "b" * 64,
        Score.MAX_PROBABILITY,
        1.0,
        {Risk.KEPT_DISAGREEMENT: 0.05, Risk.KEPT_ERROR: 0.05},
        certificates,
        (LabelRule(CRITICAL, 1, 0.05, steps[1]),),
        ScoreHistogram((0.25, 0.5, 0.75), (100, 200, 300, 400)),
    )
    return replace(gate, **changes)  # type: ignore[arg-type]


def known_gate(model: str = "intents") -> KnownGate:
    """The same, as the fleet service knows it."""
    gate = audited_gate()
    return KnownGate(gate.digest, model, "1", gate, ("balance", CRITICAL))


def audited_model(device_id: str, boot_id: str = "b1", *, ring: str = DEFAULT_RING) -> CountedModel:
    """A device that obeys this gate as its bundle brings it."""
    report = GateReport("max_probability", IN_FORCE, audited_gate().digest, {"kept-disagreement": 0.05})
    return CountedModel(device_id, boot_id, ring=ring, gate=report, steps=STEPS, bins=4)
