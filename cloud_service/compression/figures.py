"""What the two graphs reach: accuracy, the gate's keeping, size, work and time. Each with its part of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.gate_maker import Predictions
from shared.documents import Document
from shared.gate import Gate, Risk, score_values

TYPICAL_TOKENS = 16
LATENCY_ROUNDS = 300


@dataclass(frozen=True)
class ModelFigures(Document):
    """One graph on the test part. Latency: median milliseconds a text, one thread, batch 1, test texts."""

    accuracy: float
    size_bytes: int
    multiply_accumulates: int
    parameters: int
    latency_ms: float


@dataclass(frozen=True)
class GateFigures(Document):
    """A threshold on the test part: shares of all texts (`offload`), of kept ones (`kept_*`), right in the end."""

    threshold: float | None
    offload: float
    kept_error: float
    kept_disagreement: float
    cascade_accuracy: float


@dataclass(frozen=True)
class Figures(Document):
    """Everything measured; accuracies and gate on the test part unless named otherwise."""

    full: ModelFigures
    edge: ModelFigures
    edge_before_int8_accuracy: float
    teacher_accuracy: float
    validation_accuracy: dict[str, float]
    gate: GateFigures
    gate_by_error_alpha: dict[str, GateFigures]


def gate_figures(test: Predictions, gate: Gate, threshold: float | None) -> GateFigures:
    """What `threshold` keeps of the test part, and what comes of it when the rest goes to the full model."""
    scores = score_values(test.edge_logits, gate.score, gate.temperature)
    kept: NDArray[np.bool_] = scores >= threshold if threshold is not None else np.zeros(len(scores), dtype=bool)
    final = np.where(kept, test.edge_logits.argmax(axis=1), test.full_answers)
    return GateFigures(
        threshold=threshold,
        offload=float(1.0 - kept.mean()),
        kept_error=_share(test.wrong(Risk.KEPT_ERROR)[kept]),
        kept_disagreement=_share(test.wrong(Risk.KEPT_DISAGREEMENT)[kept]),
        cascade_accuracy=float(np.mean(final == test.label_ids)),
    )


def figures_by_alpha(test: Predictions, gate: Gate) -> dict[str, GateFigures]:
    """The figures of every threshold certified for kept error, by its alpha."""
    steps = gate.certificate(Risk.KEPT_ERROR).steps
    return {f"{step.alpha:g}": gate_figures(test, gate, step.threshold) for step in steps}


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
