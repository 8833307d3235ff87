"""Makes the two bundles: calibrates the gate on what the graphs say, measures, and writes folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.gate_maker import GatePlan, Predictions, Provenance, make_gate
from cloud_service.compression.dataset import Questions
from cloud_service.compression.encoding import encode_texts
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.writer import LEAST_ONNXRUNTIME, OPSET, GraphFiles
from cloud_service.compression.workshop import Workshop
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
GOLDEN_TOLERANCE = {Tier.FULL: 1e-3, Tier.EDGE: 5e-2}
"""Another CPU may round an activation the other way before INT8, which moves a probability more than FP32 does."""


@dataclass(frozen=True)
class GraphPair:
    """The two exported graphs, written and loaded."""

    full: GraphFiles
    edge: GraphFiles
    full_session: GraphSession
    edge_session: GraphSession


def predict(workshop: Workshop, pair: GraphPair, part: Questions, name: str) -> Predictions:
    """What both graphs say of one part of the data, each text alone as on a device."""
    sequences = encode_texts(workshop.tokenizer, part.texts)
    bar = workshop.report.start(f"predicting {name}", 2 * len(sequences))
    edge = pair.edge_session.run_each(sequences, lambda count: workshop.report.step(bar, count))
    full = pair.full_session.run_each(sequences, lambda count: workshop.report.step(bar, count))
    workshop.report.finish(bar)
    return Predictions(edge, np.asarray(part.label_ids), full.argmax(axis=1))


def draft_bundle(
    workshop: Workshop, tier: Tier, version: str, files: GraphFiles, session: GraphSession, folder: Path
) -> BundleDraft:
    """A bundle of `files`; the tokenizer, and a card to be filled, are written into `folder` first."""
    max_tokens = workshop.config.data.max_length
    tokenizer = folder / "tokenizer.json"
    workshop.tokenizer.save(str(tokenizer))
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
        golden=golden_set(workshop, session, GOLDEN_TOLERANCE[tier]),
        borders={files.weights.name: files.borders},
    )


def golden_set(workshop: Workshop, session: GraphSession, tolerance: float) -> GoldenSet:
    """The golden texts to which this graph's answer is clear, with that answer."""
    texts = workshop.config.golden_texts
    chances = probabilities(session.run_each(encode_texts(workshop.tokenizer, texts)), 1.0)
    items = [
        GoldenItem(text, workshop.splits.labels[int(row.argmax())], round(float(row.max()), 6))
        for text, row in zip(texts, chances, strict=True)
        if _margin(row) >= CLEAR_MARGIN
    ]
    return GoldenSet(tuple(items), tolerance)


def calibrate_gate(
    workshop: Workshop, validation: Predictions, calibration: Predictions, full_digest: str, edge_digest: str
) -> Gate:
    """The gate of the edge bundle, certified on the calibration part."""
    settings, data, part = workshop.config.calibration, workshop.config.data, workshop.splits.calibration
    plan = GatePlan(
        alphas=settings.alphas,
        delta=settings.delta,
        in_force={
            Risk.KEPT_ERROR: settings.error_alpha,
            Risk.KEPT_DISAGREEMENT: settings.disagreement_alpha,
        },
    )
    provenance = Provenance(
        model_digest=edge_digest,
        full_model_digest=full_digest,
        data=f"{data.dataset} train.csv: {len(part)} questions drawn at random, seed {workshop.config.seed}",
        data_digest=part.digest(),
        code_version=__version__,
    )
    return make_gate(validation, calibration, plan, provenance)


def _margin(row: NDArray[np.float64]) -> float:
    second, first = np.partition(row, -2)[-2:]
    return float(first - second)
