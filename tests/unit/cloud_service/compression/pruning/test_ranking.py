"""A part's importance is what the network would lose with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import NetworkShape
from cloud_service.compression.pruning.layout import LAYOUTS
from cloud_service.compression.pruning.ranking import (
    Ranking,
    rank_at_random,
    rank_by_magnitude,
    rank_by_taylor,
    taylor_importance,
)

BATCH = pad_batch([[3, 7, 9, 2], [5, 6], [8, 8, 1]])


def importance_of(model: TextClassifier) -> dict[str, torch.Tensor]:
    return taylor_importance(model, [model(BATCH).logsumexp(dim=1).sum()])


def rankings(shape: NetworkShape) -> list[Ranking]:
    model = new_classifier(shape, 5, seed=1).eval()
    by_taylor = rank_by_taylor(importance_of(model), shape)
    return [by_taylor, rank_by_magnitude(model.state_dict(), shape), rank_at_random(shape, seed=3)]


def test_every_part_of_every_layer_is_ranked(shape: NetworkShape) -> None:
    for ranking in rankings(shape):
        assert len(ranking.layers) == len(shape.layers)
        for ranked, layer in zip(ranking.layers, shape.layers, strict=True):
            assert ranked.heads.shape == (layer.attention_heads,)
            assert ranked.groups.shape == (layer.key_value_heads,)
            assert ranked.channels.shape == (layer.ffn_size,)
            assert all((scores > 0).all() for scores in (ranked.heads, ranked.groups, ranked.channels))


def test_a_layer_is_worth_its_parts(shape: NetworkShape) -> None:
    for ranking in rankings(shape):
        for layer in ranking.layers:
            assert layer.layer == pytest.approx(layer.groups.sum() + layer.channels.sum())
            assert layer.groups.sum() >= layer.heads.sum() - 1e-9


def test_magnitude_of_a_layer_is_the_norm_of_its_prunable_weights(shape: NetworkShape) -> None:
    weights = new_classifier(shape, 5, seed=1).state_dict()
    layout = LAYOUTS[shape.family]
    names = (*layout.query_rows, *layout.group_rows, layout.head_columns, *layout.channel_rows, layout.channel_columns)
    whole = sum(float(weights[f"{layout.prefix}1.{name}"].double().square().sum()) for name in names)
    assert rank_by_magnitude(weights, shape).layers[1].layer == pytest.approx(whole)


def test_taylor_foretells_what_a_slightly_closed_gate_does(shape: NetworkShape) -> None:
    model = new_classifier(shape, 5, seed=1).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    ranked = rank_by_taylor(importance_of(model), shape).layers[0]
    columns = model.state_dict()[f"{LAYOUTS[shape.family].prefix}0.{LAYOUTS[shape.family].head_columns}"]
    with torch.no_grad():
        before = model(BATCH).logsumexp(dim=1).sum()
        columns[:, 8:16] *= 1 - 1e-3
        after = model(BATCH).logsumexp(dim=1).sum()
    assert abs(float(after - before)) * 1e3 == pytest.approx(ranked.heads[1], rel=1e-2)


def test_importance_leaves_the_model_as_it_was(shape: NetworkShape) -> None:
    model = new_classifier(shape, 5, seed=1).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert set(importance_of(model)) == {name for name, _ in model.named_parameters()}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_chance_is_the_same_for_the_same_seed(shape: NetworkShape) -> None:
    first, again, other = (rank_at_random(shape, seed).layers[0].channels for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
