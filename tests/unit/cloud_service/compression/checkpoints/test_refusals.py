from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cloud_service.compression.checkpoints.reading import read_checkpoint
from cloud_service.compression.errors import CheckpointError

Edit = Callable[..., None]
Model = Any  # transformers' own annotations do not bear strict checking
NORM = "model.norm.weight"
GATE = "model.layers.0.mlp.gate_proj.weight"


@pytest.fixture
def shards(tmp_path: Path, ernie: Model) -> Path:
    ernie.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    return tmp_path / "shards"


def edit_index(folder: Path, change: Callable[[dict[str, str]], None]) -> None:
    path = folder / "model.safetensors.index.json"
    document = json.loads(path.read_text())
    change(document["weight_map"])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
        ({"architectures": ["Ernie4_5ForCausalLM"], "model_type": "llama"}, "model_type"),
        ({"architectures": [], "model_type": "gpt2"}, "architectures"),
        ({"use_bias": True}, "use_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"compression_ratio": 2.0}, "compression_ratio"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"problem_type": "multi_label_classification"}, "problem_type"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling: type"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_parameters: rope_type"),
        ({"rope_parameters": {"rope_theta": 1e4, "factor": 8.0}}, "rope_parameters: factor"),
        ({"rope_parameters": {"rope_theta": "much"}}, "rope_theta"),
        ({"rope_parameters": [1]}, "rope_parameters"),
        ({"head_dim": 23}, "head_dim"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": True}, "vocab_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label"),
        ({"id2label": {"0": "a", "1": "a"}}, "id2label"),
        ({"tandem_layers": [{"attention_heads": 4}] * 2}, "key_value_heads"),
        ({"tandem_layers": [7, 7]}, "tandem_layers"),
        ({"tandem_layers": []}, "tandem_layers"),
        ({"tandem_layers": 7}, "tandem_layers"),
        ({"tandem_prefix": 7}, "tandem_prefix"),
        ({"tandem_prefix": [1, "2"]}, "tandem_prefix must be ids from 0 to 59"),
        ({"tandem_prefix": [True]}, "tandem_prefix must be ids"),
        ({"tandem_prefix": [-1]}, "tandem_prefix must be ids"),
        ({"tandem_prefix": [60]}, "tandem_prefix must be ids"),
        ({"tandem_prefix": [1] * 40}, "tandem_prefix has 40 tokens, which leaves none of 40"),
    ],
)
def test_an_ernie_option_that_cannot_be_computed_is_refused_by_name(
    folder: Path, edit_config: Edit, changes: dict[str, object], named: str
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=named):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_size": 65}, "hidden_size"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"tandem_pooling": "last"}, "tandem_pooling"),
        ({"tandem_prefix": [1]}, "tandem_prefix is not supported in bert"),
        ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
    ],
)
def test_a_bert_option_that_cannot_be_computed_is_refused_by_name(
    bert_folder: Path, edit_config: Edit, changes: dict[str, object], named: str
) -> None:
    edit_config(bert_folder, **changes)
    with pytest.raises(CheckpointError, match=named):
        read_checkpoint(bert_folder)


