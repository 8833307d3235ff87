"""The whole way from questions to two bundles, step by step. Each step finds what an earlier run has done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from cloud_service.calibration.gate_maker import Predictions
from cloud_service.compression.config import ModelConfig
from cloud_service.compression.encoding import encode_texts
from cloud_service.compression.evaluation import accuracy, compute_logits
from cloud_service.compression.figures import (
    LATENCY_ROUNDS,
    TYPICAL_TOKENS,
    Figures,
    ModelFigures,
    figures_by_alpha,
    gate_figures,
)
from cloud_service.compression.graphs.export import export_classifier
from cloud_service.compression.graphs.formats import Float16Storage, Int8Dynamic
from cloud_service.compression.graphs.session import GraphSession, median_latencies_ms
from cloud_service.compression.graphs.writer import GraphFiles
from cloud_service.compression.model_card import edge_card, full_card
from cloud_service.compression.networks.classifier import ErnieClassifier, count_multiply_accumulates
from cloud_service.compression.package import GraphPair, calibrate_gate, draft_bundle, predict
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.students import Student, train_edge, train_full
from cloud_service.compression.teaching import Teacher, ask_teacher, train_teacher
from cloud_service.compression.workshop import Workshop, open_workshop
from shared.bundle import BundleDraft, Role, Tier, write_bundle
from shared.documents import canonical_json
from shared.gate import Gate

CARD_NAME = "MODEL_CARD.md"
PARITY_SAMPLES = 32


@dataclass(frozen=True)
class TrainedModels:
    """What the training stages leave."""

    teacher: Teacher
    full: Student
    edge: Student


def train_models(config: ModelConfig, report: ProgressReport) -> Figures:
    """Train, prune, quantize, calibrate, and write both bundles into `config.bundles_dir`.

    Returns:
        What was measured; also written to `figures.json` in the work folder.

    Raises:
        DatasetError: the data set is not there or cannot be split as asked.
        CheckpointError: a checkpoint is damaged.
        ExportError: a graph cannot be written or disagrees with its model.
        OSError: the disk is full or not writable; finished stages and old bundles stay usable.
    """
    workshop = open_workshop(config, report)
    teacher = train_teacher(workshop)
    opinions = ask_teacher(workshop, teacher)
    full = train_full(workshop, opinions)
    edge = train_edge(workshop, opinions, full)
    return make_bundles(workshop, TrainedModels(teacher, full, edge))


def make_bundles(workshop: Workshop, models: TrainedModels) -> Figures:
    """Export both models, calibrate the edge model's gate, measure, and write both bundles."""
    config, splits = workshop.config, workshop.splits
    pair = export_pair(workshop, models)
    full_draft = draft_bundle(
        workshop, Tier.FULL, config.full.version, pair.full, pair.full_session, models.full.folder
    )
    edge_draft = draft_bundle(
        workshop, Tier.EDGE, config.edge.version, pair.edge, pair.edge_session, models.edge.folder
    )
    gate = calibrate_gate(
        workshop,
        predict(workshop, pair, splits.validation, "validation part"),
        predict(workshop, pair, splits.calibration, "calibration part"),
        full_draft.manifest().model_digest,
        edge_draft.manifest().model_digest,
    )
    test = predict(workshop, pair, splits.test, "test part")
    figures = _measure(workshop, models, pair, test, gate)
    (config.work_dir / "figures.json").write_bytes(canonical_json(figures))
    full_text, edge_text = full_card(config, splits, figures), edge_card(config, splits, figures, gate)
    bundles = config.bundles_dir
    write_bundle(_with_card(full_draft, models.full.folder, full_text), None, bundles / f"{config.name}-full")
    write_bundle(_with_card(edge_draft, models.edge.folder, edge_text), gate, bundles / f"{config.name}-edge")
    return figures


def export_pair(workshop: Workshop, models: TrainedModels) -> GraphPair:
    """Write both graphs, each beside its checkpoint, and load them."""
    samples = workshop.validation_sequences()[:PARITY_SAMPLES]
    full = export_classifier(models.full.model, Float16Storage(), models.full.folder / "graph", samples)
    edge = export_classifier(models.edge.model, Int8Dynamic(), models.edge.folder / "graph", samples)
    return GraphPair(full, edge, GraphSession(full.graph), GraphSession(edge.graph))


def _measure(workshop: Workshop, models: TrainedModels, pair: GraphPair, test: Predictions, gate: Gate) -> Figures:
    texts, label_ids = workshop.splits.test.texts, workshop.splits.test.label_ids
    sequences = encode_texts(workshop.tokenizer, texts)
    teacher_sequences = encode_texts(workshop.encoder_tokenizer, texts)
    full_ms, edge_ms = median_latencies_ms((pair.full_session, pair.edge_session), sequences, LATENCY_ROUNDS)
    full_right = float((test.full_answers == test.label_ids).mean())
    edge_right = accuracy(test.edge_logits, label_ids)
    return Figures(
        full=_model_figures(models.full.model, pair.full, full_right, full_ms),
        edge=_model_figures(models.edge.model, pair.edge, edge_right, edge_ms),
        edge_before_int8_accuracy=accuracy(compute_logits(models.edge.model, sequences), label_ids),
        teacher_accuracy=accuracy(compute_logits(models.teacher.model, teacher_sequences), label_ids),
        validation_accuracy={
            "full": models.full.validation_accuracy,
            "edge": models.edge.validation_accuracy,
        },
        gate=gate_figures(test, gate, gate.threshold()),
        gate_by_error_alpha=figures_by_alpha(test, gate),
    )


def _model_figures(model: ErnieClassifier, files: GraphFiles, right: float, latency_ms: float) -> ModelFigures:
    return ModelFigures(
        accuracy=right,
        size_bytes=files.graph.stat().st_size + files.weights.stat().st_size,
        multiply_accumulates=count_multiply_accumulates(model.shape, model.head.out_features, TYPICAL_TOKENS),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        latency_ms=latency_ms,
    )


def _with_card(draft: BundleDraft, folder: Path, text: str) -> BundleDraft:
    card = folder / CARD_NAME
    card.write_text(text, encoding="utf-8")
    return dataclasses.replace(draft, files={**draft.files, CARD_NAME: (Role.CARD, card)})
