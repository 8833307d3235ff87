"""Balancing moves size from activations to weights and changes no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_service.compression.evaluation import compute_logits
from cloud_service.compression.graphs.formats import Float32Weights
from cloud_service.compression.graphs.session import GraphSession
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.quantization.network import write_network
from cloud_service.compression.quantization.smoothing import foldings, smooth
from cloud_service.compression.quantization.statistics import collect_statistics
from tests.support.random_network import NETWORKS, random_network, source_of, token_sequences

ALL_NETWORKS = pytest.mark.parametrize("shape", NETWORKS.values(), ids=NETWORKS.keys())


@ALL_NETWORKS
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_a_balanced_network_says_the_same(shape: NetworkShape, alpha: float, tmp_path: Path) -> None:
    model = random_network(shape)
    source = source_of(model)
    balanced, _ = smooth(source, collect_statistics(source, token_sequences()), alpha)
    files = write_network(balanced, Float32Weights(), tmp_path)
    logits = GraphSession(files.graph).run_each(token_sequences(seed=1))
    np.testing.assert_allclose(logits, compute_logits(model, token_sequences(seed=1)), atol=1e-4)
    assert any(not np.array_equal(balanced.weights[name], source.weights[name]) for name in source.weights)


@ALL_NETWORKS
def test_the_new_statistics_are_those_a_new_calibration_would_find(shape: NetworkShape) -> None:
    source = source_of(random_network(shape))
    balanced, told = smooth(source, collect_statistics(source, token_sequences()))
    found = collect_statistics(balanced, token_sequences())
    for name, statistics in found.products.items():
        np.testing.assert_allclose(told.products[name].high, statistics.high, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(told.products[name].low, statistics.low, rtol=1e-3, atol=1e-4)


@ALL_NETWORKS
def test_with_all_of_the_spread_moved_every_channel_is_equally_large(shape: NetworkShape) -> None:
    source = source_of(random_network(shape))
    _, told = smooth(source, collect_statistics(source, token_sequences()), alpha=1.0)
    for folding in foldings(shape):
        if folding.channel_of is None:
            np.testing.assert_allclose(told.products[folding.product].absolute_maximum(), 1.0, rtol=1e-4)


def test_the_source_given_is_left_as_it_was() -> None:
    source = source_of(random_network(NETWORKS["ernie"]))
    before = {name: value.copy() for name, value in source.weights.items()}
    smooth(source, collect_statistics(source, token_sequences()))
    assert all(np.array_equal(source.weights[name], value) for name, value in before.items())


def test_a_channel_that_is_always_zero_keeps_its_weights() -> None:
    source = source_of(random_network(NETWORKS["ernie"]))
    name = "body.layers.0.input_layernorm.weight"
    norm = source.weights[name].copy()
    norm[3] = 0.0
    silenced = type(source)(source.shape, {**source.weights, name: norm})
    balanced, _ = smooth(silenced, collect_statistics(silenced, token_sequences()))
    column = "body.layers.0.self_attn.q_proj.weight"
    np.testing.assert_array_equal(balanced.weights[column][:, 3], source.weights[column][:, 3])


def test_of_bert_only_what_is_exact_is_folded() -> None:
    products = {folding.product for folding in foldings(NETWORKS["bert, pooler"])}
    assert products == {
        "encoder.layer.0.attention.output.dense.weight",
        "encoder.layer.1.attention.output.dense.weight",
        "pooler.dense.weight",
    }
