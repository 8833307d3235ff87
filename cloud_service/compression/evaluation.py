"""What torch models make of many texts, and how often they are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from cloud_service.compression.distillation import Opinion
from cloud_service.compression.encoding import batches_by_length, pad_batch
from cloud_service.compression.networks.classifier import Reading, TextClassifier

FloatArray = npt.NDArray[np.float32]
EVALUATION_BATCH = 64


def compute_opinion(
    model: TextClassifier, sequences: Sequence[Sequence[int]], on_batch: Callable[[int], None] = lambda _: None
) -> Opinion:
    """Logits and pooled state of each token sequence, in order; `on_batch` hears each batch's size."""
    model.eval()
    rows: list[np.ndarray] = []
    readings: list[Reading] = []
    with torch.inference_mode():
        for batch_rows in batches_by_length([len(s) for s in sequences], EVALUATION_BATCH):
            readings.append(model.read(pad_batch([sequences[row] for row in batch_rows])))
            rows.append(batch_rows)
            on_batch(len(batch_rows))
    order = np.argsort(np.concatenate(rows))
    logits = torch.cat([reading.logits for reading in readings]).numpy()
    pooled = torch.cat([reading.pooled for reading in readings]).numpy()
    return Opinion(logits[order], pooled[order])


def compute_logits(model: TextClassifier, sequences: Sequence[Sequence[int]]) -> FloatArray:
    """Logits of each token sequence, float32 [texts, labels]."""
    return compute_opinion(model, sequences).logits


def accuracy(logits: FloatArray, label_ids: Sequence[int]) -> float:
    """Share of rows whose largest logit is the label's."""
    return float(np.mean(logits.argmax(axis=1) == np.asarray(label_ids)))
