"""The size of a network: what import reads, pruning shrinks, and the graph builder writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
    """A whole network's size. `max_length` counts tokens; `rope_theta` is ERNIE's rotary base, 0 for BERT.

    `prefix`: ids of the tokens with which every text begins and which nobody gives; they count in `max_length`.
    Only causal networks have one, for there its keys and values do not depend on the text.
    """

    family: Family
    vocabulary_size: int
    max_length: int
    hidden_size: int
    head_size: int
    layers: tuple[LayerShape, ...]
    norm_epsilon: float
    pooling: Pooling
    rope_theta: float = 0.0
    prefix: tuple[int, ...] = ()

    @property
    def max_text_length(self) -> int:
        """The most tokens that can be given."""
        return self.max_length - len(self.prefix)

    def with_layers(self, layers: tuple[LayerShape, ...]) -> NetworkShape:
        """The same network with other layers."""
        return dataclasses.replace(self, layers=layers)

    def with_pieces(self, source_ids: Sequence[int]) -> NetworkShape:
        """The same network over some of its pieces, the prefix's among them; each one's id here, in their new order."""
        new_ids = {source: new for new, source in enumerate(source_ids)}
        prefix = tuple(new_ids[token] for token in self.prefix)
        return dataclasses.replace(self, vocabulary_size=len(source_ids), prefix=prefix)

    def with_prefix(self, prefix: Sequence[int]) -> NetworkShape:
        """The same network for texts that all begin with these tokens."""
        return dataclasses.replace(self, prefix=tuple(prefix))
