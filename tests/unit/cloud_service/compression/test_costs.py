"""Costs are those of the weights there are, and of the arithmetic that the exported graph does."""

from __future__ import annotations

import dataclasses

import pytest

from cloud_service.compression.costs import network_cost
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

ERNIE = NetworkShape(Family.ERNIE, 50, 16, 32, 16, (LayerShape(8, 4, 24),), 1e-6, Pooling.LAST, 10000.0)
BERT = NetworkShape(Family.BERT, 50, 16, 48, 4, (LayerShape(12, 12, 96),) * 2, 1e-12, Pooling.MEAN)
POOLED_BERT = dataclasses.replace(BERT, pooling=Pooling.POOLER)
UNEVEN = ERNIE.with_layers((LayerShape(8, 4, 24), LayerShape(4, 2, 10)))


@pytest.mark.parametrize("shape", [ERNIE, BERT, POOLED_BERT, UNEVEN], ids=["ernie", "bert", "pooler", "uneven"])
def test_parameters_are_those_of_the_network_that_is_built(shape: NetworkShape) -> None:
    built = sum(parameter.numel() for parameter in new_classifier(shape, 5, seed=0).parameters())
    assert network_cost(shape, 5, 16).parameters == built


def test_of_the_last_layer_keys_and_values_alone_are_computed_for_all_tokens() -> None:
    keys_and_values = 16 * 32 * (2 * 4) * 16
    scores = 2 * 16 * 8 * 16
    of_one_token = 32 * 8 * 16 + 8 * 16 * 32 + 3 * 32 * 24 + 32 * 5
    assert network_cost(ERNIE, 5, 16).multiply_accumulates == keys_and_values + scores + of_one_token


def test_before_the_last_layer_a_token_attends_to_itself_and_what_is_before_it() -> None:
    one, two = network_cost(ERNIE, 5, 16), network_cost(ERNIE.with_layers(ERNIE.layers * 2), 5, 16)
    products = 16 * 32 * (2 * 8 + 2 * 4) * 16 + 16 * 3 * 32 * 24
    assert two.multiply_accumulates - one.multiply_accumulates == products + 16 * 17 * 8 * 16


def test_a_mean_over_tokens_needs_every_token_to_the_end() -> None:
    products, scores, ffn = 4 * 48 * 48, 2 * 16 * 48, 2 * 48 * 96
    cost = network_cost(BERT, 5, 16)
    assert cost.multiply_accumulates == 2 * 16 * (products + scores + ffn) + 48 * 5
    assert network_cost(POOLED_BERT, 5, 16).multiply_accumulates < cost.multiply_accumulates


def test_eight_heads_of_twelve_do_two_thirds_of_attention() -> None:
    fewer = BERT.with_layers((LayerShape(8, 8, 96),) * 2)
    before, after = network_cost(BERT, 5, 16), network_cost(fewer, 5, 16)
    assert after.attention_multiply_accumulates * 3 == before.attention_multiply_accumulates * 2
    assert [layer.ffn_multiply_accumulates for layer in after.layers] == [
        layer.ffn_multiply_accumulates for layer in before.layers
    ]


def test_a_prefix_is_attended_to_and_its_keys_and_values_are_kept() -> None:
    two_layers = ERNIE.with_layers(ERNIE.layers * 2)
    prefixed, plain = network_cost(two_layers.with_prefix([1, 2, 3]), 5, 13), network_cost(two_layers, 5, 13)
    more_scores = 2 * 3 * (13 + 1) * 8 * 16
    assert prefixed.multiply_accumulates == plain.multiply_accumulates + more_scores
    assert prefixed.parameters == plain.parameters
    assert prefixed.weight_bytes(1.0) == plain.weight_bytes(1.0) + 2 * 4 * 3 * 2 * 4 * 16


def test_bytes_follow_the_weights_format() -> None:
    cost = network_cost(ERNIE, 5, 16)
    assert cost.weight_bytes() == cost.parameters * 4
    assert cost.weight_bytes(0.5) == (cost.parameters + 1) // 2
