"""Losses that teach a student: labels where there are any, teachers' opinions everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.compression.config import TrainingConfig
from cloud_service.compression.encoding import pad_batch, shuffled_batches

NO_LABEL = -1


@dataclass(frozen=True)
class Lessons:
    """What a student learns from: the labelled questions first, then copies of rewritten ones.

    `sequences` are token ids; `label_ids` belong to the first of them; `opinions` holds each teacher's
    logits, float32 [sequences, labels].
    """

    sequences: list[list[int]]
    label_ids: tuple[int, ...]
    opinions: tuple[NDArray[np.float32], ...]

    def rows_of_epoch(self, epoch: int, copies: int) -> NDArray[np.int64]:
        """The labelled rows and `copies` copies of rewritten ones, taking turns from epoch to epoch."""
        size = len(self.label_ids)
        pool = len(self.sequences) // size - 1
        taken = [1 + (epoch * copies + turn) % pool for turn in range(min(copies, pool))]
        return np.concatenate([np.arange(copy * size, (copy + 1) * size) for copy in (0, *taken)])

    def labels_of(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """int64 [rows]; `NO_LABEL` for a rewritten question."""
        size = len(self.label_ids)
        return torch.as_tensor([self.label_ids[row] if row < size else NO_LABEL for row in rows])


def soft_targets(opinions: Sequence[Tensor], temperature: float) -> Tensor:
    """The teachers' mean probabilities at `temperature`, float32 [batch, labels]."""
    return torch.stack([torch.softmax(logits / temperature, dim=1) for logits in opinions]).mean(dim=0)


def distillation_loss(logits: Tensor, targets: Tensor, label_ids: Tensor, plan: TrainingConfig) -> Tensor:
    """Label cross-entropy and T² · KL(targets ‖ student), weighted (Hinton et al., arXiv 1503.02531).

    Rows labelled `NO_LABEL` count in the second term alone.
    """
    temperature = plan.distillation_temperature
    student = functional.log_softmax(logits / temperature, dim=1)
    opinion = functional.kl_div(student, targets, reduction="batchmean") * temperature**2
    per_row = functional.cross_entropy(logits, label_ids, ignore_index=NO_LABEL, reduction="sum")
    return plan.label_weight * per_row / len(logits) + (1.0 - plan.label_weight) * opinion


def epoch_losses(model: nn.Module, lessons: Lessons, plan: TrainingConfig, seed: int, epoch: int) -> Iterator[Tensor]:
    """One loss for each batch of the epoch."""
    rows = lessons.rows_of_epoch(epoch, plan.augmented_copies)
    lengths = [len(lessons.sequences[row]) for row in rows]
    for batch in shuffled_batches(lengths, plan.batch_size, np.random.default_rng([seed, epoch])):
        chosen = rows[batch]
        logits = model(pad_batch([lessons.sequences[row] for row in chosen]))
        opinions = [torch.from_numpy(opinion[chosen]) for opinion in lessons.opinions]
        targets = soft_targets(opinions, plan.distillation_temperature)
        yield distillation_loss(logits, targets, lessons.labels_of(chosen), plan)


def steps_per_epoch(lessons: Lessons, plan: TrainingConfig) -> int:
    """How many losses `epoch_losses` yields."""
    return -(-len(lessons.rows_of_epoch(0, plan.augmented_copies)) // plan.batch_size)
