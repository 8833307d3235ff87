"""The safetensors files of a checkpoint: one, or several that an index lists. Pickled files are never opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cloud_service.compression.checkpoints.fields import read_fields
from cloud_service.compression.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
READABLE_DTYPES = ("F32", "BF16", "F16")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_LISTED = 10


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is; `dtype` is safetensors' name."""

    shard: Path
    shape: tuple[int, ...]
    dtype: str


def list_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint in `folder`, by its stored name; of the files, only headers are read.

    Raises:
        CheckpointError: there are no safetensors, the index is wrong, or a shard is missing or damaged.
    """
    if (folder / WEIGHTS_NAME).exists():
        return _open_shard(folder / WEIGHTS_NAME)
    if not (folder / INDEX_NAME).exists():
        raise CheckpointError(_no_weights(folder))
    placed = _read_index(folder)
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(placed.values())):
        found = _open_shard(shard)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise CheckpointError(f"{shard}: {listed(twice)} is in another shard too")
        tensors.update(found)
    astray = sorted(name for name, shard in placed.items() if name not in tensors or tensors[name].shard != shard)
    if astray:
        raise CheckpointError(f"{folder / INDEX_NAME}: not in the shard it names: {listed(astray)}")
    return tensors


def read_tensors(tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each tensor as float32 in memory of its own, one at a time, shard after shard.

    Raises:
        CheckpointError: a shard can no longer be read.
    """
    for shard in sorted({tensor.shard for tensor in tensors.values()}):
        names = [name for name, tensor in tensors.items() if tensor.shard == shard]
        try:
            with safe_open(shard, framework="pt") as file:
                for name in names:
                    # A copy even of float32: what safetensors gives is a window into the file.
                    yield name, file.get_tensor(name).to(torch.float32, copy=True).numpy()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(_damaged(shard, error)) from error


def listed(names: list[str]) -> str:
    """The first names, then a count of the others."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _read_index(folder: Path) -> dict[str, Path]:
    """The shard of each tensor; every shard is a file of `folder` itself."""
    path = folder / INDEX_NAME
    placed: dict[str, Path] = {}
    for tensor, shard in read_fields(path).inner("weight_map").values.items():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {tensor} is in {shard!r}; a shard is a safetensors file of the same folder")
        placed[tensor] = folder / shard
    if not placed:
        raise CheckpointError(f"{path}: weight_map is empty")
    missing = sorted({shard.name for shard in placed.values() if not shard.is_file()})
    if missing:
        raise CheckpointError(f"{folder}: shards are missing: {listed(missing)}")
    return placed


def _open_shard(shard: Path) -> dict[str, StoredTensor]:
    try:
        with safe_open(shard, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: StoredTensor(shard, tuple(part.get_shape()), str(part.get_dtype()))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(_damaged(shard, error)) from error


def _damaged(shard: Path, error: Exception) -> str:
    return f"{shard}: damaged, or not fetched whole ({error})"


def _no_weights(folder: Path) -> str:
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if not pickled:
        return f"{folder}: has neither {WEIGHTS_NAME} nor {INDEX_NAME}"
    return (
        f"{folder}: has weights only as {listed(pickled)}; unpickling can run any code and is never done. Where you "
        "trust the file, convert it: load the folder with transformers' from_pretrained, under the class that "
        "config.json names, and write it with save_pretrained(NEW_FOLDER, safe_serialization=True)"
    )
