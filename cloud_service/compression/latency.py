"""How long a network of some shape would take here, for pruning to a target: a line through three measured ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cloud_service.compression.costs import network_cost
from cloud_service.compression.graphs.export import graph_source
from cloud_service.compression.graphs.formats import Int8Dynamic
from cloud_service.compression.graphs.session import GraphSession, median_latencies_ms
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.workshop import Learner, Workshop

ROUNDS = 60


def latency_of_shape(workshop: Workshop, parent: Learner) -> Callable[[NetworkShape], float]:
    """Milliseconds of one text of the validation part's median length, by shape; measured when first asked for.

    A run's own time, the time of a layer, and the time of a multiply-accumulate, from INT8 graphs of the
    parent, of half its layers, and of half its feed-forward channels, with random weights.
    """
    weights: list[np.ndarray] = []

    def features(shape: NetworkShape) -> np.ndarray:
        cost = network_cost(shape, len(workshop.splits.labels), tokens)
        return np.array([1.0, len(shape.layers), cost.multiply_accumulates / 1e6])

    sequences = parent.encode(workshop.splits.validation.texts)
    tokens = int(np.median([len(sequence) for sequence in sequences]))

    def latency_ms(shape: NetworkShape) -> float:
        if not weights:
            shapes = _shapes_around(parent.model.shape)
            times = _measured_ms(workshop, shapes, tokens)
            weights.append(np.linalg.lstsq(np.stack([features(one) for one in shapes]), np.array(times), rcond=None)[0])
        return max(0.0, float(features(shape) @ weights[0]))

    return latency_ms


def _shapes_around(shape: NetworkShape) -> tuple[NetworkShape, ...]:
    thinner = tuple(dataclasses.replace(layer, ffn_size=max(1, layer.ffn_size // 2)) for layer in shape.layers)
    shorter = shape.layers[: max(1, len(shape.layers) // 2)]
    return (shape, shape.with_layers(shorter), shape.with_layers(thinner))


def _measured_ms(workshop: Workshop, shapes: tuple[NetworkShape, ...], tokens: int) -> list[float]:
    seed, labels, threads = workshop.config.seed, len(workshop.splits.labels), workshop.config.tuning.threads
    with TemporaryDirectory() as folder:
        sessions = []
        for index, shape in enumerate(shapes):
            source = graph_source(new_classifier(shape, labels, seed))
            files = write_network(source, Int8Dynamic(), Path(folder) / str(index))
            sessions.append(GraphSession(files.graph, threads))
        return median_latencies_ms(sessions, [[1] * tokens], ROUNDS)
