"""Tiny networks of both families whose random weights are large enough that a mistake would be seen in the logits."""

from __future__ import annotations

import numpy as np
import torch

from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

VOCABULARY, LABELS, MAX_LENGTH = 200, 5, 20


def network_shape(family: Family, pooling: Pooling, *layers: LayerShape) -> NetworkShape:
    """A hidden size of 64 in heads of 16."""
    return NetworkShape(
        family=family,
        vocabulary_size=VOCABULARY,
        max_length=MAX_LENGTH,
        hidden_size=64,
        head_size=16,
        layers=layers,
        norm_epsilon=1e-6,
        pooling=pooling,
        rope_theta=10000.0 if family is Family.ERNIE else 0.0,
    )


NETWORKS = {
    "ernie": network_shape(Family.ERNIE, Pooling.LAST, LayerShape(6, 3, 72), LayerShape(4, 2, 40)),
    "bert, mean": network_shape(Family.BERT, Pooling.MEAN, LayerShape(4, 4, 72), LayerShape(3, 3, 40)),
    "bert, pooler": network_shape(Family.BERT, Pooling.POOLER, LayerShape(3, 3, 72), LayerShape(4, 4, 40)),
}


def random_network(shape: NetworkShape, seed: int = 0, labels: int = LABELS) -> TextClassifier:
    """A classifier in evaluation mode."""
    model = new_classifier(shape, labels, seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=0.0 if parameter.dim() > 1 else 0.5, std=0.15, generator=random)
    return model


def source_of(model: TextClassifier) -> GraphSource:
    """What a graph of `model` is written from."""
    return GraphSource(model.shape, {name: tensor.numpy() for name, tensor in model.state_dict().items()})


def token_sequences(seed: int = 0) -> list[list[int]]:
    """Texts of differing length, one of a single token and one of the most."""
    random = np.random.default_rng(seed)
    return [random.integers(1, VOCABULARY, size).tolist() for size in (5, 1, 17, MAX_LENGTH, 9)]
