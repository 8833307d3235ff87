"""Structured pruning itself: the weights of the parts that leave are really gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cloud_service.compression.errors import CompressionError
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.layout import LAYOUTS, LayerLayout, layer_tensors
from shared.documents import Document


@dataclass(frozen=True)
class KeptLayer(Document):
    """What stays of one layer: query heads and feed-forward channels by their number there, ascending.

    A key/value group stays with its heads, and leaves when it has none.
    """

    source: int  # the layer's number in the network it comes from
    heads: tuple[int, ...]
    channels: tuple[int, ...]

    def groups(self, layer: LayerShape) -> tuple[int, ...]:
        """The key/value groups of the kept heads, ascending."""
        per_group = layer.attention_heads // layer.key_value_heads
        return tuple(sorted({head // per_group for head in self.heads}))

    def shape(self, layer: LayerShape) -> LayerShape:
        """The size of what stays."""
        return LayerShape(len(self.heads), len(self.groups(layer)), len(self.channels))


@dataclass(frozen=True)
class KeptParts(Document):
    """What stays of a network: some of its layers, in their order."""

    layers: tuple[KeptLayer, ...]

    def shape(self, source: NetworkShape) -> NetworkShape:
        """The size of what stays of `source`."""
        return source.with_layers(tuple(kept.shape(source.layers[kept.source]) for kept in self.layers))


def all_parts(shape: NetworkShape) -> KeptParts:
    """Everything stays."""
    return KeptParts(
        tuple(
            KeptLayer(index, tuple(range(layer.attention_heads)), tuple(range(layer.ffn_size)))
            for index, layer in enumerate(shape.layers)
        )
    )


def prune(
    weights: Mapping[str, Tensor], shape: NetworkShape, kept: KeptParts
) -> tuple[dict[str, Tensor], NetworkShape]:
    """The weights of the kept parts under the smaller network's names, and its shape.

    Tensors that belong to no layer are those of `weights`, not copies.

    Raises:
        CompressionError: `kept` names a part the network has not, is out of order, leaves a layer without
            heads or channels, or keeps unequal numbers of heads in two groups of a layer.
    """
    _check(shape, kept)
    layout = LAYOUTS[shape.family]
    result = {name: value for name, value in weights.items() if not name.startswith(layout.prefix)}
    for target, part in enumerate(kept.layers):
        layer = layer_tensors(weights, layout, part.source)
        pruned = _prune_layer(layer, layout, part, shape)
        result.update({f"{layout.prefix}{target}.{name}": value for name, value in pruned.items()})
    return result, kept.shape(shape)


def _prune_layer(
    layer: Mapping[str, Tensor], layout: LayerLayout, kept: KeptLayer, shape: NetworkShape
) -> dict[str, Tensor]:
    queries = _features(kept.heads, shape.head_size)
    keys = _features(kept.groups(shape.layers[kept.source]), shape.head_size)
    channels = torch.tensor(kept.channels)
    rows = dict.fromkeys(layout.query_rows, queries) | dict.fromkeys(layout.group_rows, keys)
    rows |= dict.fromkeys(layout.channel_rows, channels)
    columns = {layout.head_columns: queries, layout.channel_columns: channels}
    pruned = {name: value[rows[name]] if name in rows else value for name, value in layer.items()}
    return pruned | {name: layer[name][:, index] for name, index in columns.items()}


def _features(heads: tuple[int, ...], head_size: int) -> Tensor:
    return (torch.tensor(heads)[:, None] * head_size + torch.arange(head_size)).flatten()


def _check(shape: NetworkShape, kept: KeptParts) -> None:
    _check_numbers("layers", [part.source for part in kept.layers], len(shape.layers))
    for part in kept.layers:
        layer = shape.layers[part.source]
        _check_numbers(f"heads of layer {part.source}", part.heads, layer.attention_heads)
        _check_numbers(f"channels of layer {part.source}", part.channels, layer.ffn_size)
        per_group = layer.attention_heads // layer.key_value_heads
        groups = [head // per_group for head in part.heads]
        if len({groups.count(group) for group in groups}) > 1:
            raise CompressionError(f"layer {part.source}: every key/value group must keep as many heads as the others")


def _check_numbers(what: str, numbers: tuple[int, ...] | list[int], count: int) -> None:
    if not numbers or list(numbers) != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] < count:
        raise CompressionError(f"{what} to keep must be some of 0 to {count - 1}, ascending, each once")
