"""A part's importance is what the network would lose with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

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
)

BATCH = pad_batch([[3, 7, 9, 2], [5, 6], [8, 8, 1]])


def losses_of(model: TextClassifier, *signs: float) -> Iterator[Tensor]:
    for sign in signs:
        yield sign * model(BATCH).logsumexp(dim=1).mean()


def rankings(shape: NetworkShape) -> list[Ranking]:
    model = new_classifier(shape, 5, seed=1).eval()
    return [
        rank_by_taylor(model, losses_of(model, 1.0)),
        rank_by_magnitude(model.state_dict(), shape),
        rank_at_random(shape, seed=3),
    ]


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
    ranked = rank_by_taylor(model, losses_of(model, 1.0)).layers[0]
    columns = model.state_dict()[f"{LAYOUTS[shape.family].prefix}0.{LAYOUTS[shape.family].head_columns}"]
    with torch.no_grad():
        before = model(BATCH).logsumexp(dim=1)
        columns[:, 8:16] *= 1 - 1e-3
        after = model(BATCH).logsumexp(dim=1)
    assert float((after - before).abs().mean()) * 1e3 == pytest.approx(ranked.heads[1], rel=1e-2)


def test_a_part_whose_terms_cancel_over_batches_counts_as_much_as_one_whose_terms_agree(shape: NetworkShape) -> None:
    model = new_classifier(shape, 5, seed=1).eval()
    agreeing, cancelling = (rank_by_taylor(model, losses_of(model, 1.0, sign)).layers[0] for sign in (1.0, -1.0))
    assert cancelling.heads.min() > 0 and cancelling.channels.min() > 0
    np.testing.assert_allclose(cancelling.heads, agreeing.heads)
    np.testing.assert_allclose(cancelling.channels, agreeing.channels)


def test_a_part_whose_terms_cancel_within_a_batch_still_counts(shape: NetworkShape) -> None:
    model = new_classifier(shape, 5, seed=1).eval()
    twice = pad_batch([[3, 7, 9, 2]] * 2)
    signs = torch.tensor([1.0, -1.0])
    ranked = rank_by_taylor(model, ((model(twice).logsumexp(dim=1) * signs).mean() for _ in range(1))).layers[0]
    alone = rank_by_taylor(model, (model(pad_batch([[3, 7, 9, 2]])).logsumexp(dim=1).mean() for _ in range(1)))
    np.testing.assert_allclose(ranked.heads, alone.layers[0].heads, rtol=1e-4)


def test_importance_leaves_the_model_as_it_was(shape: NetworkShape) -> None:
    model = new_classifier(shape, 5, seed=1).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, again = (rank_by_taylor(model, losses_of(model, 1.0)).layers[0] for _ in range(2))
    assert np.array_equal(first.heads, again.heads)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_chance_is_the_same_for_the_same_seed(shape: NetworkShape) -> None:
    first, again, other = (rank_at_random(shape, seed).layers[0].channels for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
