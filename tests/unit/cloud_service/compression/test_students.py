"""What teaches, and what cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cloud_service.compression.checkpoints.writing import write_checkpoint
from cloud_service.compression.config import load_config
from cloud_service.compression.dataset import load_splits
from cloud_service.compression.encoding import count_cut
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from tests.support.random_network import random_network
from tests.support.tiny_compression import (
    CONFIG,
    MAX_LENGTH,
    run_model_command,
    tiny_tokenizer,
    write_csv,
    write_tiny_compression,
)

UNLABELLED = [(f"is {subject} wrong today", "") for subject in ("my card", "the transfer", "an exchange rate")]
TEACHER = """[teacher]
checkpoint = "teacher"
[teacher.training]
epochs = 1
learning_rate = 1e-3
[full]"""


def only(folder: Path, pattern: str) -> dict[str, np.ndarray]:
    (path,) = folder.glob(pattern)
    return load_file(path)


def test_unlabelled_texts_teach_the_edge_model(tmp_path: Path) -> None:
    plain = write_tiny_compression(tmp_path / "plain")
    more = write_tiny_compression(tmp_path / "more", CONFIG.replace("[data]", '[data]\nunlabelled = "more.csv"'))
    write_csv(tmp_path / "more" / "more.csv", UNLABELLED)
    for config in (plain, more):
        assert run_model_command(config, "distil") == 0
    train = len(load_splits(load_config(more).data, seed=5).train)
    opinions = [only(config.parent, "work/full-*/opinions-*.safetensors")["logits"] for config in (plain, more)]
    assert [len(one) for one in opinions] == [train, train + len(UNLABELLED)]
    full, taught = (
        [only(config.parent, f"work/{stage}-*/best.safetensors")["head.weight"] for config in (plain, more)]
        for stage in ("full", "edge")
    )
    assert np.array_equal(full[0], full[1]) and not np.array_equal(taught[0], taught[1])


def test_training_that_diverged_is_a_warning_and_the_model_stays_as_it_began(tmp_path: Path) -> None:
    wanted = CONFIG.replace("learning_rate = 1e-3", "learning_rate = 1e30\nhead_learning_rate = 1e30", 1)
    config = write_tiny_compression(tmp_path, wanted)
    for _ in range(2):
        assert run_model_command(config, "train") == 0
        warnings = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))["warnings"]
        assert len(warnings) == 1 and "full model: training diverged in epoch 1" in warnings[0]
    began = only(tmp_path, "checkpoint/model.safetensors")
    ended = only(tmp_path, "work/full-*/checkpoint/model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    assert np.array_equal(began[name], ended[name])


def test_hidden_states_of_another_width_are_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = CONFIG.replace("[full]", TEACHER).replace("[prune]", "hidden_weight = 0.5\n[prune]", 1)
    config = write_tiny_compression(tmp_path, wanted)
    layer = LayerShape(2, 2, 32)
    shape = NetworkShape(
        Family.BERT, len(tiny_tokenizer().get_vocab()), MAX_LENGTH, 32, 16, (layer,), 1e-5, Pooling.MEAN
    )
    weights = {name: value.numpy() for name, value in random_network(shape).state_dict().items() if "body." in name}
    (tmp_path / "teacher").mkdir()
    write_checkpoint(tmp_path / "teacher", shape, weights, (), tmp_path / "checkpoint" / "own-tokenizer.json")
    assert run_model_command(config, "train") == 1
    said = capsys.readouterr().err
    assert "the teacher's is 32 and the full model's 64: leave hidden_weight out" in said
    assert not list(tmp_path.glob("work/*/*.pt"))


def test_hidden_states_of_one_width_teach_the_full_model(tmp_path: Path) -> None:
    wanted = CONFIG.replace("[full]", TEACHER).replace("[prune]", "hidden_weight = 0.5\n[prune]", 1)
    config = write_tiny_compression(tmp_path, wanted)
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "teacher")
    assert run_model_command(config, "train") == 0


def test_texts_as_long_as_the_limit_are_not_cut() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(4)
    assert count_cut(tokenizer, ["where is my card", "where is my card today", "card"]) == 1
