"""How much each part of a network matters: its query heads, key/value groups, feed-forward channels and layers.

Importances add up: a group's is that of its heads and its own keys and values, a layer's that of all its
parts, and the importance of several parts that leave together is their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cloud_service.compression.networks.classifier import TextClassifier
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.layout import LAYOUTS, LayerLayout, layer_tensors

Scores = NDArray[np.float64]
RankLayer = Callable[[LayerShape, Mapping[str, Tensor], LayerLayout], "LayerRanking"]


class Criterion(str, Enum):
    """What the importance of a part is judged by."""

    TAYLOR = "taylor"  # a text's loss's first-order change without the part (Molchanov et al., arXiv 1906.10771)
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


def rank_by_taylor(model: TextClassifier, losses: Iterable[Tensor]) -> Ranking:
    """The mean over texts of |Σ activation · gradient| of each part: what a gate on its output would feel.

    The absolute value is taken text by text (Michel et al., arXiv 1905.10650): where the network is trained,
    signed terms cancel over texts, however much a part does for each of them. `losses` are batch means, and
    each is computed when it is asked for; the weights stay as they are.
    """
    shape, layout, batches = model.shape, LAYOUTS[model.shape.family], 0
    layers = [_Gates.on(model, index, layout) for index in range(len(shape.layers))]
    model.zero_grad(set_to_none=True)
    try:
        for loss in losses:
            torch.autograd.backward(loss)
            batches += 1
    finally:
        for gates in layers:
            gates.remove()
        model.zero_grad(set_to_none=True)
    return Ranking(Criterion.TAYLOR, tuple(gates.ranking(batches) for gates in layers))


class _Gates:
    """What gates on one layer's heads and channels feel, summed over texts."""

    def __init__(self, layer: LayerShape) -> None:
        self._layer = layer
        self._heads = torch.zeros(layer.attention_heads, dtype=torch.float64)
        self._channels = torch.zeros(layer.ffn_size, dtype=torch.float64)
        self._hooks: list[RemovableHandle] = []

    @classmethod
    def on(cls, model: TextClassifier, index: int, layout: LayerLayout) -> _Gates:
        """Watch layer `index` of `model` until `remove`."""
        gates = cls(model.shape.layers[index])
        for name, felt in ((layout.head_columns, gates._heads), (layout.channel_columns, gates._channels)):
            reader = model.get_submodule(f"{layout.prefix}{index}.{name.removesuffix('.weight')}")
            gates._hooks.append(reader.register_forward_pre_hook(partial(_watch, felt)))
        return gates

    def remove(self) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()

    def ranking(self, batches: int) -> LayerRanking:
        """The means; a group's is that of its heads."""
        heads, channels = (felt.numpy() / max(1, batches) for felt in (self._heads, self._channels))
        return LayerRanking(heads, heads.reshape(self._layer.key_value_heads, -1).sum(axis=1), channels)


def _watch(felt: Tensor, _: nn.Module, inputs: tuple[Tensor]) -> None:
    """Add to `felt` [parts] what gates feel of `inputs`, [texts, ..., parts x width], once their gradient is known."""
    values = inputs[0].detach()  # the tensor itself would keep its own graph alive

    def add(gradient: Tensor) -> None:
        terms = (values.double() * gradient.double()).reshape(len(values), -1, len(felt), values.shape[-1] // len(felt))
        felt.add_(terms.sum(dim=(1, 3)).abs().sum(dim=0))

    inputs[0].register_hook(add)  # type: ignore[no-untyped-call]  # torch gives it no types


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
