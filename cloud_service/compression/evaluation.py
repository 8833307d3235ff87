"""Logits and accuracy of torch models over many texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cloud_service.compression.encoding import TokenBatch, batches_by_length, pad_batch

FloatArray = npt.NDArray[np.float32]
EVALUATION_BATCH = 64


def compute_logits(
    model: nn.Module, sequences: Sequence[Sequence[int]], on_batch: Callable[[int], None] = lambda _: None
) -> FloatArray:
    """Logits of each token sequence, float32 [texts, labels]; `on_batch` hears each batch's size."""
    model.eval()
    rows: list[np.ndarray] = []
    outputs: list[Tensor] = []
    with torch.inference_mode():
        for batch_rows in batches_by_length([len(s) for s in sequences], EVALUATION_BATCH):
            batch: TokenBatch = pad_batch([sequences[row] for row in batch_rows])
            outputs.append(model(batch))
            rows.append(batch_rows)
            on_batch(len(batch_rows))
    stacked = torch.cat(outputs).numpy()
    logits = np.empty_like(stacked)
    logits[np.concatenate(rows)] = stacked
    return logits


def accuracy(logits: FloatArray, label_ids: Sequence[int]) -> float:
    """Share of rows whose largest logit is the label's."""
    return float(np.mean(logits.argmax(axis=1) == np.asarray(label_ids)))
