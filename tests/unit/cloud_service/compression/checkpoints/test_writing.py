from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertModel

from cloud_service.compression.checkpoints.layout import body_shapes, head_shapes
from cloud_service.compression.checkpoints.reading import Checkpoint, Weights, read_checkpoint
from cloud_service.compression.checkpoints.report import describe
from cloud_service.compression.checkpoints.writing import write_checkpoint
from cloud_service.compression.errors import CheckpointError, WriteError
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling

Edit = Callable[..., None]
Model = Any  # transformers' own annotations do not bear strict checking
IDS = torch.tensor([[5, 17, 3, 42, 59, 8, 8]])
ERNIE = NetworkShape(
    Family.ERNIE, 30, 12, 16, 6, (LayerShape(4, 2, 20), LayerShape(3, 1, 7)), 1e-6, Pooling.LAST, 777.5
)
BERT = NetworkShape(Family.BERT, 30, 12, 16, 4, (LayerShape(3, 3, 20), LayerShape(2, 2, 7)), 1e-12, Pooling.MEAN)


def random_weights(shape: NetworkShape, labels: int = 0) -> Weights:
    generator = np.random.default_rng(3)
    shapes = body_shapes(shape, 2) | (head_shapes(shape, labels) if labels else {})
    return {name: generator.normal(size=size).astype(np.float32) for name, size in shapes.items()}


def write_again(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    write_checkpoint(folder, checkpoint.shape, checkpoint.weights, checkpoint.labels, checkpoint.tokenizer)
    return read_checkpoint(folder)


def load_by_transformers(model_class: Any, folder: Path) -> Model:
    """The model, after a look that transformers found every tensor and no other."""
    loaded, report = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return loaded.eval()


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert (one.shape, one.labels) == (other.shape, other.labels)
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        assert weight.tobytes() == other.weights[name].tobytes()


def test_an_ernie_goes_there_and_back_and_transformers_reads_it(tmp_path: Path, folder: Path, ernie: Model) -> None:
    checkpoint = read_checkpoint(folder)
    assert_same(checkpoint, write_again(checkpoint, tmp_path / "again"))
    loaded = load_by_transformers(AutoModelForCausalLM, tmp_path / "again")
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, ernie(IDS).logits, atol=1e-4, rtol=0)


def test_an_untied_ernie_goes_there_and_back(tmp_path: Path, untied_ernie: Model) -> None:
    untied_ernie.save_pretrained(tmp_path / "first")
    checkpoint = read_checkpoint(tmp_path / "first")
    assert "lm_head.weight" in checkpoint.weights
    assert_same(checkpoint, write_again(checkpoint, tmp_path / "again"))


def test_a_bert_classifier_goes_there_and_back_and_transformers_reads_it(
    tmp_path: Path, bert_classifier: Model
) -> None:
    bert_classifier.save_pretrained(tmp_path / "first")
    (tmp_path / "first" / "tokenizer.json").write_text('{"of": "this"}')
    checkpoint = read_checkpoint(tmp_path / "first")
    again = write_again(checkpoint, tmp_path / "again")
    assert_same(checkpoint, again)
    assert again.tokenizer is not None and again.tokenizer.read_text() == '{"of": "this"}'
    loaded = load_by_transformers(AutoModelForSequenceClassification, tmp_path / "again")
    assert loaded.config.id2label == {0: "card", 1: "rate", 2: "transfer"}
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).logits, bert_classifier(IDS).logits, atol=1e-4, rtol=0)


def test_a_bert_body_keeps_its_pooling(tmp_path: Path, bert_folder: Path, bert: Model) -> None:
    checkpoint = read_checkpoint(bert_folder, max_length=9)
    assert_same(checkpoint, write_again(checkpoint, tmp_path / "pooler"))
    loaded = load_by_transformers(BertModel, tmp_path / "pooler")
    with torch.no_grad():
        torch.testing.assert_close(loaded(IDS).pooler_output, bert(IDS).pooler_output, atol=1e-4, rtol=0)
    body = {name: weight for name, weight in checkpoint.weights.items() if "pooler" not in name}
    mean = dataclasses.replace(checkpoint.shape, pooling=Pooling.MEAN)
    write_checkpoint(tmp_path / "mean", mean, body, (), None)
    assert read_checkpoint(tmp_path / "mean").shape == mean


