"""A torch classifier for any shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.bert import BertClassifier
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.ernie import ErnieClassifier
from cloud_service.compression.networks.shape import Family, NetworkShape

CLASSIFIERS: dict[Family, type[BertClassifier | ErnieClassifier]] = {
    Family.ERNIE: ErnieClassifier,
    Family.BERT: BertClassifier,
}


def new_classifier(shape: NetworkShape, label_count: int, seed: int) -> TextClassifier:
    """A classifier with fresh weights, the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLASSIFIERS[shape.family](shape, label_count)


def classifier_of(shape: NetworkShape, weights: Mapping[str, Tensor]) -> TextClassifier:
    """A classifier with these weights, under its own parameters' names, the label head's among them.

    Raises:
        CheckpointError: names or shapes differ from the network's (the message says which).
    """
    model = new_classifier(shape, weights["head.weight"].shape[0], seed=0)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(f"weights of another network: {error}") from error
    return model.eval()
