"""The full model, taught by the teacher, and the edge model, pruned from the full one and taught by both."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from cloud_service.compression.config import StudentConfig
from cloud_service.compression.distillation import Lessons, epoch_losses, steps_per_epoch
from cloud_service.compression.encoding import encode_texts
from cloud_service.compression.evaluation import accuracy, compute_logits
from cloud_service.compression.networks.classifier import ErnieClassifier
from cloud_service.compression.pruning.heads import prune_into, taylor_importance
from cloud_service.compression.teacher import word_vectors
from cloud_service.compression.teaching import Opinions, remembered_logits
from cloud_service.compression.training import TrainingTask, train
from cloud_service.compression.workshop import Workshop

EMBEDDING_STANDARD_DEVIATION = 0.2
IMPORTANCE_BATCHES = 40


@dataclass(frozen=True)
class Student:
    """A trained classifier, the folder of its stage, and its best accuracy on the validation part."""

    model: ErnieClassifier
    folder: Path
    validation_accuracy: float


def train_full(workshop: Workshop, opinions: Opinions) -> Student:
    """Train the full model from the encoder's word vectors, on labels and the teacher's opinions."""
    plan = workshop.config.full
    model = _new_classifier(workshop, plan)
    vectors = workshop.vocabulary.rows_of(word_vectors(workshop.encoder))
    with torch.no_grad():
        model.body.embed_tokens.weight.copy_(vectors * (EMBEDDING_STANDARD_DEVIATION / vectors.std()))
    folder = workshop.stage_folder("full", opinions.folder, workshop.config.vocabulary_size, plan.shape, plan.training)
    lessons = Lessons(
        encode_texts(workshop.tokenizer, opinions.texts), workshop.splits.train.label_ids, (opinions.logits,)
    )
    return _train_student(workshop, "full model", model, plan, lessons, folder)


def train_edge(workshop: Workshop, opinions: Opinions, full: Student) -> Student:
    """Prune the full model and let it recover, taught by the full model and the teacher."""
    plan = workshop.config.edge
    folder = workshop.stage_folder("edge", full.folder, plan.shape, plan.training)
    sequences = encode_texts(workshop.tokenizer, opinions.texts)
    full_logits = remembered_logits(full.folder / "opinions.safetensors", full.model, sequences, workshop.report)
    lessons = Lessons(sequences, workshop.splits.train.label_ids, (opinions.logits, full_logits))
    model = _new_classifier(workshop, plan)
    labelled = epoch_losses(full.model, lessons, plan.training, workshop.config.seed, epoch=0)
    full.model.eval()
    prune_into(full.model, model, taylor_importance(full.model, islice(labelled, IMPORTANCE_BATCHES)))
    return _train_student(workshop, "edge model", model, plan, lessons, folder)


def _new_classifier(workshop: Workshop, plan: StudentConfig) -> ErnieClassifier:
    torch.manual_seed(workshop.config.seed)
    labels = len(workshop.splits.labels)
    return ErnieClassifier(plan.shape, len(workshop.vocabulary), labels, workshop.config.data.max_length)


def _train_student(
    workshop: Workshop, name: str, model: ErnieClassifier, plan: StudentConfig, lessons: Lessons, folder: Path
) -> Student:
    validation = workshop.validation_sequences()
    label_ids = workshop.splits.validation.label_ids
    seed = workshop.config.seed
    task = TrainingTask(
        name=name,
        model=model,
        steps_per_epoch=steps_per_epoch(lessons, plan.training),
        epoch_losses=lambda epoch: epoch_losses(model, lessons, plan.training, seed, epoch),
        accuracy=lambda: accuracy(compute_logits(model, validation), label_ids),
    )
    best = train(task, plan.training, folder, seed, workshop.report)
    return Student(model, folder, best)
