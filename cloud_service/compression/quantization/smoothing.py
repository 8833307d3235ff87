"""SmoothQuant (arXiv 2211.10438): channels with large activations lend their size to the weights.

A product X·W is unchanged when channel j of X is divided, and row j of W multiplied, by s_j; both then
lose less to rounding. The division costs nothing where it can be folded into what makes X:

ERNIE  norms before query/key/value, gate/up and the head    into the norm's weight
       the feed-forward's down product                       into the up product's rows (SiLU is on the gate)
       the attention's output product                        into the value product's rows, one s for all
                                                             query heads that share a key/value head
BERT   the attention's output product                        into the value product's rows and bias
       the pooler, or the head after the mean                into the last layer norm's weight and bias

Not in BERT: query/key/value and the intermediate product, whose layer norm also feeds the residual sum,
and the layer's output product, whose input has passed a GELU. There no folding is exact, and none is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.networks.shape import Family, NetworkShape, Pooling
from cloud_service.compression.quantization.statistics import ActivationStatistics

ALPHA = 0.5
"""The paper's: activations and weights share the burden equally."""

SMALLEST = 1e-5
LARGEST = 1e5
"""Scales stay between; a channel that is always zero, or has no weights, keeps a scale of one."""


@dataclass(frozen=True)
class Folding:
    """Where one product's scales go.

    `product`: its name in a plan. `consumers`: the matrices [out, in] whose columns are multiplied.
    `producers`: the vectors [in], or matrices [in, ...], whose entries or rows are divided.
    `channel_of`: int64 [in], the producers' row that makes each channel, or None where they are the same.
    """

    product: str
    consumers: tuple[str, ...]
    producers: tuple[str, ...]
    channel_of: NDArray[np.int64] | None = None


def smooth(
    source: GraphSource, statistics: ActivationStatistics, alpha: float = ALPHA
) -> tuple[GraphSource, ActivationStatistics]:
    """The same network in exact arithmetic, balanced, and what its products are given now.

    `alpha` from 0 to 1: how much of the activations' spread moves into the weights. Statistics should be of a
    hundred texts or more: the head sees one token of each, and a channel that was small by chance is enlarged.
    """
    weights = dict(source.weights)
    products = dict(statistics.products)
    for folding in foldings(source.shape):
        scales = _scales(folding, weights, products[folding.product].absolute_maximum(), alpha)
        channels = scales if folding.channel_of is None else scales[folding.channel_of]
        for name in folding.producers:
            weights[name] = weights[name] / (scales[:, None] if weights[name].ndim == 2 else scales)
        for name in folding.consumers:
            weights[name] = weights[name] * channels
        products[folding.product] = products[folding.product].divided(channels)
    return dataclasses.replace(source, weights=weights), ActivationStatistics(products)


def foldings(shape: NetworkShape) -> tuple[Folding, ...]:
    """Every product of the network whose scales can be folded exactly."""
    layers = _ernie_layer if shape.family is Family.ERNIE else _bert_layer
    found = [folding for index in range(len(shape.layers)) for folding in layers(shape, index)]
    return (*found, _last_norm(shape))


def _ernie_layer(shape: NetworkShape, index: int) -> tuple[Folding, ...]:
    name, body = f"layers.{index}", f"body.layers.{index}"
    attention, ffn = f"{body}.self_attn", f"{body}.mlp"
    layer = shape.layers[index]
    return (
        Folding(
            f"{name}.self_attn.qkv_proj.weight",
            tuple(f"{attention}.{part}_proj.weight" for part in "qkv"),
            (f"{body}.input_layernorm.weight",),
        ),
        Folding(
            f"{name}.self_attn.o_proj.weight",
            (f"{attention}.o_proj.weight",),
            (f"{attention}.v_proj.weight",),
            _value_channels(layer.attention_heads, layer.key_value_heads, shape.head_size),
        ),
        Folding(
            f"{name}.mlp.gate_up_proj.weight",
            tuple(f"{ffn}.{part}_proj.weight" for part in ("gate", "up")),
            (f"{body}.post_attention_layernorm.weight",),
        ),
        Folding(f"{name}.mlp.down_proj.weight", (f"{ffn}.down_proj.weight",), (f"{ffn}.up_proj.weight",)),
    )


def _bert_layer(shape: NetworkShape, index: int) -> tuple[Folding, ...]:
    attention = f"encoder.layer.{index}.attention"
    value = f"body.{attention}.self.value"
    output = f"{attention}.output.dense.weight"
    return (Folding(output, (f"body.{output}",), (f"{value}.weight", f"{value}.bias")),)


def _last_norm(shape: NetworkShape) -> Folding:
    if shape.family is Family.ERNIE:
        return Folding("head.weight", ("head.weight",), ("body.norm.weight",))
    norm = f"body.encoder.layer.{len(shape.layers) - 1}.output.LayerNorm"
    producers = (f"{norm}.weight", f"{norm}.bias")
    if shape.pooling is Pooling.POOLER:
        return Folding("pooler.dense.weight", ("body.pooler.dense.weight",), producers)
    return Folding("head.weight", ("head.weight",), producers)


def _value_channels(heads: int, key_value_heads: int, head_size: int) -> NDArray[np.int64]:
    """The value product's output channel behind each channel of the attention's output, int64 [heads · head_size]."""
    owner = np.arange(heads) // (heads // key_value_heads)
    return np.asarray(owner[:, None] * head_size + np.arange(head_size), np.int64).reshape(-1)


def _scales(
    folding: Folding, weights: Mapping[str, NDArray[np.float32]], activations: NDArray[np.float32], alpha: float
) -> NDArray[np.float32]:
    """max|X_j|^alpha / max|W_j|^(1 - alpha), of all that share a producer's row, float32 [producers' rows]."""
    largest = np.max([np.abs(weights[name]).max(axis=0) for name in folding.consumers], axis=0)
    if folding.channel_of is not None:
        rows = int(folding.channel_of.max()) + 1
        activations = _largest_by(folding.channel_of, activations, rows)
        largest = _largest_by(folding.channel_of, largest, rows)
    usable = (activations > 0) & (largest > 0)
    scales = np.where(usable, activations, 1.0) ** alpha / np.where(usable, largest, 1.0) ** (1.0 - alpha)
    return np.clip(scales, SMALLEST, LARGEST).astype(np.float32)


def _largest_by(owner: NDArray[np.int64], values: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    found = np.zeros(rows, np.float32)
    np.maximum.at(found, owner, values)
    return found
