"""Pruning removes what matters least, and really removes it."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from transformers.models.ernie4_5.modeling_ernie4_5 import Ernie4_5DecoderLayer

from cloud_service.compression.config import ShapeConfig
from cloud_service.compression.encoding import TokenBatch, pad_batch
from cloud_service.compression.errors import CompressionError
from cloud_service.compression.networks.classifier import ErnieClassifier, count_multiply_accumulates
from cloud_service.compression.pruning.heads import inherited_layers, prune_into, taylor_importance

PARENT = ShapeConfig(layers=3, hidden_size=32, attention_heads=8, key_value_heads=4, head_size=16, ffn_size=24)


def classifier(shape: ShapeConfig) -> ErnieClassifier:
    torch.manual_seed(0)
    return ErnieClassifier(shape, vocabulary_size=50, label_count=5, max_length=16).eval()


def batch() -> TokenBatch:
    return pad_batch([[3, 7, 9, 2], [5, 6], [8, 8, 1]])


def importance_of(model: ErnieClassifier) -> dict[str, torch.Tensor]:
    return taylor_importance(model, [model(batch()).logsumexp(dim=1).sum()])


def silence(model: ErnieClassifier, heads: tuple[int, ...], channels: tuple[int, ...]) -> None:
    """Make some heads and feed-forward channels of every layer contribute nothing."""
    with torch.no_grad():
        for layer in cast("list[Ernie4_5DecoderLayer]", list(model.body.layers)):
            for head in heads:
                layer.self_attn.o_proj.weight[:, head * 16 : (head + 1) * 16] = 0.0
            layer.mlp.down_proj.weight[:, list(channels)] = 0.0


def test_what_contributes_nothing_goes_first_and_the_answers_stay() -> None:
    parent = classifier(PARENT)
    silence(parent, heads=(2, 3, 5), channels=(0, 4, 10, 23))
    child = classifier(PARENT.model_copy(update={"key_value_heads": 3, "attention_heads": 6, "ffn_size": 20}))
    prune_into(parent, child, importance_of(parent))
    torch.testing.assert_close(child(batch()), parent(batch()))


def test_query_heads_leave_within_their_groups() -> None:
    parent = classifier(PARENT)
    silence(parent, heads=(0, 3, 4, 7), channels=())
    child = classifier(PARENT.model_copy(update={"attention_heads": 4}))
    prune_into(parent, child, importance_of(parent))
    torch.testing.assert_close(child(batch()), parent(batch()))


def test_importance_leaves_the_model_as_it_was() -> None:
    parent = classifier(PARENT)
    before = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    importance = importance_of(parent)
    assert set(importance) == {name for name, _ in parent.named_parameters()}
    assert all(torch.equal(before[name], tensor) for name, tensor in parent.state_dict().items())
    assert all(parameter.grad is None for parameter in parent.parameters())


@pytest.mark.parametrize(("layers", "expected"), [(1, [3]), (2, [0, 3]), (3, [0, 2, 3]), (4, [0, 1, 2, 3])])
def test_the_first_and_last_layers_are_inherited(layers: int, expected: list[int]) -> None:
    assert inherited_layers(4, layers) == expected


def test_a_child_wider_than_its_parent_is_refused_by_name() -> None:
    parent = classifier(PARENT)
    child = classifier(PARENT.model_copy(update={"ffn_size": 32}))
    with pytest.raises(CompressionError, match="ffn_size"):
        prune_into(parent, child, importance_of(parent))


def test_fewer_parts_are_less_work() -> None:
    smaller = PARENT.model_copy(update={"layers": 2, "ffn_size": 16})
    assert count_multiply_accumulates(smaller, 5, 16) < count_multiply_accumulates(PARENT, 5, 16)
    one_layer = PARENT.model_copy(update={"layers": 1})
    queries_and_keys = 16 * 32 * (8 + 2 * 4) * 16
    attention = 16 * 17 * 8 * 16
    after = 8 * 16 * 32 + 3 * 32 * 24 + 32 * 5
    assert count_multiply_accumulates(one_layer, 5, 16) == queries_and_keys + attention + after
