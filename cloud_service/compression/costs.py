"""What a network costs: its weights, and the multiply-accumulates of one text as the exported graph computes it."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

FLOAT32_BYTES = 4.0
TOKEN_TYPES = 2  # BERT's, of which a classifier sees the first


@dataclass(frozen=True)
class LayerCost:
    """One layer's weights, and multiply-accumulates apart for attention (its products and scores) and the rest.

    `prefix_values`: the keys and values that the graph keeps of a prefix, in FP32 whatever the weights are.
    """

    parameters: int
    attention_multiply_accumulates: int
    ffn_multiply_accumulates: int
    prefix_values: int = 0

    @property
    def multiply_accumulates(self) -> int:
        """Of the whole layer."""
        return self.attention_multiply_accumulates + self.ffn_multiply_accumulates


@dataclass(frozen=True)
class NetworkCost:
    """A whole network: its layers, its embeddings (no arithmetic), and what follows the last layer."""

    layers: tuple[LayerCost, ...]
    embedding_parameters: int
    head_parameters: int
    head_multiply_accumulates: int

    @property
    def parameters(self) -> int:
        """All weights, embeddings among them."""
        return self.embedding_parameters + self.head_parameters + sum(layer.parameters for layer in self.layers)

    @property
    def multiply_accumulates(self) -> int:
        """Of one text."""
        return self.head_multiply_accumulates + sum(layer.multiply_accumulates for layer in self.layers)

    @property
    def attention_multiply_accumulates(self) -> int:
        """Attention's part: products for query, key, value and output, and the scores."""
        return sum(layer.attention_multiply_accumulates for layer in self.layers)

    def weight_bytes(self, bytes_per_weight: float = FLOAT32_BYTES) -> int:
        """Size of the weights in bytes, rounded up; `bytes_per_weight` is 4 for FP32, about 1 for INT8.

        A prefix's keys and values are among them.
        """
        kept = FLOAT32_BYTES * sum(layer.prefix_values for layer in self.layers)
        return -int(-(self.parameters * bytes_per_weight + kept) // 1)


def network_cost(shape: NetworkShape, label_count: int, tokens: int) -> NetworkCost:
    """What `shape` with a head of `label_count` labels costs for one text of `tokens` tokens.

    Matrix products and attention scores are counted. Where the head reads one token's state, of the last layer
    keys and values alone are computed for all tokens. A prefix, which `tokens` does not count, is attended to.
    """
    last = len(shape.layers) - 1
    single = shape.pooling is not Pooling.MEAN
    layers = tuple(
        _layer_cost(shape, layer, tokens, 1 if single and index == last else tokens)
        for index, layer in enumerate(shape.layers)
    )
    hidden = shape.hidden_size
    pooler = hidden * hidden if shape.pooling is Pooling.POOLER else 0
    after = pooler + (hidden if pooler else 0) + (hidden + 1) * label_count
    return NetworkCost(
        layers=layers,
        embedding_parameters=_embedding_parameters(shape),
        head_parameters=after + (hidden if shape.family is Family.ERNIE else 0),
        head_multiply_accumulates=pooler + hidden * label_count,
    )


def _layer_cost(shape: NetworkShape, layer: LayerShape, tokens: int, tokens_after: int) -> LayerCost:
    query = layer.attention_heads * shape.head_size
    keys = layer.key_value_heads * shape.head_size
    hidden = shape.hidden_size
    into, out = hidden * (query + 2 * keys), query * hidden
    prefix = len(shape.prefix)
    if shape.family is Family.ERNIE:
        # Causal: a token sees itself and what is before it, the last one everything.
        seen = prefix + tokens if tokens_after == 1 else tokens * prefix + tokens * (tokens + 1) // 2
        ffn, other = 3 * hidden * layer.ffn_size, 2 * hidden
    else:
        seen = tokens * tokens_after
        ffn, other = 2 * hidden * layer.ffn_size, query + 2 * keys + layer.ffn_size + 6 * hidden
    return LayerCost(
        parameters=into + out + ffn + other,
        attention_multiply_accumulates=2 * tokens * hidden * keys
        + tokens_after * hidden * query
        + 2 * seen * query
        + tokens_after * out,
        ffn_multiply_accumulates=tokens_after * ffn,
        prefix_values=2 * keys * prefix,
    )


def _embedding_parameters(shape: NetworkShape) -> int:
    if shape.family is Family.ERNIE:
        return shape.vocabulary_size * shape.hidden_size
    return (shape.vocabulary_size + shape.max_length + TOKEN_TYPES + 2) * shape.hidden_size
