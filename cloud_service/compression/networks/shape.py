"""The size of a network: what import reads, pruning shrinks, and the graph builder writes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum


class Family(str, Enum):
    """The architectures that can be imported, pruned and exported."""

    ERNIE = "ernie4_5"
    BERT = "bert"


class Pooling(str, Enum):
    """Which state of a text its label head reads."""

    LAST = "last"  # the last valid token's: causal networks
    MEAN = "mean"  # the mean over valid tokens: sentence encoders
    POOLER = "pooler"  # tanh of a dense layer over the first token's: BERT as pretrained


@dataclass(frozen=True)
class LayerShape:
    """One layer's size; layers of one network may differ.

    ERNIE's query heads share key/value heads in equal groups; BERT has as many of these as of those.
    """

    attention_heads: int
    key_value_heads: int
    ffn_size: int


@dataclass(frozen=True)
class NetworkShape:
    """A whole network's size. `max_length` counts tokens; `rope_theta` is ERNIE's rotary base, 0 for BERT."""

    family: Family
    vocabulary_size: int
    max_length: int
    hidden_size: int
    head_size: int
    layers: tuple[LayerShape, ...]
    norm_epsilon: float
    pooling: Pooling
    rope_theta: float = 0.0

    def with_layers(self, layers: tuple[LayerShape, ...]) -> NetworkShape:
        """The same network with other layers."""
        return dataclasses.replace(self, layers=layers)

    def with_vocabulary(self, size: int) -> NetworkShape:
        """The same network over another number of pieces."""
        return dataclasses.replace(self, vocabulary_size=size)
