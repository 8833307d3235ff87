"""Tiny networks with random weights, as transformers itself saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    Ernie4_5Config,
    Ernie4_5ForCausalLM,
)

Edit = Callable[..., None]
Model = Any  # transformers' own annotations do not bear strict checking


def tiny_ernie_config(**changes: Any) -> Ernie4_5Config:
    sizes: dict[str, Any] = {
        "vocab_size": 60,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "max_position_embeddings": 40,
        "rope_theta": 10_000.0,
        "initializer_range": 0.2,
    }
    return Ernie4_5Config(**(sizes | changes))


def tiny_bert_config(**changes: Any) -> BertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 60,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "initializer_range": 0.2,
    }
    return BertConfig(**(sizes | changes))


def seeded(model_class: Model, config: Any) -> Model:
    torch.set_num_threads(1)
    torch.manual_seed(11)
    model = model_class(config).eval()
    for parameter in model.parameters():  # norms and biases too, so that none can be swapped unnoticed
        torch.nn.init.normal_(parameter, mean=0.05, std=0.2)
    return model


@pytest.fixture(scope="session")
def ernie() -> Model:
    return seeded(Ernie4_5ForCausalLM, tiny_ernie_config())


@pytest.fixture(scope="session")
def untied_ernie() -> Model:
    return seeded(Ernie4_5ForCausalLM, tiny_ernie_config(tie_word_embeddings=False))


@pytest.fixture(scope="session")
def bert() -> Model:
    return seeded(BertModel, tiny_bert_config())


@pytest.fixture(scope="session")
def bert_classifier() -> Model:
    return seeded(BertForSequenceClassification, tiny_bert_config(id2label={0: "card", 1: "rate", 2: "transfer"}))


@pytest.fixture
def folder(tmp_path: Path, ernie: Model) -> Path:
    """A good ERNIE checkpoint, for tests to spoil."""
    ernie.save_pretrained(tmp_path / "ernie")
    return tmp_path / "ernie"


@pytest.fixture
def bert_folder(tmp_path: Path, bert: Model) -> Path:
    bert.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def edit_config() -> Edit:
    """Change fields of a folder's config.json; None removes one."""

    def edit(folder: Path, **changes: object) -> None:
        path = folder / "config.json"
        document = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))

    return edit


@pytest.fixture
def edit_tensors() -> Edit:
    """Replace a folder's tensors by stored name; None removes one."""
    from safetensors.torch import load_file, save_file

    def edit(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
        path = folder / "model.safetensors"
        tensors = dict(load_file(path)) | changes
        kept = {name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}
        save_file(kept, path, metadata={"format": "pt"})

    return edit
