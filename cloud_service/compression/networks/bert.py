"""BERT as transformers defines it, with layers of differing size and a label head."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

from cloud_service.compression.encoding import TokenBatch
from cloud_service.compression.networks.classifier import TextClassifier, valid_mean
from cloud_service.compression.networks.shape import LayerShape, NetworkShape, Pooling


class BertClassifier(TextClassifier):
    """A BERT encoder whose head reads the mean over tokens or the pooler's state."""

    body: BertModel

    def __init__(self, shape: NetworkShape, label_count: int) -> None:
        body = BertModel(_config(shape, shape.layers[0]), add_pooling_layer=shape.pooling is Pooling.POOLER)
        body.encoder.layer = nn.ModuleList([_layer(shape, layer) for layer in shape.layers])
        super().__init__(shape, body, label_count)

    def pool(self, batch: TokenBatch) -> Tensor:
        """The mean over valid tokens, or the pooler's state."""
        output = self.body(input_ids=batch.input_ids, attention_mask=batch.attention_mask())
        if self.shape.pooling is Pooling.POOLER:
            return cast(Tensor, output.pooler_output)
        return valid_mean(output.last_hidden_state, batch)


def _layer(shape: NetworkShape, layer: LayerShape) -> BertLayer:
    """transformers' layer; where heads were pruned, their products are narrower than the network."""
    module = BertLayer(_config(shape, layer))  # type: ignore[no-untyped-call]
    attention, width = module.attention, layer.attention_heads * shape.head_size
    own = cast(BertSelfAttention, attention.self)
    own.num_attention_heads, own.attention_head_size = layer.attention_heads, shape.head_size
    own.all_head_size, own.scaling = width, shape.head_size**-0.5
    own.query, own.key, own.value = (nn.Linear(shape.hidden_size, width) for _ in range(3))
    attention.output.dense = nn.Linear(width, shape.hidden_size)
    return module


def _config(shape: NetworkShape, layer: LayerShape) -> BertConfig:
    config = BertConfig(
        vocab_size=shape.vocabulary_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=1,
        num_attention_heads=shape.hidden_size // shape.head_size,
        intermediate_size=layer.ffn_size,
        max_position_embeddings=shape.max_length,
        layer_norm_eps=shape.norm_epsilon,
    )
    config._attn_implementation = "sdpa"
    return config
