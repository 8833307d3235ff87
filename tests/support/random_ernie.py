"""Generators with seeded random weights, in transformers, and as the graph builder takes them."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Ernie4_5Config, Ernie4_5ForCausalLM

from cloud_service.compression.graphs.source import GraphSource
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

VOCABULARY, MAX_LENGTH = 300, 96
GROUPED = NetworkShape(
    family=Family.ERNIE,
    vocabulary_size=VOCABULARY,
    max_length=MAX_LENGTH,
    hidden_size=128,
    head_size=16,
    layers=(LayerShape(attention_heads=8, key_value_heads=2, ffn_size=192),) * 3,
    norm_epsilon=1e-5,
    pooling=Pooling.LAST,
    rope_theta=500_000.0,
)


def random_generator(shape: NetworkShape = GROUPED, tied: bool = True, seed: int = 0) -> Ernie4_5ForCausalLM:
    """Weights large enough that a mistake anywhere would be seen in the logits; layers all of one size."""
    layer = shape.layers[0]
    config = Ernie4_5Config(
        vocab_size=shape.vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=layer.ffn_size,
        num_hidden_layers=len(shape.layers),
        num_attention_heads=layer.attention_heads,
        num_key_value_heads=layer.key_value_heads,
        head_dim=shape.head_size,
        max_position_embeddings=shape.max_length,
        rms_norm_eps=shape.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    model = Ernie4_5ForCausalLM(config)
    model.train(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=0.0 if parameter.dim() > 1 else 1.0, std=0.12)
    return model


def generator_source(model: Ernie4_5ForCausalLM, shape: NetworkShape = GROUPED) -> GraphSource:
    """What the graph builder needs of `model`; a tied output matrix is left out."""
    weights = {
        name.replace("model.", "body.", 1): tensor.detach().float().numpy()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight" or not model.config.tie_word_embeddings
    }
    return GraphSource(shape, weights)


def with_label_head(source: GraphSource, labels: int, seed: int = 0) -> GraphSource:
    """The same network as a classifier."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(labels, source.shape.hidden_size)).astype(np.float32)
    bias = random.normal(size=labels).astype(np.float32)
    return GraphSource(source.shape, {**source.weights, "head.weight": weight, "head.bias": bias})
