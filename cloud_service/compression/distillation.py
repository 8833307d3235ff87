"""Losses that teach a student: labels where there are any, teachers' opinions everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cloud_service.compression.config import TrainingConfig
from cloud_service.compression.encoding import pad_batch, shuffled_batches
from cloud_service.compression.networks.classifier import Reading, TextClassifier

NO_LABEL = -1


@dataclass(frozen=True)
class Opinion:
    """What a teacher makes of some texts: logits float32 [texts, labels], and the pooled state [texts, hidden]."""

    logits: NDArray[np.float32]
    pooled: NDArray[np.float32]


@dataclass(frozen=True)
class Lessons:
    """What a student learns from: labelled texts first, then unlabelled ones, then rewritten copies of them all.

    `sequences` are the student's token ids; `label_ids` belong to the first of them; `originals` counts
    the texts that are no copies. Each teacher has an opinion of every sequence; without a teacher only
    the labelled texts teach. The student's pooled state may be drawn towards the first teacher's.
    """

    sequences: list[list[int]]
    label_ids: tuple[int, ...]
    originals: int
    opinions: tuple[Opinion, ...] = ()

    def rows_of_epoch(self, epoch: int, copies: int) -> NDArray[np.int64]:
        """The originals and `copies` copies of them, taking turns from epoch to epoch."""
        if not self.opinions:
            return np.arange(len(self.label_ids))
        size = self.originals
        pool = len(self.sequences) // size - 1
        taken = [1 + (epoch * copies + turn) % pool for turn in range(min(copies, pool))]
        return np.concatenate([np.arange(copy * size, (copy + 1) * size) for copy in (0, *taken)])

    def labels_of(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """int64 [rows]; `NO_LABEL` where nobody has said."""
        known = len(self.label_ids)
        return torch.as_tensor([self.label_ids[row] if row < known else NO_LABEL for row in rows])


def soft_targets(opinions: Sequence[Tensor], temperature: float) -> Tensor:
    """The teachers' mean probabilities at `temperature`, float32 [batch, labels]."""
    return torch.stack([torch.softmax(logits / temperature, dim=1) for logits in opinions]).mean(dim=0)


def label_loss(logits: Tensor, label_ids: Tensor) -> Tensor:
    """Cross-entropy summed over the rows that have a label, over the number of all rows."""
    return functional.cross_entropy(logits, label_ids, ignore_index=NO_LABEL, reduction="sum") / len(logits)


def distillation_loss(logits: Tensor, targets: Tensor, label_ids: Tensor, plan: TrainingConfig) -> Tensor:
    """Label cross-entropy and T² · KL(targets ‖ student), weighted (Hinton et al., arXiv 1503.02531).

    Rows labelled `NO_LABEL` count in the second term alone.
    """
    temperature = plan.distillation_temperature
    student = functional.log_softmax(logits / temperature, dim=1)
    opinion = functional.kl_div(student, targets, reduction="batchmean") * temperature**2
    return plan.label_weight * label_loss(logits, label_ids) + (1.0 - plan.label_weight) * opinion


def hidden_loss(pooled: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the pooled states, over the mean square of the teacher's: 1 where nothing agrees."""
    return functional.mse_loss(pooled, target) / target.square().mean()


def epoch_losses(
    model: TextClassifier, lessons: Lessons, plan: TrainingConfig, seed: int, epoch: int
) -> Iterator[Tensor]:
    """One loss for each batch of the epoch."""
    rows = lessons.rows_of_epoch(epoch, plan.augmented_copies)
    lengths = [len(lessons.sequences[row]) for row in rows]
    for batch in shuffled_batches(lengths, plan.batch_size, np.random.default_rng([seed, epoch])):
        chosen = rows[batch]
        yield _loss(model.read(pad_batch([lessons.sequences[row] for row in chosen])), lessons, chosen, plan)


def _loss(reading: Reading, lessons: Lessons, rows: NDArray[np.int64], plan: TrainingConfig) -> Tensor:
    labels = lessons.labels_of(rows)
    if not lessons.opinions:
        return label_loss(reading.logits, labels)
    opinions = [torch.from_numpy(opinion.logits[rows]) for opinion in lessons.opinions]
    targets = soft_targets(opinions, plan.distillation_temperature)
    loss = distillation_loss(reading.logits, targets, labels, plan)
    if plan.hidden_weight > 0.0:
        target = torch.from_numpy(lessons.opinions[0].pooled[rows])
        loss = loss + plan.hidden_weight * hidden_loss(reading.pooled, target)
    return loss


def steps_per_epoch(lessons: Lessons, plan: TrainingConfig) -> int:
    """How many losses `epoch_losses` yields."""
    return -(-len(lessons.rows_of_epoch(0, plan.augmented_copies)) // plan.batch_size)
