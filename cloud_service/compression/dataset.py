"""Labelled questions and their split into parts that never mix.

The calibration part is a plain random draw, not a stratified one: the gate's binomial p-values hold
for independent draws. The validation part is stratified, so that every label is seen in it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cloud_service.compression.config import DataConfig
from cloud_service.compression.errors import DatasetError

DATASETS_VARIABLE = "TANDEM_DATASETS"
DATASETS_BESIDE_CHECKOUT = Path("../shared/datasets")
MOST_VALIDATION_ROWS = 500
MOST_CALIBRATION_ROWS = 1200
FILL_OR_REMOVE = "fill it or remove the row"


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
    """The parts of a data set, which never mix.

    `train` fits weights; `validation` stops training early, fits the temperature, chooses the score and
    tunes; `calibration` certifies the gate and nothing else; `test` gives the published figures.
    `unlabelled` are texts that only teach. `notes` say in plain words what a reader of figures should know.
    """

    labels: tuple[str, ...]
    train: Questions
    validation: Questions
    calibration: Questions
    test: Questions
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """SHA-256 over all that making a model reads, hexadecimal: neither the calibration nor the test part."""
        state = hashlib.sha256(f"{self.train.digest()}{self.validation.digest()}".encode())
        for group in (self.labels, self.unlabelled):
            state.update(b"\x1d" + b"".join(f"{text}\x1e".encode() for text in group))
        return state.hexdigest()


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


def load_splits(data: DataConfig, seed: int) -> Splits:
    """Read the files that `data` names and split the training file, the same way for the same seed.

    Raises:
        DatasetError: a file cannot be read, the training file is too small, or the test file has a
            label that the training file has not.
    """
    train, test = data.train, data.test
    if data.dataset is not None:
        folder = dataset_folder(data.dataset)
        train, test = folder / "train.csv", folder / "test.csv"
    assert train is not None, "the configuration names one of the two"
    rows = read_rows(train, data.text_column, data.label_column)
    labels = tuple(sorted({label for _, label in rows}))
    if len(labels) < 2:
        raise DatasetError(f"{train}: needs at least two labels in the column {data.label_column}")
    everything = _index(rows, labels, train)
    parts = _part_rows(everything, data, train, has_test=test is not None, seed=seed)
    if test is not None:
        test_part = _index(read_rows(test, data.text_column, data.label_column), labels, test)
    else:
        test_part = everything.take(parts.test)
    splits = Splits(
        labels=labels,
        train=everything.take(parts.train),
        validation=everything.take(parts.validation),
        calibration=everything.take(parts.calibration),
        test=test_part,
        unlabelled=tuple(read_texts(data.unlabelled, data.text_column)) if data.unlabelled else (),
    )
    return replace(splits, notes=(*_label_notes(labels, everything, splits.train), *_overlap_notes(splits)))


def read_rows(path: Path, text_column: str = "text", label_column: str = "category") -> list[tuple[str, str]]:
    """Read rows of text and label; a quoted text may span lines.

    Raises:
        DatasetError: the file is not there or not CSV in UTF-8, a column is missing, or a text is empty
            (the message names the row).
    """
    rows = [(text, row[label_column]) for text, row in _cells(path, (text_column, label_column))]
    for number, (_, label) in enumerate(rows, start=1):
        if not label:
            raise DatasetError(f"{path}: row {number} has an empty {label_column}; {FILL_OR_REMOVE}")
    return rows


def read_texts(path: Path, text_column: str) -> list[str]:
    """Read the texts of a file without labels.

    Raises:
        DatasetError: as `read_rows`.
    """
    return [text for text, _ in _cells(path, (text_column,))]


def _cells(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ()) or "nothing"
                raise DatasetError(f"{path}: needs the column {missing[0]}; its first line has: {found}")
            rows = [{column: (row[column] or "").strip() for column in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not readable as CSV in UTF-8: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not row[columns[0]]:
            raise DatasetError(f"{path}: row {number} has an empty {columns[0]}; {FILL_OR_REMOVE}")
    return [(row[columns[0]], row) for row in rows]


@dataclass(frozen=True)
class _PartRows:
    """Row indices of each part."""

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray


def _part_rows(everything: Questions, data: DataConfig, path: Path, has_test: bool, seed: int) -> _PartRows:
    count = len(everything)
    tested = 0 if has_test else data.test_rows or count // 5
    calibrated = data.calibration_rows or min(MOST_CALIBRATION_ROWS, count // 6)
    validated = data.validation_rows or min(MOST_VALIDATION_ROWS, count // 10)
    labels = len(set(everything.label_ids))
    if not validated or not calibrated or tested + calibrated + validated + labels > count:
        raise DatasetError(
            f"{path}: {count} rows are too few to split into {validated} for validation, {calibrated} for calibration, "
            f"{tested} for the test and at least one a label ({labels}) for training"
        )
    order = np.random.default_rng(seed).permutation(count)
    calibration, rest = order[:calibrated], order[calibrated:]
    test, rest = rest[:tested], rest[tested:]
    validation = _stratified(rest, everything.label_ids, validated)
    return _PartRows(np.setdiff1d(rest, validation), validation, calibration, test)


def _label_notes(labels: tuple[str, ...], everything: Questions, train: Questions) -> tuple[str, ...]:
    counts, trained = Counter(everything.label_ids), set(train.label_ids)
    single = [label for index, label in enumerate(labels) if counts[index] == 1]
    unseen = [label for index, label in enumerate(labels) if index not in trained]
    notes = []
    if single:
        notes.append(f"labels with a single sample, which can be learnt or tested but not both: {', '.join(single)}")
    if unseen:
        notes.append(f"labels without a sample in the train part, which cannot be learnt: {', '.join(unseen)}")
    return tuple(notes)


def _overlap_notes(splits: Splits) -> tuple[str, ...]:
    """Of texts that were learnt, figures are better than of new ones."""
    learnt = set(splits.train.texts)
    parts = {"validation": splits.validation, "calibration": splits.calibration, "test": splits.test}
    counts = {name: sum(text in learnt for text in part.texts) for name, part in parts.items()}
    found = [f"{count} of the {name} part" for name, count in counts.items() if count]
    return (f"texts that the train part has too, which flatters figures: {', '.join(found)}",) if found else ()


def _index(rows: list[tuple[str, str]], labels: tuple[str, ...], path: Path) -> Questions:
    ids = {label: index for index, label in enumerate(labels)}
    unknown = sorted({label for _, label in rows} - set(labels))
    if unknown:
        raise DatasetError(f"{path}: labels that the training file has not: {', '.join(unknown)}")
    return Questions(tuple(text for text, _ in rows), tuple(ids[label] for _, label in rows))


def _stratified(rows: np.ndarray, label_ids: tuple[int, ...], count: int) -> np.ndarray:
    """Pick `count` of the (already shuffled) rows, each label by its share (systematic sampling)."""
    by_label = rows[np.argsort(np.asarray(label_ids)[rows], kind="stable")]
    picks = ((np.arange(count) + 0.5) * len(by_label) / count).astype(np.int64)
    return np.sort(by_label[picks])
