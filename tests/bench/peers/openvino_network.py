"""The network as OpenVINO's converter takes it, from transformers' module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import torch
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation
from torch import nn
from transformers import Ernie4_5ForCausalLM

LOWEST = torch.finfo(torch.float32).min


class Classifier(nn.Module):
    """[1, length] ids to the last token's state [1, hidden]."""

    def __init__(self, model: Ernie4_5ForCausalLM) -> None:
        super().__init__()
        self.body = model.model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(input_ids.shape[1])[None]
        mask = causal_mask(positions, input_ids.shape[1])
        states = self.body(input_ids, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
        last: torch.Tensor = states[:, -1]
        return last


class Generator(nn.Module):
    """New ids, their positions, the row to go on from, and the cache, to the last token's logits and the cache."""

    def __init__(self, model: Ernie4_5ForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, beam_idx: torch.Tensor, past: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        cache = Past([one.index_select(0, beam_idx) for one in past])
        mask = causal_mask(position_ids, past[0].shape[2] + input_ids.shape[1])
        states = self.model.model(
            input_ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return (self.model.lm_head(states[:, -1]), *cache.tensors)


class Past:
    """What attention needs of a cache, of keys and values in turn: the converter does not follow transformers' own."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors

    def get_seq_length(self) -> int:
        return self.tensors[0].shape[2]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for index, new in ((2 * layer, keys), (2 * layer + 1, values)):
            self.tensors[index] = torch.cat([self.tensors[index], new], dim=2)
        return self.tensors[2 * layer], self.tensors[2 * layer + 1]


def causal_mask(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Added to the scores of tokens at `positions` [1, new] over `length` keys: [1, 1, new, length]."""
    seen = torch.arange(length)[None] <= positions[0][:, None]
    return torch.where(seen, 0.0, LOWEST)[None, None]


def classifier(checkpoint: Path) -> openvino.Model:
    ids = torch.zeros((1, 8), dtype=torch.int64)
    with torch.inference_mode():
        module = Classifier(load(checkpoint))
        return openvino.convert_model(module, example_input=ids, input=[("input_ids", [1, -1])])


def generator(checkpoint: Path) -> openvino.Model:
    """With the cache as its state."""
    model = load(checkpoint)
    keys: torch.Tensor = model.model.layers[0].self_attn.k_proj.weight
    size = int(model.model.layers[0].self_attn.head_dim)
    heads = keys.shape[0] // size
    past = [torch.zeros((1, heads, 4, size)) for _ in range(2 * model.config.num_hidden_layers)]
    example = {
        "input_ids": torch.zeros((1, 2), dtype=torch.int64),
        "position_ids": torch.tensor([[4, 5]]),
        "beam_idx": torch.zeros(1, dtype=torch.int32),
        "past": past,
    }
    shapes = [[1, -1], [1, -1], [1]] + [[1, heads, -1, size]] * len(past)
    with torch.inference_mode():
        converted = openvino.convert_model(Generator(model), example_input=example)
    names = ["input_ids", "position_ids", "beam_idx", *(f"past.{index}" for index in range(len(past)))]
    for port, name, shape in zip(converted.inputs, names, shapes, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(openvino.PartialShape(shape))
    for index, port in enumerate(converted.outputs[1:]):
        port.get_tensor().set_names({f"present.{index}"})
    converted.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(converted, {f"past.{index}": f"present.{index}" for index in range(len(past))})
    for node in converted.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([opset13.constant(np.zeros((1, heads, 0, size), np.float32))])
    converted.validate_nodes_and_infer_types()
    return converted


def load(checkpoint: Path) -> Ernie4_5ForCausalLM:
    model: Ernie4_5ForCausalLM = Ernie4_5ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    return model
