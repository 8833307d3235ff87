"""Makes the two bundles: exports the graphs, calibrates the gate on what they say, and writes folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.gate_maker import GatePlan, Predictions, Provenance, make_gate
from cloud_service.calibration.label_rules import critical_labels
from cloud_service.compression.dataset import Questions
from cloud_service.compression.durable import writing
from cloud_service.compression.graphs.export import graph_source
from cloud_service.compression.graphs.formats import Float16Storage
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.writer import LEAST_ONNXRUNTIME, OPSET, GraphFiles
from cloud_service.compression.precision_search import Tuned
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantizing import Bench
from cloud_service.compression.workshop import Learner, Workshop
from shared import __version__
from shared.bundle import (
    BundleDraft,
    GoldenItem,
    GoldenSet,
    GraphSpec,
    Preprocessing,
    Requirements,
    Role,
    TensorSpec,
    Tier,
)
from shared.gate import Gate, Risk, probabilities

CLEAR_MARGIN = 0.1
MOST_GOLDEN_TEXTS = 64
GOLDEN_TOLERANCE = {Tier.FULL: 1e-3, Tier.EDGE: 5e-2}
"""Another CPU may round an activation the other way before INT8, which moves a probability more than FP32 does."""


@dataclass(frozen=True)
class Shipped:
    """A model as it is shipped: its graph, written and loaded."""

    learner: Learner
    files: GraphFiles
    session: GraphSession


@dataclass(frozen=True)
class ShippedPair:
    """The model of the cloud and the one of the devices."""

    full: Shipped
    edge: Shipped


def export_pair(full: Learner, bench: Bench, tuned: Tuned) -> ShippedPair:
    """Write the full model in FP16 and the edge model in the precisions that were chosen.

    Raises:
        ExportError: a graph cannot be written.
    """
    full_files = write_network(graph_source(full.model), Float16Storage(), full.folder / "graph")
    edge_files = bench.build(tuned.choice, bench.folder / "graph")
    return ShippedPair(
        Shipped(full, full_files, GraphSession(full_files.graph)),
        Shipped(bench.learner, edge_files, GraphSession(edge_files.graph)),
    )


def predict(workshop: Workshop, pair: ShippedPair, part: Questions, name: str) -> Predictions:
    """What both graphs say of one part of the data, each text alone as on a device."""
    bar = workshop.report.start(f"predicting {name}", 2 * len(part))
    edge, full = (
        shipped.session.run_each(shipped.learner.encode(part.texts), lambda count: workshop.report.step(bar, count))
        for shipped in (pair.edge, pair.full)
    )
    workshop.report.finish(bar)
    return Predictions(edge, np.asarray(part.label_ids), full.argmax(axis=1))


def draft_bundle(workshop: Workshop, tier: Tier, version: str, shipped: Shipped) -> BundleDraft:
    """A bundle of `shipped`, without its card; the tokenizer is written beside the graph first."""
    files, max_tokens = shipped.files, shipped.learner.model.shape.max_text_length
    tokenizer = files.graph.parent / "tokenizer.json"
    with writing(tokenizer):
        shipped.learner.tokenizer.save(str(tokenizer))
    labels = len(workshop.splits.labels)
    tokens = tuple(TensorSpec(name, "tensor(int64)", ("batch", "sequence")) for name in ("input_ids", "attention_mask"))
    return BundleDraft(
        model=workshop.config.name,
        version=version,
        tier=tier,
        labels=workshop.splits.labels,
        preprocessing=Preprocessing(tokenizer=tokenizer.name, max_tokens=max_tokens),
        graph=GraphSpec(files.graph.name, tokens, (TensorSpec("logits", "tensor(float)", ("batch", labels)),)),
        requires=Requirements(LEAST_ONNXRUNTIME, OPSET, files.contrib_operators),
        files={
            files.graph.name: (Role.GRAPH, files.graph),
            files.weights.name: (Role.WEIGHTS, files.weights),
            tokenizer.name: (Role.TOKENIZER, tokenizer),
        },
        golden=golden_set(workshop, shipped, GOLDEN_TOLERANCE[tier]),
        borders={files.weights.name: files.borders},
    )


def golden_set(workshop: Workshop, shipped: Shipped, tolerance: float) -> GoldenSet:
    """The golden texts to which this graph's answer is clear, with that answer; the clearest one where none is."""
    texts = workshop.config.golden_texts or workshop.splits.validation.texts[:MOST_GOLDEN_TEXTS]
    chances = probabilities(shipped.session.run_each(shipped.learner.encode(texts)), 1.0)
    margins = np.array([_margin(row) for row in chances])
    clear = np.nonzero(margins >= min(CLEAR_MARGIN, margins.max()))[0]
    items = [
        GoldenItem(texts[row], workshop.splits.labels[int(chances[row].argmax())], round(float(chances[row].max()), 6))
        for row in clear
    ]
    return GoldenSet(tuple(items), tolerance)


def calibrate_gate(
    workshop: Workshop, validation: Predictions, calibration: Predictions, full_digest: str, edge_digest: str
) -> Gate:
    """The gate of the edge bundle, certified on the calibration part."""
    settings, part = workshop.config.calibration, workshop.splits.calibration
    plan = GatePlan(
        alphas=settings.alphas,
        delta=settings.delta,
        in_force={
            Risk.KEPT_ERROR: settings.error_alpha,
            Risk.KEPT_DISAGREEMENT: settings.disagreement_alpha,
        },
        critical=critical_labels(
            settings.critical, workshop.splits.labels, min(settings.error_alpha, settings.disagreement_alpha)
        ),
    )
    provenance = Provenance(
        model_digest=edge_digest,
        full_model_digest=full_digest,
        data=f"{data_name(workshop)}: {len(part)} texts drawn at random, seed {workshop.config.seed}",
        data_digest=part.digest(),
        code_version=__version__,
    )
    return make_gate(validation, calibration, plan, provenance)


def data_name(workshop: Workshop) -> str:
    """The training file's name, as certificates and reports show it; never where it lies."""
    data = workshop.config.data
    return f"{data.dataset} train.csv" if data.dataset is not None else (data.train or Path("train.csv")).name


def _margin(row: NDArray[np.float64]) -> float:
    second, first = np.partition(row, -2)[-2:]
    return float(first - second)
