"""ERNIE-4.5 as transformers defines it, with a label head on the last token."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers import Ernie4_5Config, Ernie4_5Model
from transformers.models.ernie4_5.modeling_ernie4_5 import Ernie4_5DecoderLayer

from cloud_service.compression.config import ShapeConfig
from cloud_service.compression.encoding import TokenBatch

EMBEDDING_DROPOUT = 0.1
HEAD_DROPOUT = 0.1
INITIALIZER_RANGE = 0.02


class ErnieClassifier(nn.Module):
    """Token ids to label logits.

    Padding is on the right and attention is causal, so no valid token ever sees padding and no mask
    is needed; the last valid token has seen the whole text.
    """

    def __init__(self, shape: ShapeConfig, vocabulary_size: int, label_count: int, max_length: int) -> None:
        super().__init__()
        self.shape = shape
        self.body = Ernie4_5Model(ernie_config(shape, vocabulary_size, max_length))
        self.embedding_dropout = nn.Dropout(EMBEDDING_DROPOUT)
        self.head_dropout = nn.Dropout(HEAD_DROPOUT)
        self.head = nn.Linear(shape.hidden_size, label_count)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Logits, float32 [batch, labels]."""
        last = self.last_hidden(self.embedding_dropout(self.body.embed_tokens(batch.input_ids)), batch.lengths)
        return cast(Tensor, self.head(self.head_dropout(last)))

    def last_hidden(self, embeddings: Tensor, lengths: Tensor) -> Tensor:
        """The normalised state of each row's last valid token, float32 [batch, hidden].

        What `Ernie4_5Model` computes, except that the last layer's feed-forward runs for that token
        alone: a fifth less work in a model of four layers.
        """
        positions = torch.arange(embeddings.shape[1])[None, :]
        rotary = self.body.rotary_emb(embeddings, position_ids=positions)
        hidden = embeddings
        for layer in self.body.layers[:-1]:
            hidden = layer(hidden, position_embeddings=rotary)
        final = cast(Ernie4_5DecoderLayer, self.body.layers[-1])
        attended, _ = final.self_attn(final.input_layernorm(hidden), position_embeddings=rotary)
        rows = torch.arange(len(lengths))
        last = hidden[rows, lengths - 1] + attended[rows, lengths - 1]
        last = last + final.mlp(final.post_attention_layernorm(last))
        return cast(Tensor, self.body.norm(last))


def ernie_config(shape: ShapeConfig, vocabulary_size: int, max_length: int) -> Ernie4_5Config:
    """The architecture's own configuration for this shape."""
    return Ernie4_5Config(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.ffn_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.attention_heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_size,
        max_position_embeddings=max_length,
        initializer_range=INITIALIZER_RANGE,
        use_cache=False,
        use_bias=False,
    )


def count_multiply_accumulates(shape: ShapeConfig, label_count: int, tokens: int) -> int:
    """Multiply-accumulates of one text of `tokens` tokens as the exported graph computes it.

    Matrix products and attention scores; of the last layer, everything after attention is for the
    last token alone.
    """
    query = shape.attention_heads * shape.head_size
    projections = shape.hidden_size * (query + 2 * shape.key_value_heads * shape.head_size)
    after = query * shape.hidden_size + 3 * shape.hidden_size * shape.ffn_size
    attention = tokens * (tokens + 1) * query
    whole = shape.layers * (tokens * projections + attention)
    return whole + (shape.layers - 1) * tokens * after + after + shape.hidden_size * label_count
