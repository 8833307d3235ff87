"""How much each part of a network matters: its query heads, key/value groups, feed-forward channels and layers.

Importances add up: a group's is that of its heads and its own keys and values, a layer's that of all its
parts, and the importance of several parts that leave together is their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.layout import LAYOUTS, LayerLayout, layer_tensors

Scores = NDArray[np.float64]
RankLayer = Callable[[LayerShape, Mapping[str, Tensor], LayerLayout], "LayerRanking"]


class Criterion(str, Enum):
    """What the importance of a part is judged by."""

    TAYLOR = "taylor"  # the loss's first-order change without the part (Molchanov et al., arXiv 1906.10771)
    MAGNITUDE = "magnitude"  # its weights' squared L2 norm
    RANDOM = "random"  # drawn, in proportion to its size: what the other two must beat


@dataclass(frozen=True)
class LayerRanking:
    """One layer's importances: `heads` [attention heads], `groups` [key/value heads], `channels` [ffn size]."""

    heads: Scores
    groups: Scores
    channels: Scores

    @property
    def layer(self) -> float:
        """The whole layer's importance."""
        return float(self.groups.sum() + self.channels.sum())


@dataclass(frozen=True)
class Ranking:
    """Importances of a network's parts, layer by layer."""

    criterion: Criterion
    layers: tuple[LayerRanking, ...]


def taylor_importance(model: nn.Module, losses: Iterable[Tensor]) -> dict[str, Tensor]:
    """Weight times gradient, summed over `losses`, by parameter name; the model's weights stay as they are."""
    model.zero_grad(set_to_none=True)
    for loss in losses:
        torch.autograd.backward(loss)
    importance = {
        name: (parameter * parameter.grad).detach() if parameter.grad is not None else torch.zeros_like(parameter)
        for name, parameter in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return importance


def rank_by_taylor(importance: Mapping[str, Tensor], shape: NetworkShape) -> Ranking:
    """|Σ weight · gradient| of each part, where its output is read: what a gate on the part would feel.

    `importance` is `taylor_importance`'s, over calibration batches.
    """

    def rank(layer: LayerShape, tensors: Mapping[str, Tensor], layout: LayerLayout) -> LayerRanking:
        by_column = tensors[layout.head_columns].double().sum(dim=0)
        heads = by_column.view(layer.attention_heads, -1).sum(dim=1).abs().numpy()
        groups = heads.reshape(layer.key_value_heads, -1).sum(axis=1)
        return LayerRanking(heads, groups, tensors[layout.channel_columns].double().sum(dim=0).abs().numpy())

    return _rank(Criterion.TAYLOR, importance, shape, rank)


def rank_by_magnitude(weights: Mapping[str, Tensor], shape: NetworkShape) -> Ranking:
    """The squared L2 norm of each part's weights, biases among them."""

    def rank(layer: LayerShape, tensors: Mapping[str, Tensor], layout: LayerLayout) -> LayerRanking:
        heads = _row_energy(tensors, layout.query_rows, layer.attention_heads)
        heads = heads + _energy(tensors[layout.head_columns].T, layer.attention_heads)
        shared = _row_energy(tensors, layout.group_rows, layer.key_value_heads)
        channels = _row_energy(tensors, layout.channel_rows, layer.ffn_size)
        channels = channels + _energy(tensors[layout.channel_columns].T, layer.ffn_size)
        return _with_groups(layer, heads, shared, channels)

    return _rank(Criterion.MAGNITUDE, weights, shape, rank)


def rank_at_random(shape: NetworkShape, seed: int) -> Ranking:
    """Importances drawn from [0, 1) times the width of what the part computes; the same for the same seed."""
    draw = np.random.default_rng(seed)

    def rank(layer: LayerShape) -> LayerRanking:
        heads = draw.random(layer.attention_heads) * shape.head_size
        shared = draw.random(layer.key_value_heads) * shape.head_size
        return _with_groups(layer, heads, shared, draw.random(layer.ffn_size))

    return Ranking(Criterion.RANDOM, tuple(rank(layer) for layer in shape.layers))


def _rank(criterion: Criterion, tensors: Mapping[str, Tensor], shape: NetworkShape, rank: RankLayer) -> Ranking:
    layout = LAYOUTS[shape.family]
    with torch.no_grad():
        layers = [rank(layer, layer_tensors(tensors, layout, n), layout) for n, layer in enumerate(shape.layers)]
    return Ranking(criterion, tuple(layers))


def _with_groups(layer: LayerShape, heads: Scores, shared: Scores, channels: Scores) -> LayerRanking:
    """Where every head has keys and values of its own, these count as the head's."""
    groups = heads.reshape(layer.key_value_heads, -1).sum(axis=1) + shared
    alone = layer.key_value_heads == layer.attention_heads
    return LayerRanking(groups if alone else heads, groups, channels)


def _row_energy(tensors: Mapping[str, Tensor], names: Iterable[str], parts: int) -> Scores:
    energy: Scores = np.array([_energy(tensors[name], parts) for name in names])
    return np.asarray(energy.sum(axis=0), dtype=np.float64)


def _energy(rows: Tensor, parts: int) -> Scores:
    """The squared norm of each of `parts` equal runs of rows."""
    return rows.double().square().reshape(parts, -1).sum(dim=1).numpy()
