"""What a stage depends on decides where it works; so a change of it starts the stage anew, and nothing else does."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from cloud_service.compression.config import CompressConfig, DataConfig, FullConfig
from cloud_service.compression.dataset import Questions, Splits
from cloud_service.compression.networks.build import new_classifier
from cloud_service.compression.networks.shape import Family, LayerShape, NetworkShape, Pooling
from cloud_service.compression.progress import progress_report
from cloud_service.compression.sources import checkpoint_digest, write_model
from cloud_service.compression.students import make_full
from cloud_service.compression.workshop import Workshop

LABELS = ("card", "rate")
PART = Questions(("my card", "the rate"), (0, 1))
SPLITS = Splits(LABELS, train=PART, validation=PART, calibration=PART, test=PART)
SHAPE = NetworkShape(Family.BERT, 4, 8, 16, 8, (LayerShape(2, 2, 8),), norm_epsilon=1e-6, pooling=Pooling.MEAN)
OTHER = Questions(("another card", "the rate"), (0, 1))


def write_checkpoint(folder: Path, seed: int) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "my": 1, "card": 2, "rate": 3}, unk_token="[UNK]"))
    write_model(folder, new_classifier(SHAPE, len(LABELS), seed), LABELS, tokenizer)


def folder_of(splits: Splits, tmp_path: Path) -> Path:
    full = FullConfig(checkpoint=str(tmp_path / "checkpoint"))
    config = CompressConfig(
        name="tiny",
        work_dir=tmp_path / "work",
        bundles_dir=tmp_path / "bundles",
        data=DataConfig(dataset="tiny", max_length=8),
        full=full,
    )
    with progress_report(quiet=True) as report:
        return make_full(Workshop(config, splits, report), None).folder


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(SPLITS, train=OTHER),
        dataclasses.replace(SPLITS, validation=OTHER),
        dataclasses.replace(SPLITS, unlabelled=("a text that only teaches",)),
    ],
)
def test_other_texts_start_a_stage_anew(tmp_path: Path, changed: Splits) -> None:
    write_checkpoint(tmp_path / "checkpoint", seed=1)
    assert folder_of(changed, tmp_path) != folder_of(SPLITS, tmp_path)


def test_a_renamed_label_is_another_label_set() -> None:
    renamed = dataclasses.replace(SPLITS, labels=("cards", "rate"))
    assert renamed.train.digest() == SPLITS.train.digest() and renamed.digest() != SPLITS.digest()


def test_calibration_and_test_parts_start_no_stage_anew(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", seed=1)
    other = dataclasses.replace(SPLITS, calibration=OTHER, test=OTHER)
    assert folder_of(other, tmp_path) == folder_of(SPLITS, tmp_path)


def test_a_replaced_checkpoint_starts_a_stage_anew_though_its_files_have_the_same_names_and_sizes(
    tmp_path: Path,
) -> None:
    checkpoint = tmp_path / "checkpoint"
    write_checkpoint(checkpoint, seed=1)
    before, sizes = folder_of(SPLITS, tmp_path), {path: path.stat().st_size for path in checkpoint.iterdir()}
    write_checkpoint(checkpoint, seed=2)
    assert {path: path.stat().st_size for path in checkpoint.iterdir()} == sizes
    assert folder_of(SPLITS, tmp_path) != before


def test_a_checkpoint_is_the_same_wherever_it_lies_and_whenever_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "first", seed=1)
    digest = checkpoint_digest(str(tmp_path / "first"))
    installed = tmp_path / "site" / "weights_of_a_test"
    shutil.copytree(tmp_path / "first", installed / "model")
    (installed / "__init__.py").touch()
    for path in (installed / "model").iterdir():
        os.utime(path, (0, 0))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert checkpoint_digest("package:weights_of_a_test") == digest
