"""Reads any model's outputs from a NumPy archive; nothing in it is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud_service.calibration.predictions import OUT_OF_SCOPE, Predictions
from shared.errors import InputError
from shared.gate import Risk

LARGEST_LOGIT = 1e100
LOGITS, LABELS, FULL_MODEL_LABELS = "logits", "labels", "full_model_labels"


def read_scores(path: Path, risk: Risk) -> Predictions:
    """The arrays `logits` [n, k] and, as `risk` needs them, `labels` or `full_model_labels` [n], -1 for none of the k.

    Raises:
        InputError: the file or an array is missing, not numbers, of another shape, or has values out of range.
    """
    arrays = _arrays(path)
    logits = _logits(path, arrays)
    needed = FULL_MODEL_LABELS if risk is Risk.KEPT_DISAGREEMENT else LABELS
    if needed not in arrays:
        raise InputError(f"{path}: {risk.value} needs the array {needed}; there are: {_names(arrays)}")
    truth = _label_ids(path, needed, arrays[needed], logits.shape)
    return Predictions(logits, truth, truth)


def _arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise InputError(f"{path}: holds one array without a name; write it with numpy.savez")
        with loaded as archive:
            return {name: archive[name] for name in archive.files if name in (LOGITS, LABELS, FULL_MODEL_LABELS)}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a NumPy archive of plain arrays: {error}") from error


def _names(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(arrays) or "none of those known"


def _logits(path: Path, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.floating]:
    if LOGITS not in arrays:
        raise InputError(f"{path}: needs the array {LOGITS}; there are: {_names(arrays)}")
    logits = arrays[LOGITS]
    if logits.dtype.kind not in "fiu":
        raise InputError(f"{path}: {LOGITS} are {logits.dtype}, they must be floats or integers")
    if logits.ndim != 2:
        raise InputError(f"{path}: {LOGITS} have the shape {list(logits.shape)}, it must be [n, k]")
    if len(logits) == 0 or logits.shape[1] < 2:
        raise InputError(
            f"{path}: {LOGITS} have the shape {list(logits.shape)}: at least one row and two columns are needed"
        )
    if logits.dtype.kind in "iu" or logits.dtype.itemsize > 8:
        logits = logits.astype(np.float64)
    usable = (np.isfinite(logits) & (np.abs(logits) < min(LARGEST_LOGIT, float(np.finfo(logits.dtype).max)))).all(
        axis=1
    )
    if not usable.all():
        row = int(np.argmin(usable))
        raise InputError(f"{path}: {LOGITS} hold a value that is not a number or far too large, in row {row}")
    return logits


def _label_ids(path: Path, name: str, labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    rows, columns = shape
    if labels.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} are {labels.dtype}, they must be whole numbers")
    if labels.shape != (rows,):
        raise InputError(f"{path}: {name} have the shape {list(labels.shape)}, it must be [{rows}] as {LOGITS} have it")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise InputError(f"{path}: {name} hold a value that is not a whole number")
    low, high = int(labels.min()), int(labels.max())
    if low < OUT_OF_SCOPE or high >= columns:
        raise InputError(
            f"{path}: {name} run from {low} to {high}; of {columns} columns they may be 0 to {columns - 1}, "
            f"or {OUT_OF_SCOPE} for none of them"
        )
    return labels.astype(np.int64)
