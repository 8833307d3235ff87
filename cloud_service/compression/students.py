"""The networks that learn: the teacher, the full model, and the edge model that recovers from pruning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from cloud_service.compression.checkpoints.config import read_config
from cloud_service.compression.checkpoints.reading import Checkpoint
from cloud_service.compression.config import FullConfig, ShapeConfig, TeacherConfig, TrainingConfig
from cloud_service.compression.distillation import Lessons, epoch_losses, steps_per_epoch
from cloud_service.compression.encoding import encode_texts
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.prompted import prompted_classifier
from cloud_service.compression.sources import (
    checkpoint_digest,
    checkpoint_folder,
    classifier_from,
    open_checkpoint,
    open_tokenizer,
    word_vectors,
)
from cloud_service.compression.training import History, TrainingTask, train
from cloud_service.compression.vocabulary import reduce_tokenizer
from cloud_service.compression.workshop import Learner, Workshop
from shared.errors import ConfigurationError

EMBEDDING_STANDARD_DEVIATION = 0.2
UNTAUGHT = History(())


def make_teacher(workshop: Workshop, plan: TeacherConfig) -> Learner:
    """Fine-tune the teacher's checkpoint with cross-entropy on the train part.

    Raises:
        ConfigurationError: the full model is to learn its hidden states, which are of another width.
    """
    _check_widths(workshop.config.full, plan)
    folder = workshop.stage_folder("teacher", checkpoint_digest(plan.checkpoint), plan.training)
    checkpoint = open_checkpoint(plan.checkpoint, workshop.config.data.max_length)
    return _taught(workshop, _imported(workshop, "teacher", checkpoint, folder), (), plan.training)


def make_full(workshop: Workshop, teacher: Learner | None) -> Learner:
    """The model that the cloud will run: a new one, a checkpoint trained on, or a checkpoint as it is.

    Raises:
        CheckpointError: the checkpoint has no head for these labels, and nothing says how to get one.
    """
    plan = workshop.config.full
    teachers = () if teacher is None else (teacher,)
    if plan.training is None:
        return _ready_full(workshop, plan)
    if plan.shape is not None and teacher is not None:
        learner = _new_full(workshop, plan.shape, plan.training, teacher)
    else:
        folder = workshop.stage_folder("full", *_beginning(plan), plan.training, *_folders(workshop, teachers))
        learner = _begun(workshop, plan, folder)
    return _taught(workshop, learner, teachers, plan.training)


def recover(workshop: Workshop, pruned: Learner, teachers: Sequence[Learner]) -> Learner:
    """Let a pruned model learn back what it lost, from labels and its teachers' opinions.

    It never ends below the pruned model on the validation part. Without a plan for training, the pruned
    model is what it ends with.
    """
    plan = workshop.config.edge.training
    if plan is None:
        return Learner("edge model", pruned.model, pruned.tokenizer, pruned.folder, pruned.history)
    folder = workshop.stage_folder("edge", pruned.folder, plan, *_folders(workshop, teachers))
    learner = Learner("edge model", pruned.model, pruned.tokenizer, folder, UNTAUGHT)
    return _taught(workshop, learner, teachers, plan)


def untrained(workshop: Workshop, name: str, model: TextClassifier, tokenizer: Tokenizer, folder: Path) -> Learner:
    """A learner that is used as it is."""
    accuracy = workshop.accuracy_on(workshop.splits.validation, model, tokenizer)
    return Learner(name, model, tokenizer, folder, History((accuracy,)))


def lessons_for(workshop: Workshop, tokenizer: Tokenizer, teachers: Sequence[Learner]) -> Lessons:
    """The train part and, where there are teachers, all else that they have an opinion of."""
    texts = workshop.lesson_texts() if teachers else list(workshop.splits.train.texts)
    return Lessons(
        sequences=encode_texts(tokenizer, texts),
        label_ids=workshop.splits.train.label_ids,
        originals=len(workshop.splits.train) + len(workshop.splits.unlabelled),
        opinions=tuple(workshop.opinion_of(teacher, texts) for teacher in teachers),
    )


def _check_widths(full: FullConfig, teacher: TeacherConfig) -> None:
    if full.training is None or full.training.hidden_weight == 0.0:
        return
    width = read_config(checkpoint_folder(teacher.checkpoint)).shape.hidden_size
    if full.shape is not None:
        own = full.shape.hidden_size
    else:
        assert full.checkpoint is not None, "the configuration names a checkpoint or a shape"
        own = read_config(checkpoint_folder(full.checkpoint)).shape.hidden_size
    if own != width:
        raise ConfigurationError(
            "full.training.hidden_weight: hidden states can be compared only between networks of one width; "
            f"the teacher's is {width} and the full model's {own}: leave hidden_weight out, or make them equal"
        )


def _taught(workshop: Workshop, learner: Learner, teachers: Sequence[Learner], plan: TrainingConfig) -> Learner:
    seed, splits, model = workshop.config.seed, workshop.splits, learner.model
    lessons = lessons_for(workshop, learner.tokenizer, teachers)
    task = TrainingTask(
        name=learner.name,
        model=model,
        steps_per_epoch=steps_per_epoch(lessons, plan),
        epoch_losses=lambda epoch: epoch_losses(model, lessons, plan, seed, epoch),
        accuracy=lambda: workshop.accuracy_on(splits.validation, model, learner.tokenizer),
    )
    history = train(task, plan, learner.folder, seed, workshop.report)
    return Learner(learner.name, model, learner.tokenizer, learner.folder, history)


def _imported(workshop: Workshop, name: str, checkpoint: Checkpoint, folder: Path) -> Learner:
    model = classifier_from(checkpoint, workshop.splits.labels, workshop.config.seed)
    return Learner(name, model, open_tokenizer(checkpoint, workshop.config.data.max_length), folder, UNTAUGHT)


def _ready_full(workshop: Workshop, plan: FullConfig) -> Learner:
    folder = workshop.stage_folder("full", *_beginning(plan))
    learner = _begun(workshop, plan, folder)
    return untrained(workshop, learner.name, learner.model, learner.tokenizer, folder)


def _beginning(plan: FullConfig) -> list[str]:
    """What decides how the network begins."""
    assert plan.checkpoint is not None, "the configuration names a checkpoint or a shape"
    words = [f"{label}={word}" for label, word in sorted(plan.label_words.items())]
    own = checkpoint_digest(plan.checkpoint)
    return [own] if plan.prompt is None else [own, plan.prompt, *words]


def _begun(workshop: Workshop, plan: FullConfig, folder: Path) -> Learner:
    """The checkpoint behind its prompt, or with its own head, or with a fresh one where it will be trained."""
    assert plan.checkpoint is not None, "the configuration names a checkpoint or a shape"
    max_length, labels = workshop.config.data.max_length, workshop.splits.labels
    checkpoint = open_checkpoint(plan.checkpoint, max_length)
    if plan.prompt is not None:
        model, tokenizer = prompted_classifier(checkpoint, plan, labels, max_length)
        return Learner("full model", model, tokenizer, folder, UNTAUGHT)
    if plan.training is None:
        _check_labels(checkpoint, plan.checkpoint, labels)
    return _imported(workshop, "full model", checkpoint, folder)


def _check_labels(checkpoint: Checkpoint, source: str, labels: tuple[str, ...]) -> None:
    if not checkpoint.labels:
        raise CheckpointError(
            f"{source}: has no label head; add [full.training] to train one, "
            "or full.prompt to let its language model score the labels' words"
        )
    if set(checkpoint.labels) != set(labels):
        strangers = sorted(set(checkpoint.labels) ^ set(labels))[:5]
        raise CheckpointError(f"{source}: its head knows other labels than the data, among them {', '.join(strangers)}")


def _new_full(workshop: Workshop, shape: ShapeConfig, plan: TrainingConfig, teacher: Learner) -> Learner:
    """A new network over a part of the teacher's vocabulary, beginning with its word vectors as pre-trained."""
    config = workshop.config
    assert config.teacher is not None, "the configuration asks for a teacher"
    checkpoint = open_checkpoint(config.teacher.checkpoint, config.data.max_length)
    own = open_tokenizer(checkpoint, config.data.max_length)
    size = config.vocabulary.size or own.get_vocab_size()
    vocabulary = reduce_tokenizer(own, workshop.splits.train.texts, size)
    network = shape.network(len(vocabulary.source_ids), config.data.max_length)
    model = new_classifier(network, len(workshop.splits.labels), config.seed)
    vectors = word_vectors(checkpoint)[torch.as_tensor(vocabulary.source_ids)]
    with torch.no_grad():
        model.get_parameter("body.embed_tokens.weight").copy_(vectors * (EMBEDDING_STANDARD_DEVIATION / vectors.std()))
    folder = workshop.stage_folder("full", config.vocabulary, shape, plan, *_folders(workshop, (teacher,)))
    return Learner("full model", model, vocabulary.tokenizer, folder, UNTAUGHT)


def _folders(workshop: Workshop, teachers: Sequence[Learner]) -> list[str]:
    """What the teachers' opinions depend on."""
    return [str(workshop.config.augmentation_pool_copies), *(teacher.folder.name for teacher in teachers)]
