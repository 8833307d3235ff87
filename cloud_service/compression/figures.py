"""What a gate keeps of the test part, and what comes of it when the rest goes to the full model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.gate_maker import Predictions
from shared.documents import Document
from shared.gate import Gate, Risk, score_values


@dataclass(frozen=True)
class GateFigures(Document):
    """A threshold on the test part: shares of all texts (`offload`), of kept ones (`kept_*`), right in the end."""

    threshold: float | None
    offload: float
    kept_error: float
    kept_disagreement: float
    cascade_accuracy: float


def gate_figures(test: Predictions, gate: Gate, threshold: float | None) -> GateFigures:
    """What `threshold` keeps of the test part."""
    kept = kept_texts(test, gate, threshold)
    final = np.where(kept, test.edge_logits.argmax(axis=1), test.full_answers)
    return GateFigures(
        threshold=threshold,
        offload=float(1.0 - kept.mean()),
        kept_error=_share(test.wrong(Risk.KEPT_ERROR)[kept]),
        kept_disagreement=_share(test.wrong(Risk.KEPT_DISAGREEMENT)[kept]),
        cascade_accuracy=float(np.mean(final == test.label_ids)),
    )


def kept_texts(test: Predictions, gate: Gate, threshold: float | None) -> NDArray[np.bool_]:
    """Which texts a device would keep, bool [texts]."""
    if threshold is None:
        return np.zeros(len(test.label_ids), dtype=bool)
    scores = score_values(test.edge_logits, gate.score, gate.temperature)
    return np.asarray(scores >= threshold)


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
