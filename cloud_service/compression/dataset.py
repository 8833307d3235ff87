"""Labelled questions and their split into parts that never mix.

The calibration part is a plain random draw, not a stratified one: the gate's binomial p-values hold
for independent draws. The validation part is stratified, so that every label is seen in it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud_service.compression.errors import DatasetError

DATASETS_VARIABLE = "TANDEM_DATASETS"
DATASETS_BESIDE_CHECKOUT = Path("../shared/datasets")


@dataclass(frozen=True)
class Questions:
    """Texts and the index of each one's label."""

    texts: tuple[str, ...]
    label_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Questions:
        """The questions at `rows` (integer indices), in that order."""
        return Questions(tuple(self.texts[row] for row in rows), tuple(self.label_ids[row] for row in rows))

    def digest(self) -> str:
        """SHA-256 over labels and texts in order, hexadecimal."""
        state = hashlib.sha256()
        for text, label_id in zip(self.texts, self.label_ids, strict=True):
            state.update(f"{label_id}\x1f{text}\x1e".encode())
        return state.hexdigest()


@dataclass(frozen=True)
class Splits:
    """The parts of a data set; only `test` comes from the test file.

    `train` fits weights; `validation` stops training early, fits the temperature and chooses the
    score; `calibration` certifies the gate and nothing else; `test` gives the published figures.
    """

    labels: tuple[str, ...]
    train: Questions
    validation: Questions
    calibration: Questions
    test: Questions


def dataset_folder(name: str) -> Path:
    """Find a data set by name.

    Raises:
        DatasetError: the folder is not there (the message says where it was looked for).
    """
    root = Path(os.environ.get(DATASETS_VARIABLE, DATASETS_BESIDE_CHECKOUT))
    folder = root / name
    if not (folder / "train.csv").is_file():
        raise DatasetError(
            f"data set {name!r} not found in {root} (set {DATASETS_VARIABLE} to the folder that holds it)"
        )
    return folder


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Read `text,category` rows; a quoted text may span lines.

    Raises:
        DatasetError: a column is missing, or a text is empty (the message names the row).
    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if not {"text", "category"} <= set(reader.fieldnames or ()):
            raise DatasetError(f"{path}: needs the columns text and category")
        rows = [((row["text"] or "").strip(), (row["category"] or "").strip()) for row in reader]
    for number, (text, category) in enumerate(rows, start=1):
        if not text or not category:
            raise DatasetError(f"{path}: row {number} has an empty text or category")
    return rows


def load_splits(folder: Path, validation_rows: int, calibration_rows: int, seed: int) -> Splits:
    """Split `train.csv`, deterministically by `seed`, and read `test.csv`.

    Raises:
        DatasetError: a file cannot be read, the training file is too small, or the test file has a
            label that the training file has not.
    """
    train_rows = read_rows(folder / "train.csv")
    labels = tuple(sorted({category for _, category in train_rows}))
    everything = _index(train_rows, labels, folder / "train.csv")
    if validation_rows + calibration_rows + len(labels) > len(everything):
        raise DatasetError(f"{folder / 'train.csv'}: {len(everything)} rows are too few to split")
    random = np.random.default_rng(seed)
    order = random.permutation(len(everything))
    calibration, rest = order[:calibration_rows], order[calibration_rows:]
    validation = _stratified(rest, everything.label_ids, validation_rows)
    train = np.setdiff1d(rest, validation)
    return Splits(
        labels=labels,
        train=everything.take(train),
        validation=everything.take(validation),
        calibration=everything.take(calibration),
        test=_index(read_rows(folder / "test.csv"), labels, folder / "test.csv"),
    )


def _index(rows: list[tuple[str, str]], labels: tuple[str, ...], path: Path) -> Questions:
    ids = {label: index for index, label in enumerate(labels)}
    unknown = sorted({category for _, category in rows} - set(labels))
    if unknown:
        raise DatasetError(f"{path}: labels that the training file has not: {', '.join(unknown)}")
    return Questions(tuple(text for text, _ in rows), tuple(ids[category] for _, category in rows))


def _stratified(rows: np.ndarray, label_ids: tuple[int, ...], count: int) -> np.ndarray:
    """Pick `count` of the (already shuffled) rows, each label by its share (systematic sampling)."""
    by_label = rows[np.argsort(np.asarray(label_ids)[rows], kind="stable")]
    picks = ((np.arange(count) + 0.5) * len(by_label) / count).astype(np.int64)
    return np.sort(by_label[picks])
