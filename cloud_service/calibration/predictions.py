"""What models said of a part of the data, and how sure and how wrong the device's answers are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.risk_curve import FloatArray, ScoredSample
from shared.gate import Risk, Score, probabilities, score_values

OUT_OF_SCOPE = -1
"""The label of a question to which none of the model's labels is the answer: any kept answer is wrong."""


@dataclass(frozen=True)
class Predictions:
    """One part's edge logits [n, labels], true labels and the full model's answers, int64 [n]."""

    edge_logits: NDArray[np.floating]
    label_ids: NDArray[np.int64]
    full_answers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.edge_logits)

    def truth(self, risk: Risk) -> NDArray[np.int64]:
        """What an edge answer is held against, int64 [n]."""
        return self.full_answers if risk is Risk.KEPT_DISAGREEMENT else self.label_ids

    def wrong(self, risk: Risk) -> NDArray[np.bool_]:
        """Which edge answers count against `risk`, bool [n]."""
        wrong: NDArray[np.bool_] = self.edge_logits.argmax(axis=1) != self.truth(risk)
        return wrong

    def take(self, rows: NDArray[np.int64]) -> Predictions:
        """The predictions at `rows`, in that order."""
        return Predictions(self.edge_logits[rows], self.label_ids[rows], self.full_answers[rows])


@dataclass(frozen=True)
class Judged:
    """A part's edge answers: label indices, scores, and the model's own chance to be wrong; each [n]."""

    predictions: Predictions
    answers: NDArray[np.int64]
    scores: FloatArray
    doubts: FloatArray

    @classmethod
    def of(cls, predictions: Predictions, score: Score, temperature: float) -> Judged:
        """Score every prediction."""
        logits = predictions.edge_logits
        scores = score_values(logits, score, temperature)
        best = scores if score is Score.MAX_PROBABILITY else probabilities(logits, temperature).max(axis=1)
        return cls(predictions, logits.argmax(axis=1), scores, 1.0 - best)

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, chosen: NDArray[np.bool_]) -> Judged:
        """The answers at which `chosen` is true."""
        rows = np.flatnonzero(chosen)
        return Judged(self.predictions.take(rows), self.answers[rows], self.scores[rows], self.doubts[rows])

    def sample(self, risk: Risk) -> ScoredSample:
        """Scores with what is wrong by `risk`."""
        return ScoredSample(self.scores, self.answers != self.predictions.truth(risk))
