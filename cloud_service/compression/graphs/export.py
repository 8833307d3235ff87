"""From a trained classifier to its graph, with proof that both say the same."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.errors import ExportError
from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.ernie import write_graph
from cloud_service.compression.graphs.formats import Float32Weights, WeightFormat
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.graphs.writer import GraphFiles
from cloud_service.compression.networks.classifier import ErnieClassifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

PARITY_TOLERANCE = 1e-4


def export_classifier(model: ErnieClassifier, form: WeightFormat, folder: Path, samples: list[list[int]]) -> GraphFiles:
    """Write `model` with weights in `form`, after its FP32 graph has agreed with torch on `samples`.

    Raises:
        ExportError: logits differ by more than `PARITY_TOLERANCE`, or a weight is not finite.
    """
    source = graph_source(model)
    with TemporaryDirectory() as temporary:
        reference = write_graph(source, Float32Weights(), Path(temporary))
        difference = largest_difference(model, reference.graph, samples)
    if not difference <= PARITY_TOLERANCE:
        raise ExportError(f"the graph's logits differ from the model's by {difference:g}")
    return write_graph(source, form, folder)


def graph_source(model: ErnieClassifier) -> GraphSource:
    """What the graph builder needs of `model`."""
    weights = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
    return GraphSource(_network_shape(model), weights)


def _network_shape(model: ErnieClassifier) -> NetworkShape:
    shape, config = model.shape, model.body.config
    layer = LayerShape(shape.attention_heads, shape.key_value_heads, shape.ffn_size)
    return NetworkShape(
        family=Family.ERNIE,
        vocabulary_size=config.vocab_size,
        max_length=config.max_position_embeddings,
        hidden_size=shape.hidden_size,
        head_size=shape.head_size,
        layers=(layer,) * shape.layers,
        norm_epsilon=config.rms_norm_eps,
        pooling=Pooling.LAST,
        rope_theta=cast("dict[str, float]", config.rope_parameters)["rope_theta"],
    )


def largest_difference(model: ErnieClassifier, graph: Path, samples: list[list[int]]) -> float:
    """Largest difference of a logit between `model` and `graph`, over `samples` as one padded batch."""
    logits = GraphSession(graph).run(pad_batch(samples))
    return float(np.abs(logits - compute_logits(model, samples)).max())
