"""Which parts stay, by ratios of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from cloud_service.compression.errors import CompressionError
from cloud_service.compression.networks.shape import LayerShape, NetworkShape
from cloud_service.compression.pruning.ranking import LayerRanking, Ranking, Scores
from cloud_service.compression.pruning.surgery import KeptLayer, KeptParts

CHANNEL_MULTIPLE = 32  # the products' kernels take whole runs of channels


class LayerChoice(str, Enum):
    """Which layers stay between the first and the last, which always do."""

    EVEN = "even"  # spread evenly
    IMPORTANCE = "importance"  # the most important


@dataclass(frozen=True)
class KeepRatios:
    """How much of every layer stays, and how many layers; 1.0 and None keep all."""

    heads: float = 1.0
    ffn: float = 1.0
    groups: float = 1.0  # whole key/value groups, where query heads share them
    layers: int | None = None
    layer_choice: LayerChoice = LayerChoice.EVEN
    channel_multiple: int = CHANNEL_MULTIPLE


def allot_by_ratios(ranking: Ranking, shape: NetworkShape, ratios: KeepRatios) -> KeptParts:
    """The most important parts, as many of each kind in every layer as `ratios` say.

    Counts are rounded to the nearest that can be had, and are never zero: heads to as many in every
    group, channels to `channel_multiple`.

    Raises:
        CompressionError: more layers are asked for than there are.
    """
    count = len(shape.layers) if ratios.layers is None else ratios.layers
    chosen = choose_layers(ranking, count, ratios.layer_choice)
    return _best_parts(ranking, shape, chosen, [_scaled(shape.layers[source], ratios) for source in chosen])


def choose_layers(ranking: Ranking, count: int, choice: LayerChoice) -> list[int]:
    """Which `count` layers stay, ascending: the first and the last among them, or the last where one stays.

    Raises:
        CompressionError: there are fewer layers, or `count` is none.
    """
    there = len(ranking.layers)
    if not 1 <= count <= there:
        raise CompressionError(f"{count} layers cannot be kept of {there}")
    if count == 1:
        return [there - 1]
    if choice is LayerChoice.EVEN:
        return [round(i * (there - 1) / (count - 1)) for i in range(count)]
    inner = np.array([layer.layer for layer in ranking.layers[1:-1]])
    return [0, *(index + 1 for index in largest(inner, count - 2)), there - 1]


def largest(scores: Scores, count: int) -> list[int]:
    """Indices of the `count` largest scores, ascending; of equal ones, the first."""
    return sorted(int(index) for index in np.argsort(-scores, kind="stable")[:count])


def _scaled(layer: LayerShape, ratios: KeepRatios) -> LayerShape:
    per_group = layer.attention_heads // layer.key_value_heads
    multiple = min(ratios.channel_multiple, layer.ffn_size)
    channels = layer.ffn_size if ratios.ffn >= 1.0 else _nearest(layer.ffn_size * ratios.ffn, multiple, layer.ffn_size)
    if per_group == 1:
        heads = _nearest(layer.attention_heads * min(ratios.heads, ratios.groups), 1, layer.attention_heads)
        return LayerShape(heads, heads, channels)
    groups = _nearest(layer.key_value_heads * ratios.groups, 1, layer.key_value_heads)
    heads = _nearest(layer.attention_heads * ratios.heads, groups, groups * per_group)
    return LayerShape(heads, groups, channels)


def _nearest(wanted: float, multiple: int, most: int) -> int:
    """The multiple nearest to `wanted`, from one `multiple` to `most`; the larger of two as near."""
    return min(max(int(wanted / multiple + 0.5), 1) * multiple, most // multiple * multiple)


def _best_parts(
    ranking: Ranking, shape: NetworkShape, chosen: Sequence[int], wanted: Sequence[LayerShape]
) -> KeptParts:
    return KeptParts(
        tuple(
            KeptLayer(
                source,
                _best_heads(ranking.layers[source], shape.layers[source], layer),
                tuple(largest(ranking.layers[source].channels, layer.ffn_size)),
            )
            for source, layer in zip(chosen, wanted, strict=True)
        )
    )


def _best_heads(ranking: LayerRanking, source: LayerShape, wanted: LayerShape) -> tuple[int, ...]:
    """Groups leave whole, then heads within those that stay."""
    per_group = source.attention_heads // source.key_value_heads
    count = wanted.attention_heads // wanted.key_value_heads
    by_group = ranking.heads.reshape(source.key_value_heads, per_group)
    groups = largest(ranking.groups, wanted.key_value_heads)
    return tuple(group * per_group + head for group in groups for head in largest(by_group[group], count))
