"""Structured pruning: which layers, head groups and feed-forward channels a smaller descendant inherits.

Weights are really removed. Importance is first-order Taylor: the loss's change when a part is put to
zero, estimated as |Σ weight · gradient| over training batches (Molchanov et al., arXiv 1906.10771).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from cloud_service.compression.config import ShapeConfig
from cloud_service.compression.errors import CompressionError
from cloud_service.compression.networks.classifier import ErnieClassifier

Weights = dict[str, Tensor]


def inherited_layers(parent_layers: int, child_layers: int) -> list[int]:
    """Which of the parent's layers the child takes: spread evenly, the first and the last among them."""
    if child_layers == 1:
        return [parent_layers - 1]
    return [round(i * (parent_layers - 1) / (child_layers - 1)) for i in range(child_layers)]


def taylor_importance(model: ErnieClassifier, losses: Iterable[Tensor]) -> Weights:
    """Weight times gradient, summed over `losses`, by parameter name; the model's weights stay as they are."""
    model.zero_grad(set_to_none=True)
    for loss in losses:
        torch.autograd.backward(loss)
    importance = {
        name: (parameter * parameter.grad).detach() if parameter.grad is not None else torch.zeros_like(parameter)
        for name, parameter in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return importance


def prune_into(parent: ErnieClassifier, child: ErnieClassifier, importance: Weights) -> None:
    """Give `child` the most important parts of `parent`.

    Heads leave by whole key/value groups where the child has fewer groups, then by the query heads of
    each group; feed-forward channels leave one by one.

    Raises:
        CompressionError: the child is wider than the parent anywhere, or differs in what pruning keeps.
    """
    _check_descends(parent.shape, child.shape)
    weights = dict(parent.state_dict())
    result: Weights = {}
    for name in ("body.embed_tokens.weight", "body.norm.weight", "head.weight", "head.bias"):
        result[name] = weights[name]
    for target, source in enumerate(inherited_layers(parent.shape.layers, child.shape.layers)):
        layer = _layer(weights, source)
        scores = _layer(importance, source)
        pruned = _prune_ffn(_prune_heads(layer, scores, parent.shape, child.shape), scores, child.shape.ffn_size)
        result.update({f"body.layers.{target}.{name}": value for name, value in pruned.items()})
    child.load_state_dict(result)


def _check_descends(parent: ShapeConfig, child: ShapeConfig) -> None:
    sizes = ("layers", "attention_heads", "key_value_heads", "ffn_size")
    larger = [size for size in sizes if getattr(child, size) > getattr(parent, size)]
    fixed = [size for size in ("hidden_size", "head_size") if getattr(child, size) != getattr(parent, size)]
    if larger or fixed:
        raise CompressionError(f"the edge model cannot descend from the full one: {', '.join(larger + fixed)}")
    if child.attention_heads % child.key_value_heads:
        raise CompressionError("attention_heads must be a multiple of key_value_heads")


def _layer(tensors: Weights, index: int) -> Weights:
    prefix = f"body.layers.{index}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _prune_heads(layer: Weights, scores: Weights, parent: ShapeConfig, child: ShapeConfig) -> Weights:
    groups = parent.key_value_heads
    per_group = parent.attention_heads // groups
    by_head = scores["self_attn.o_proj.weight"].view(-1, groups * per_group, parent.head_size).sum(dim=(0, 2)).abs()
    kept_groups = _largest(by_head.view(groups, per_group).sum(dim=1), child.key_value_heads)
    child_per_group = child.attention_heads // child.key_value_heads
    kept_heads = torch.cat(
        [group * per_group + _largest(by_head.view(groups, per_group)[group], child_per_group) for group in kept_groups]
    )
    queries, keys = _channels(kept_heads, parent.head_size), _channels(kept_groups, parent.head_size)
    return layer | {
        "self_attn.q_proj.weight": layer["self_attn.q_proj.weight"][queries],
        "self_attn.k_proj.weight": layer["self_attn.k_proj.weight"][keys],
        "self_attn.v_proj.weight": layer["self_attn.v_proj.weight"][keys],
        "self_attn.o_proj.weight": layer["self_attn.o_proj.weight"][:, queries],
    }


def _prune_ffn(layer: Weights, scores: Weights, size: int) -> Weights:
    kept = _largest(scores["mlp.down_proj.weight"].sum(dim=0).abs(), size)
    return layer | {
        "mlp.gate_proj.weight": layer["mlp.gate_proj.weight"][kept],
        "mlp.up_proj.weight": layer["mlp.up_proj.weight"][kept],
        "mlp.down_proj.weight": layer["mlp.down_proj.weight"][:, kept],
    }


def _largest(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest scores, ascending."""
    return torch.sort(torch.topk(scores, count).indices).values


def _channels(heads: Tensor, head_size: int) -> Tensor:
    return (heads[:, None] * head_size + torch.arange(head_size)).flatten()
