"""The parts of a data set never mix, and bad files say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_service.compression.config import DataConfig
from cloud_service.compression.dataset import dataset_folder, load_splits, read_rows
from cloud_service.compression.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = [f"label_{number}" for number in range(5)]
    rows = [f'"question {i}, with a comma",{labels[i % 5]}' for i in range(400)]
    (tmp_path / "train.csv").write_text("text,category\n" + "\n".join(rows), encoding="utf-8")
    (tmp_path / "test.csv").write_text('text,category\n"two\nlines",label_3\n', encoding="utf-8")
    return tmp_path


def data(folder: Path, validation: int | None = 60, calibration: int | None = 100, test: bool = True) -> DataConfig:
    return DataConfig(
        train=folder / "train.csv",
        test=folder / "test.csv" if test else None,
        validation_rows=validation,
        calibration_rows=calibration,
    )


def test_every_question_is_in_exactly_one_part(folder: Path) -> None:
    splits = load_splits(data(folder), seed=3)
    parts = [splits.train, splits.validation, splits.calibration]
    assert [len(part) for part in parts] == [240, 60, 100]
    assert sorted(text for part in parts for text in part.texts) == sorted(
        text for text, _ in read_rows(folder / "train.csv")
    )


def test_the_split_depends_on_the_seed_alone(folder: Path) -> None:
    first, again, other = (load_splits(data(folder), seed) for seed in (3, 3, 4))
    assert first == again
    assert first.calibration.digest() != other.calibration.digest()


def test_the_validation_part_has_each_label_by_its_share(folder: Path) -> None:
    counts = np.bincount(load_splits(data(folder), seed=3).validation.label_ids, minlength=5)
    assert counts.min() >= 10 and counts.max() <= 14


def test_a_question_may_span_lines(folder: Path) -> None:
    assert load_splits(data(folder), seed=3).test.texts == ("two\nlines",)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("question,label\na,b\n", "needs the column text; its first line has: question, label"),
        ("text,category\na,b\n ,c\n", "row 2 has an empty text"),
        ("text,category\na,b\nc\n", "row 2 has an empty category"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=complaint):
        read_rows(path)


def test_a_label_of_the_test_file_alone_is_an_error(folder: Path) -> None:
    (folder / "test.csv").write_text("text,category\nwhat,surprise\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="surprise"):
        load_splits(data(folder), seed=3)


def test_too_few_rows_to_split_is_an_error(folder: Path) -> None:
    with pytest.raises(DatasetError, match="400 rows are too few"):
        load_splits(data(folder, 200, 200), seed=3)


def test_without_a_test_file_a_part_is_set_apart(folder: Path) -> None:
    splits = load_splits(data(folder, None, None, test=False), seed=3)
    parts = [splits.train, splits.validation, splits.calibration, splits.test]
    assert [len(part) for part in parts] == [214, 40, 66, 80]
    assert len({text for part in parts for text in part.texts}) == 400


def test_a_label_with_one_sample_is_noted(folder: Path) -> None:
    with (folder / "train.csv").open("a", encoding="utf-8") as stream:
        stream.write("\na lonely question,rare\n")
    notes = load_splits(data(folder), seed=3).notes
    assert any("single sample" in note and "rare" in note for note in notes)


def test_texts_that_were_learnt_and_are_tested_again_are_counted(folder: Path) -> None:
    with (folder / "test.csv").open("a", encoding="utf-8") as stream:
        stream.writelines(f'" question {i}, with a comma ",label_0\n' for i in range(400))
    note = "texts that the train part has too, which flatters figures: 240 of the test part"
    assert note in load_splits(data(folder), seed=3).notes


def test_a_text_that_the_training_file_has_twice_is_counted_where_its_copies_part(tmp_path: Path) -> None:
    rows = [f"question {i // 2},label_{i % 2}" for i in range(400)]
    (tmp_path / "train.csv").write_text("text,category\n" + "\n".join(rows), encoding="utf-8")
    splits = load_splits(data(tmp_path, test=False), seed=3)
    learnt = set(splits.train.texts)
    counts = [sum(text in learnt for text in part.texts) for part in (splits.validation, splits.calibration)]
    assert f"{counts[0]} of the validation part, {counts[1]} of the calibration part" in splits.notes[0]


def test_texts_of_which_none_occurs_twice_need_no_note(folder: Path) -> None:
    assert load_splits(data(folder), seed=3).notes == ()


def test_a_missing_data_set_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_DATASETS", str(tmp_path))
    with pytest.raises(DatasetError, match="set TANDEM_DATASETS"):
        dataset_folder("banking77")
