"""The first stages: fine-tune the teacher, then ask its opinion of every question and rewriting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cloud_service.compression.augmentation import rewritten_texts
from cloud_service.compression.checkpoint import load_weights, save_weights
from cloud_service.compression.encoding import encode_texts, pad_batch, shuffled_batches
from cloud_service.compression.evaluation import accuracy, compute_logits
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.teacher import SentenceClassifier, load_teacher
from cloud_service.compression.training import TrainingTask, train
from cloud_service.compression.workshop import Workshop


@dataclass(frozen=True)
class Teacher:
    """The fine-tuned teacher and the folder of its stage."""

    model: SentenceClassifier
    folder: Path


@dataclass(frozen=True)
class Opinions:
    """Texts (the train part, then its rewritings) and a model's logits of each, float32 [texts, labels]."""

    texts: list[str]
    logits: NDArray[np.float32]
    folder: Path


def train_teacher(workshop: Workshop) -> Teacher:
    """Fine-tune the encoder with cross-entropy on the train part."""
    config, splits = workshop.config, workshop.splits
    plan = config.teacher.training
    folder = workshop.stage_folder("teacher", plan)
    torch.manual_seed(config.seed)
    model = load_teacher(workshop.encoder, len(splits.labels))
    sequences = encode_texts(workshop.encoder_tokenizer, splits.train.texts)
    validation = encode_texts(workshop.encoder_tokenizer, splits.validation.texts)
    label_ids = torch.as_tensor(splits.train.label_ids)

    def epoch_losses(epoch: int) -> Iterator[Tensor]:
        random = np.random.default_rng([config.seed, epoch])
        for rows in shuffled_batches([len(s) for s in sequences], plan.batch_size, random):
            logits = model(pad_batch([sequences[row] for row in rows]))
            yield functional.cross_entropy(logits, label_ids[rows])

    task = TrainingTask(
        name="teacher",
        model=model,
        steps_per_epoch=-(-len(sequences) // plan.batch_size),
        epoch_losses=epoch_losses,
        accuracy=lambda: accuracy(compute_logits(model, validation), splits.validation.label_ids),
    )
    train(task, plan, folder, config.seed, workshop.report)
    return Teacher(model, folder)


def ask_teacher(workshop: Workshop, teacher: Teacher) -> Opinions:
    """The teacher's logits of the train part and its rewritings; kept on disk for a rerun."""
    texts = list(workshop.splits.train.texts)
    copies = workshop.config.augmentation_pool_copies
    texts += rewritten_texts(texts, copies, workshop.config.seed)
    folder = workshop.stage_folder("opinions", teacher.folder, copies)
    sequences = encode_texts(workshop.encoder_tokenizer, texts)
    logits = remembered_logits(folder / "teacher.safetensors", teacher.model, sequences, workshop.report)
    return Opinions(texts, logits, folder)


def remembered_logits(
    path: Path, model: nn.Module, sequences: list[list[int]], report: ProgressReport
) -> NDArray[np.float32]:
    """Logits of `sequences`, float32 [sequences, labels], computed once and kept at `path`."""
    if path.is_file():
        return load_weights(path)["logits"].numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    bar = report.start("asking for opinions", len(sequences))
    logits = compute_logits(model, sequences, lambda count: report.step(bar, count))
    report.finish(bar)
    save_weights(path, {"logits": torch.from_numpy(logits)})
    return logits