def test_a_pooling_other_than_the_mean_is_refused(bert_folder: Path) -> None:
    (bert_folder / "1_Pooling").mkdir()
    (bert_folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(CheckpointError, match="pooling_mode_max_tokens"):
        read_checkpoint(bert_folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_checkpoint(folder)


def test_a_folder_without_config_or_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="not a folder"):
        read_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("length", [0, 41])
def test_more_tokens_than_the_network_takes_are_refused(folder: Path, length: int) -> None:
    with pytest.raises(CheckpointError, match="1 to 40 tokens"):
        read_checkpoint(folder, max_length=length)


def test_missing_unexpected_and_misshaped_tensors_are_all_named(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors(folder, {NORM: None, "model.extra": torch.ones(1), "stray": torch.ones(1), GATE: torch.ones(2, 64)})
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(folder)
    text = str(refused.value)
    assert f"missing: {NORM}" in text and "model.extra, stray" in text
    assert f"{GATE} [2, 64] instead of [96, 64]" in text


def test_a_long_list_of_tensors_ends_in_a_count(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors(folder, {f"stray{index:02}": torch.ones(1) for index in range(14)})
    with pytest.raises(CheckpointError, match="stray09 and 4 more"):
        read_checkpoint(folder)


def test_weights_that_are_not_numbers_are_named(folder: Path, edit_tensors: Edit) -> None:
    gate = torch.zeros(96, 64)
    gate[3, 3], gate[4, 4] = torch.inf, -torch.inf
    edit_tensors(folder, {NORM: torch.full((64,), torch.nan), GATE: gate})
    with pytest.raises(CheckpointError, match="NaN or infinity") as refused:
        read_checkpoint(folder)
    assert NORM in str(refused.value) and GATE in str(refused.value)


def test_quantised_tensors_are_refused(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors(folder, {NORM: torch.ones(64, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=f"{NORM} as I8"):
        read_checkpoint(folder)


def test_buffers_are_passed_over(folder: Path, bert_folder: Path, edit_tensors: Edit) -> None:
    edit_tensors(folder, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(12)})
    edit_tensors(bert_folder, {"embeddings.position_ids": torch.arange(40)[None]})
    assert "body.norm.weight" in read_checkpoint(folder).weights
    assert "body.embeddings.position_ids" not in read_checkpoint(bert_folder).weights


def test_tied_embeddings_with_another_head_are_refused(folder: Path, edit_tensors: Edit) -> None:
    edit_tensors(folder, {"lm_head.weight": torch.ones(60, 64)})
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        read_checkpoint(folder)


def test_an_untied_head_that_is_missing_is_named(folder: Path, edit_config: Edit) -> None:
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        read_checkpoint(folder)


def test_a_promised_label_head_that_is_missing_is_named(folder: Path, bert_folder: Path, edit_config: Edit) -> None:
    edit_config(folder, architectures=["Ernie4_5ForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"missing: score\.weight"):
        read_checkpoint(folder)
    edit_config(bert_folder, architectures=["BertForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"missing: classifier\.weight, classifier\.bias"):
        read_checkpoint(bert_folder)


def test_a_head_of_one_row_or_of_other_labels_is_refused(folder: Path, edit_config: Edit, edit_tensors: Edit) -> None:
    edit_tensors(folder, {"score.weight": torch.ones(1, 64)})
    with pytest.raises(CheckpointError, match="1 label"):
        read_checkpoint(folder)
    edit_config(folder, id2label={"0": "a", "1": "b"})
    with pytest.raises(CheckpointError, match=r"score\.weight \[1, 64\] instead of \[2, 64\]"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_pickled_weights_are_never_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(CheckpointError, match="save_pretrained") as refused:
        read_checkpoint(folder)
    assert name in str(refused.value)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither"):
        read_checkpoint(folder)


@pytest.mark.parametrize("kept", [0, 5, 200, -100])
def test_a_truncated_file_is_refused(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(folder)


def test_a_pointer_in_place_of_the_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="not fetched whole"):
        read_checkpoint(folder)


def test_a_truncated_or_missing_shard_is_named(shards: Path) -> None:
    last = sorted(shards.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=last.name):
        read_checkpoint(shards)
    last.unlink()
    with pytest.raises(CheckpointError, match=f"missing: {last.name}"):
        read_checkpoint(shards)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "weights.bin", 7])
def test_an_index_that_leads_out_of_the_folder_is_refused(shards: Path, shard: object) -> None:
    edit_index(shards, lambda placed: placed.update({NORM: shard}))  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="of the same folder"):
        read_checkpoint(shards)


def test_an_index_that_does_not_match_its_shards_is_refused(shards: Path) -> None:
    shard = sorted(path.name for path in shards.glob("*.safetensors"))[0]
    edit_index(shards, lambda placed: placed.update({"ghost": shard}))
    with pytest.raises(CheckpointError, match="ghost"):
        read_checkpoint(shards)


def test_a_tensor_in_two_shards_is_refused(shards: Path) -> None:
    shard = sorted(shards.glob("*.safetensors"))[0]
    (shards / "again.safetensors").write_bytes(shard.read_bytes())
    edit_index(shards, lambda placed: placed.update({"ghost": "again.safetensors"}))
    with pytest.raises(CheckpointError, match="another shard"):
        read_checkpoint(shards)


def test_an_empty_index_is_refused(shards: Path) -> None:
    edit_index(shards, dict.clear)
    with pytest.raises(CheckpointError, match="empty"):
        read_checkpoint(shards)