@pytest.mark.parametrize("shape", [ERNIE, BERT])
@pytest.mark.parametrize("labels", [(), ("käse", "brot", "wein")])
def test_layers_of_differing_size_go_there_and_back(
    tmp_path: Path, shape: NetworkShape, labels: tuple[str, ...]
) -> None:
    weights = random_weights(shape, len(labels))
    write_checkpoint(tmp_path, shape, weights, labels, None)
    checkpoint = read_checkpoint(tmp_path)
    assert_same(Checkpoint(shape, weights, labels, None, checkpoint.stored), checkpoint)


def test_heads_that_were_pruned_alike_keep_their_size(tmp_path: Path) -> None:
    shape = BERT.with_layers((LayerShape(3, 3, 20),) * 2)
    write_checkpoint(tmp_path, shape, random_weights(shape), (), None)
    assert read_checkpoint(tmp_path).shape == shape


def test_a_prefix_goes_there_and_back(tmp_path: Path) -> None:
    shape = ERNIE.with_prefix([29, 0, 7])
    write_checkpoint(tmp_path, shape, random_weights(shape), (), None)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.shape == shape
    assert "up to 12 tokens, of which a prefix is 3" in describe(checkpoint)
    assert read_checkpoint(tmp_path, max_length=4).shape.max_text_length == 1
    with pytest.raises(CheckpointError, match="takes 4 to 12 tokens, not 3"):
        read_checkpoint(tmp_path, max_length=3)


def test_a_view_of_weights_is_written_as_it_reads(tmp_path: Path) -> None:
    weights = random_weights(ERNIE)
    weights["body.embed_tokens.weight"] = np.asfortranarray(weights["body.embed_tokens.weight"])
    write_checkpoint(tmp_path, ERNIE, weights, (), None)
    assert np.array_equal(
        read_checkpoint(tmp_path).weights["body.embed_tokens.weight"], weights["body.embed_tokens.weight"]
    )


def test_a_checkpoint_may_be_written_over_itself(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    checkpoint = read_checkpoint(folder)
    assert_same(checkpoint, write_again(checkpoint, folder))
    assert not list(folder.glob("*.partial"))
    write_checkpoint(folder, checkpoint.shape, checkpoint.weights, (), None)
    assert read_checkpoint(folder).tokenizer is None


def test_a_write_that_is_cut_short_leaves_no_config(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    (folder / "model.safetensors.partial").mkdir()  # the weights cannot be written
    with pytest.raises(WriteError, match="see that the disk has room"):
        write_again(checkpoint, folder)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_checkpoint(folder)


def test_what_does_not_belong_together_is_not_written(tmp_path: Path) -> None:
    weights = random_weights(ERNIE, 2)
    refused: list[tuple[NetworkShape, Weights, tuple[str, ...], str]] = [
        (ERNIE, weights, (), r"head\.bias, head\.weight"),
        (ERNIE, weights, ("a", "b", "c"), r"head\.weight"),
        (ERNIE, weights, ("a", "a"), "named once"),
        (ERNIE, weights, ("a",), "two or more"),
        (ERNIE.with_layers(ERNIE.layers[:1]), weights, ("a", "b"), r"layers\.1"),
        (dataclasses.replace(ERNIE, pooling=Pooling.MEAN), weights, ("a", "b"), "pooling mean"),
        (BERT.with_layers((LayerShape(4, 2, 20),)), weights, ("a", "b"), "key/value"),
        (BERT, weights, ("a", "b"), "unexpected"),
        (BERT.with_prefix([1]), weights, ("a", "b"), "bert has no prefix"),
    ]
    for shape, given, labels, reason in refused:
        with pytest.raises(CheckpointError, match=reason):
            write_checkpoint(tmp_path / "new", shape, given, labels, None)
    assert not (tmp_path / "new").exists()


def test_config_says_what_transformers_would(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ERNIE, random_weights(ERNIE), (), None)
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["rope_theta"] == document["rope_parameters"]["rope_theta"] == 777.5
    assert document["tandem_layers"][1] == {"attention_heads": 3, "key_value_heads": 1, "ffn_size": 7}
