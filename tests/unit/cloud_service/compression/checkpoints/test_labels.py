from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloud_service.compression.checkpoints.labels import label_scoring_head
from cloud_service.compression.checkpoints.reading import read_checkpoint
from cloud_service.compression.checkpoints.report import describe
from cloud_service.compression.errors import CheckpointError

Edit = Callable[..., None]
Model = Any  # transformers' own annotations do not bear strict checking
IDS = torch.tensor([[5, 17, 3, 42]])
LABELS = [[7, 2], [30], [7 + 1, 2, 2]]


@pytest.mark.parametrize("model", ["ernie", "untied_ernie"])
def test_a_label_scores_what_the_language_model_gives_its_first_token(
    tmp_path: Path, request: pytest.FixtureRequest, model: str
) -> None:
    network: Model = request.getfixturevalue(model)
    network.save_pretrained(tmp_path)
    weight, bias = label_scoring_head(read_checkpoint(tmp_path), LABELS)
    assert weight.dtype == bias.dtype == np.float32
    with torch.no_grad():
        result = network(IDS, output_hidden_states=True)
    scores = result.hidden_states[-1][0, -1].numpy() @ weight.T + bias
    assert np.allclose(scores, result.logits[0, -1, [7, 30, 8]].numpy(), atol=1e-4)


def test_labels_that_begin_alike_are_all_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="labels 0 and 2 with token 7; labels 1 and 3 with token 9"):
        label_scoring_head(read_checkpoint(folder), [[7], [9, 1], [7, 3], [9]])


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [([[7]], "2 or more"), ([[7], []], "label 1 has no token"), ([[7], [60]], "token 60"), ([[-1], [7]], "token -1")],
)
def test_labels_that_cannot_be_scored_are_refused(folder: Path, tokens: list[list[int]], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        label_scoring_head(read_checkpoint(folder), tokens)


def test_networks_that_predict_no_tokens_are_refused(folder: Path, bert_folder: Path, edit_tensors: Edit) -> None:
    with pytest.raises(CheckpointError, match="encoder"):
        label_scoring_head(read_checkpoint(bert_folder), LABELS)
    edit_tensors(folder, {"score.weight": torch.ones(2, 64)})
    with pytest.raises(CheckpointError, match="trained label head"):
        label_scoring_head(read_checkpoint(folder), LABELS)


def test_a_description_says_what_was_read_and_what_comes_next(folder: Path, bert_folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    text = describe(checkpoint)
    parameters = 60 * 64 + 64 + 2 * (2 * 64 * 96 + 2 * 48 * 64 + 3 * 96 * 64 + 2 * 64)
    for part in ("ERNIE", "2 of 4 heads (2 key/value), feed-forward 96", f"{parameters:,}", "F32", "put the network's"):
        assert part in text
    (folder / "tokenizer.json").write_text("{}")
    assert "behind a prompt" in describe(read_checkpoint(folder))
    labelled = dataclasses.replace(read_checkpoint(folder), labels=tuple(f"label{index}" for index in range(9)))
    assert "9 (label0, " in describe(labelled) and "label7, ...)" in describe(labelled)
    assert "pooler" in describe(read_checkpoint(bert_folder))
