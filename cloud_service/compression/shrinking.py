"""What the edge model begins with: the full model with fewer pieces, heads, channels and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from cloud_service.compression.checkpoints.reading import read_checkpoint
from cloud_service.compression.config import PruneConfig, TrainingConfig
from cloud_service.compression.distillation import epoch_losses
from cloud_service.compression.durable import write_durably
from cloud_service.compression.networks.build import classifier_of
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import Family, NetworkShape
from cloud_service.compression.pruning.allotment import KeepRatios, allot_by_ratios
from cloud_service.compression.pruning.budget import (
    Allotment,
    Target,
    allot,
    bytes_target,
    latency_target,
    multiply_accumulates_target,
)
from cloud_service.compression.pruning.ranking import (
    Criterion,
    Ranking,
    rank_at_random,
    rank_by_magnitude,
    rank_by_taylor,
)
from cloud_service.compression.pruning.surgery import KeptParts, prune
from cloud_service.compression.sources import classifier_from, open_tokenizer, write_model
from cloud_service.compression.students import lessons_for, untrained
from cloud_service.compression.training import History
from cloud_service.compression.vocabulary import ReducedVocabulary, reduce_tokenizer
from cloud_service.compression.workshop import Learner, Workshop
from shared.documents import Document, canonical_json, read_document

IMPORTANCE_BATCHES = 40
INT8_BYTES_PER_WEIGHT = 1.0
TYPICAL_TOKENS = 16
CALIBRATION_PLAN = TrainingConfig(epochs=1, learning_rate=1e-3, batch_size=32)
EMBEDDINGS = {
    Family.ERNIE: "body.embed_tokens.weight",
    Family.BERT: "body.embeddings.word_embeddings.weight",
}
RECORD_NAME = "pruning.json"

LatencyOf = Callable[[NetworkShape], float]


@dataclass(frozen=True)
class PruningRecord(Document):
    """What pruning did: the parts that stay, and the accuracy on the validation part right after it, by ranking.

    `reason` says how the sizes came about; `met` is false where a target could not be.
    """

    kept: KeptParts
    accuracy_before: float
    accuracy_after: dict[str, float]
    met: bool
    reason: str


@dataclass(frozen=True)
class Pruned:
    """The pruned network and how it came about."""

    learner: Learner
    record: PruningRecord


@dataclass(frozen=True)
class Cut:
    """The model over fewer pieces, and a sentence on how faithfully other texts are still read."""

    learner: Learner
    note: str | None = None
    is_faithful: bool = True


def cut_vocabulary(workshop: Workshop, full: Learner) -> Cut:
    """The full model without the pieces that the domain does not need; itself where all are to stay.

    Texts of the domain keep their very pieces, and so their answers; others fall back to smaller pieces.

    Raises:
        CompressionError: the tokenizer cannot be cut.
    """
    size, before = workshop.config.vocabulary.size, full.model.shape
    if size is None or size >= before.vocabulary_size or workshop.config.full.shape is not None:
        return Cut(full)
    texts = [*workshop.splits.train.texts, *workshop.splits.unlabelled]
    reduced = reduce_tokenizer(full.tokenizer, texts, size, needed_ids=before.prefix)
    weights, table = dict(full.model.state_dict()), EMBEDDINGS[before.family]
    weights[table] = weights[table][torch.as_tensor(reduced.source_ids)]
    shape = before.with_pieces(reduced.source_ids)
    folder = workshop.stage_folder("vocabulary", full.folder, size)
    learner = untrained(workshop, "cut model", classifier_of(shape, weights), reduced.tokenizer, folder)
    return Cut(
        learner,
        f"vocabulary: {shape.vocabulary_size} of {before.vocabulary_size} pieces stay; {_fidelity(reduced)}",
        reduced.fidelity.faithful,
    )


def _fidelity(reduced: ReducedVocabulary) -> str:
    fidelity = reduced.fidelity
    if fidelity.faithful:
        return f"texts from elsewhere are read whole, in {fidelity.length_ratio:.2f} times as many pieces"
    return (
        f"{len(fidelity.changed)} texts of the domain get other pieces, and of texts from elsewhere "
        f"{len(fidelity.unknown)} have pieces that are unknown and {len(fidelity.altered)} read otherwise"
    )


def prune_model(workshop: Workshop, parent: Learner, latency_of: LatencyOf) -> Pruned:
    """Remove what matters least of `parent`, as the configuration says; done once, then read again."""
    plan, threads = workshop.config.prune, workshop.config.tuning.threads
    is_timed = plan.target is not None and plan.target.latency_ms is not None
    folder = workshop.stage_folder("pruned", parent.folder, plan, *([threads] if is_timed else []))
    if not (folder / RECORD_NAME).is_file():
        _prune(workshop, parent, latency_of, folder)
    checkpoint = read_checkpoint(folder)
    model = classifier_from(checkpoint, workshop.splits.labels, workshop.config.seed)
    tokenizer = open_tokenizer(checkpoint, workshop.config.data.max_length)
    record = read_document(PruningRecord, (folder / RECORD_NAME).read_bytes())
    history = History((record.accuracy_after[plan.ranking],))
    return Pruned(Learner("pruned model", model, tokenizer, folder, history), record)


def _prune(workshop: Workshop, parent: Learner, latency_of: LatencyOf, folder: Path) -> None:
    plan, shape = workshop.config.prune, parent.model.shape
    target = _target(plan, shape, len(workshop.splits.labels), latency_of)
    made = {ranking.criterion: _allot(ranking, shape, plan, target) for ranking in _rankings(workshop, parent)}
    models = {criterion: _pruned(parent, allotment.kept) for criterion, allotment in made.items()}
    chosen = Criterion(plan.ranking)
    write_model(folder, models[chosen], workshop.splits.labels, parent.tokenizer)
    record = PruningRecord(
        kept=made[chosen].kept,
        accuracy_before=_accuracy(workshop, parent.model, parent.tokenizer),
        accuracy_after={one.value: _accuracy(workshop, model, parent.tokenizer) for one, model in models.items()},
        met=made[chosen].met,
        reason=made[chosen].reason,
    )
    write_durably(folder / RECORD_NAME, canonical_json(record))


def _rankings(workshop: Workshop, parent: Learner) -> tuple[Ranking, ...]:
    """By first-order Taylor on calibration batches of the train part, and the two that it must beat."""
    model, seed = parent.model, workshop.config.seed
    losses = epoch_losses(model, lessons_for(workshop, parent.tokenizer, ()), CALIBRATION_PLAN, seed, epoch=0)
    bar = workshop.report.start("ranking parts", IMPORTANCE_BATCHES)
    counted = _counting(islice(losses, IMPORTANCE_BATCHES), lambda: workshop.report.step(bar))
    by_taylor = rank_by_taylor(model.eval(), counted)
    workshop.report.finish(bar)
    return (
        by_taylor,
        rank_by_magnitude(model.state_dict(), model.shape),
        rank_at_random(model.shape, seed),
    )


def _counting(losses: Iterable[Tensor], step: Callable[[], None]) -> Iterator[Tensor]:
    for loss in losses:
        yield loss
        step()


def _allot(ranking: Ranking, shape: NetworkShape, plan: PruneConfig, target: Target | None) -> Allotment:
    if target is not None:
        return allot(ranking, shape, target)
    kept = allot_by_ratios(ranking, shape, KeepRatios(plan.keep_ratio, plan.ffn_keep_ratio, layers=plan.layers))
    return Allotment(kept, kept.shape(shape), cost=0.0, met=True, reason="as the ratios in the configuration say")


def _target(plan: PruneConfig, shape: NetworkShape, labels: int, latency_of: LatencyOf) -> Target | None:
    target = plan.target
    if target is None:
        return None
    if target.multiply_accumulates_ratio is not None:
        return multiply_accumulates_target(shape, target.multiply_accumulates_ratio, labels, TYPICAL_TOKENS)
    if target.bytes is not None:
        return bytes_target(target.bytes, labels, INT8_BYTES_PER_WEIGHT)
    assert target.latency_ms is not None, "the configuration gives exactly one"
    return latency_target(target.latency_ms, latency_of)


def _pruned(parent: Learner, kept: KeptParts) -> TextClassifier:
    weights, shape = prune(parent.model.state_dict(), parent.model.shape, kept)
    return classifier_of(shape, weights)


def _accuracy(workshop: Workshop, model: TextClassifier, tokenizer: Tokenizer) -> float:
    return workshop.accuracy_on(workshop.splits.validation, model, tokenizer)
