"""The matrix products of a network, as the graph builders write them: their names, sizes, and for how many tokens."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling


@dataclass(frozen=True)
class NetworkProduct:
    """One product: activations [tokens, inputs] times weights [inputs, outputs].

    `single`: it is computed for the one token that the head reads. Where the query is, as in the last layer, the
    product is that of key and value.
    """

    name: str
    inputs: int
    outputs: int
    single: bool


def products_of(shape: NetworkShape, label_count: int) -> tuple[NetworkProduct, ...]:
    """Every product of `shape` with a head of `label_count` labels, in the order in which the graph has them."""
    single = shape.pooling is not Pooling.MEAN
    last = len(shape.layers) - 1
    layer_products = _ernie_layer if shape.family is Family.ERNIE else _bert_layer
    products = [
        product
        for index, layer in enumerate(shape.layers)
        for product in layer_products(shape, layer, index, single and index == last)
    ]
    if shape.pooling is Pooling.POOLER:
        products.append(NetworkProduct("pooler.dense.weight", shape.hidden_size, shape.hidden_size, True))
    return (*products, NetworkProduct("head.weight", shape.hidden_size, label_count, True))


def _ernie_layer(shape: NetworkShape, layer: LayerShape, index: int, single: bool) -> list[NetworkProduct]:
    name, hidden, query = f"layers.{index}", shape.hidden_size, layer.attention_heads * shape.head_size
    packed = (0 if single else query) + 2 * layer.key_value_heads * shape.head_size
    return [
        NetworkProduct(f"{name}.self_attn.qkv_proj.weight", hidden, packed, False),
        NetworkProduct(f"{name}.self_attn.o_proj.weight", query, hidden, single),
        NetworkProduct(f"{name}.mlp.gate_up_proj.weight", hidden, 2 * layer.ffn_size, single),
        NetworkProduct(f"{name}.mlp.down_proj.weight", layer.ffn_size, hidden, single),
    ]


def _bert_layer(shape: NetworkShape, layer: LayerShape, index: int, single: bool) -> list[NetworkProduct]:
    name, hidden, query = f"encoder.layer.{index}", shape.hidden_size, layer.attention_heads * shape.head_size
    return [
        NetworkProduct(f"{name}.attention.self.qkv.weight", hidden, (2 if single else 3) * query, False),
        NetworkProduct(f"{name}.attention.output.dense.weight", query, hidden, single),
        NetworkProduct(f"{name}.intermediate.dense.weight", hidden, layer.ffn_size, single),
        NetworkProduct(f"{name}.output.dense.weight", layer.ffn_size, hidden, single),
    ]
