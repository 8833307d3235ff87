"""From a trained classifier to its graph, with proof that both say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.formats import Float32Weights
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphFiles
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.quantization.network import write_network

PARITY_TOLERANCE = 1e-4


def graph_source(model: TextClassifier) -> GraphSource:
    """What the graph builder needs of `model`."""
    weights = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
    return GraphSource(model.shape, weights)


def export_reference(model: TextClassifier, folder: Path, samples: list[list[int]]) -> GraphFiles:
    """Write `model` in FP32, and see that its graph agrees with torch on `samples`.

    Raises:
        ExportError: logits differ by more than `PARITY_TOLERANCE` of the largest (of 1, where it is less), or a
            weight is not finite.
    """
    files = write_network(graph_source(model), Float32Weights(), folder)
    difference = largest_difference(model, files.graph, samples)
    largest = float(np.abs(compute_logits(model, samples)).max())
    if not difference <= PARITY_TOLERANCE * max(1.0, largest):
        raise ExportError(f"the graph's logits differ from the model's by {difference:g}; the largest is {largest:g}")
    return files


def largest_difference(model: TextClassifier, graph: Path, samples: list[list[int]]) -> float:
    """Largest difference of a logit between `model` and `graph`, over `samples` as one padded batch."""
    logits = GraphSession(graph).run(pad_batch(samples))
    return float(np.abs(logits - compute_logits(model, samples)).max())
