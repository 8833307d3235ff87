"""Sections of the report on how the model was made: source, data, cost, pruning, distillation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cloud_service.compression.assessment.statistics import Proportion
from shared.documents import Document


class Part(str, Enum):
    """Which texts a figure is of."""

    TRAINING = "training"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True)
class PartShare(Document):
    """A share with its interval, and the part of the data it was counted on."""

    part: Part
    share: Proportion


@dataclass(frozen=True)
class Source(Document):
    """The checkpoint that was taken in. `shape`: in words, as "12 layers, 768 wide"."""

    name: str
    shape: str
    parameters: int
    file_bytes: int


@dataclass(frozen=True)
class DataSummary(Document):
    """The data set: rows of each part by the part's name, labels, SHA-256, and what is odd about it."""

    name: str
    rows: dict[str, int]
    labels: int
    digest: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step(Document):
    """One step of the run and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Cost(Document):
    """What a model takes: weights, bytes on disk, and multiply-accumulates for one text of typical length."""

    parameters: int
    file_bytes: int
    multiply_accumulates: int


@dataclass(frozen=True)
class CostChange(Document):
    """The same model before and after; a typical text has `typical_tokens`."""

    typical_tokens: int
    before: Cost
    after: Cost


@dataclass(frozen=True)
class LayerKept(Document):
    """What pruning left of one layer; `heads_removed` by their index before."""

    layer: str
    heads_before: int
    heads_kept: int
    heads_removed: tuple[int, ...]
    channels_before: int
    channels_kept: int


@dataclass(frozen=True)
class RankingResult(Document):
    """Accuracy right after pruning by one way of ranking, as "Taylor" or "random", before any training."""

    ranking: str
    accuracy: PartShare
    was_used: bool = False


@dataclass(frozen=True)
class Pruning(Document):
    """Structured pruning; `before` is the accuracy of the model it started from."""

    layers: tuple[LayerKept, ...]
    rankings: tuple[RankingResult, ...] = ()
    before: PartShare | None = None


@dataclass(frozen=True)
class Epoch(Document):
    """One pass over the training texts: mean losses (as the teaching defines them) and accuracy after it."""

    number: int
    training_loss: float
    validation_loss: float | None = None
    accuracy: PartShare | None = None


@dataclass(frozen=True)
class Distillation(Document):
    """How the student learned from `teacher`, whose own accuracy is `teacher_accuracy`."""

    teacher: str
    epochs: tuple[Epoch, ...]
    teacher_accuracy: PartShare | None = None
