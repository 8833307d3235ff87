"""A checkpoint's folder, as `save_pretrained` writes it, to a shape and weights under names of this package."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloud_service.compression.checkpoints import layout
from cloud_service.compression.checkpoints.config import StoredConfig, read_config
from cloud_service.compression.checkpoints.layout import HEAD_BIAS, HEAD_WEIGHT, LM_HEAD, Naming, TensorShapes
from cloud_service.compression.checkpoints.shards import (
    READABLE_DTYPES,
    StoredTensor,
    list_tensors,
    listed,
    read_tensors,
)
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.networks.shape import Family, NetworkShape, Pooling

TOKENIZER_NAME = "tokenizer.json"

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class StoredFiles:
    """What was read from disk, for reports: tensors that play a part, and the size of their files.

    `dtypes` are safetensors' names, such as BF16.
    """

    dtypes: tuple[str, ...]
    tensor_count: int
    size_bytes: int
    shard_count: int


@dataclass(frozen=True)
class Checkpoint:
    """A network that was imported; names as in `layout`, all weights float32.

    `labels` name the rows of `head.weight`; without a trained label head they are empty and it is absent.
    `lm_head.weight` is absent where it is the embeddings, or the network has none.
    """

    shape: NetworkShape
    weights: Weights
    labels: tuple[str, ...]
    tokenizer: Path | None
    stored: StoredFiles


def read_checkpoint(folder: Path, max_length: int | None = None) -> Checkpoint:
    """Import the network in `folder`, for texts of up to `max_length` tokens; by default as many as it can.

    A prefix counts among them. BERT's table of positions is cut to `max_length` rows, so weights always fit the shape.

    Raises:
        CheckpointError: an architecture or option that is not supported, files missing or damaged, tensors
            missing, unexpected, of another shape or not finite, or more tokens than the network can take.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is not a folder")
    config = read_config(folder)
    tensors = list_tensors(folder)
    config = _settle_pooling(config, tensors)
    shape = _shortened(folder, config.shape, max_length)
    naming = Naming.of(shape.family, list(tensors))
    used = {name: tensor for name, tensor in tensors.items() if not layout.is_left_out(name, shape)}
    labels = _check_tensors(folder, config, naming, used)
    weights = _read_weights(folder, shape, naming, used)
    _settle_heads(folder, config, weights)
    tokenizer = folder / TOKENIZER_NAME
    return Checkpoint(shape, weights, labels, tokenizer if tokenizer.is_file() else None, _stored_files(used))


def _settle_pooling(config: StoredConfig, tensors: dict[str, StoredTensor]) -> StoredConfig:
    """Where nothing states the pooling, a BERT that was saved without a pooler is read by its mean."""
    if config.pooling_stated or any("pooler.dense." in name for name in tensors):
        return config
    return dataclasses.replace(config, shape=dataclasses.replace(config.shape, pooling=Pooling.MEAN))


def _shortened(folder: Path, shape: NetworkShape, max_length: int | None) -> NetworkShape:
    if max_length is None:
        return shape
    least = len(shape.prefix) + 1
    if not least <= max_length <= shape.max_length:
        raise CheckpointError(f"{folder}: takes {least} to {shape.max_length} tokens, not {max_length}")
    return dataclasses.replace(shape, max_length=max_length)


def _check_tensors(
    folder: Path, config: StoredConfig, naming: Naming, tensors: dict[str, StoredTensor]
) -> tuple[str, ...]:
    """Compare what is stored with what the shape needs; the labels of the trained head, if there is one."""
    found = {naming.canonical(name): tensor for name, tensor in tensors.items()}
    labels = _head_labels(folder, config, found)
    required = layout.body_shapes(config.shape, config.type_vocabulary_size)
    optional: TensorShapes = {}
    if labels:
        required |= layout.head_shapes(config.shape, len(labels))
    if config.shape.family is Family.ERNIE:
        optional[LM_HEAD] = (config.shape.vocabulary_size, config.shape.hidden_size)
        if labels:
            optional[HEAD_BIAS] = required.pop(HEAD_BIAS)
        elif not config.tied:
            required[LM_HEAD] = optional.pop(LM_HEAD)
    problems = _problems(found, required, optional, naming)
    if problems:
        raise CheckpointError(f"{folder}: {'; '.join(problems)}")
    return labels


def _head_labels(folder: Path, config: StoredConfig, found: dict[str, StoredTensor]) -> tuple[str, ...]:
    stored = found.get(HEAD_WEIGHT)
    if stored is None and not config.classifies:
        return ()
    rows = stored.shape[0] if stored is not None and stored.shape else 2
    labels = config.labels or tuple(f"LABEL_{index}" for index in range(rows))
    if len(labels) < 2:
        raise CheckpointError(f"{folder}: its head has {len(labels)} label; a classifier needs 2 or more")
    return labels


def _problems(
    found: dict[str, StoredTensor], required: TensorShapes, optional: TensorShapes, naming: Naming
) -> list[str]:
    expected = required | optional
    missing = [naming.stored(name) for name in required if name not in found]
    unexpected = [naming.stored(name) for name in found if name not in expected]
    of_another_shape = [
        f"{naming.stored(name)} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    unreadable = [
        f"{naming.stored(name)} as {tensor.dtype}"
        for name, tensor in found.items()
        if name in expected and tensor.dtype not in READABLE_DTYPES
    ]
    faults = {
        "tensors missing": missing,
        "unexpected tensors": unexpected,
        "tensors of another shape": of_another_shape,
        f"tensors stored otherwise than as {', '.join(READABLE_DTYPES)}": unreadable,
    }
    return [f"{fault}: {listed(names)}" for fault, names in faults.items() if names]


def _read_weights(folder: Path, shape: NetworkShape, naming: Naming, tensors: dict[str, StoredTensor]) -> Weights:
    weights: Weights = {}
    not_finite: list[str] = []
    for name, stored in read_tensors(tensors):
        canonical = naming.canonical(name)
        values = stored[: shape.max_length].copy() if canonical == layout.POSITIONS else stored
        # A sum in float64 cannot overflow, and takes no mask as large as the tensor.
        with np.errstate(invalid="ignore"):
            if not np.isfinite(values.sum(dtype=np.float64)):
                not_finite.append(name)
        weights[canonical] = values
    if not_finite:
        raise CheckpointError(
            f"{folder}: tensors with NaN or infinity: {listed(not_finite)}; its training diverged or the file is "
            "damaged: take another checkpoint"
        )
    return weights


def _settle_heads(folder: Path, config: StoredConfig, weights: Weights) -> None:
    """Give a head without bias one of zeros, and drop a second copy of tied embeddings."""
    if HEAD_WEIGHT in weights and HEAD_BIAS not in weights:
        weights[HEAD_BIAS] = np.zeros(len(weights[HEAD_WEIGHT]), np.float32)
    if config.tied and LM_HEAD in weights:
        if not np.array_equal(weights[LM_HEAD], weights[layout.EMBEDDINGS[config.shape.family]]):
            raise CheckpointError(f"{folder}: tie_word_embeddings is true, yet {LM_HEAD} differs from the embeddings")
        del weights[LM_HEAD]


def _stored_files(tensors: dict[str, StoredTensor]) -> StoredFiles:
    shards = {tensor.shard for tensor in tensors.values()}
    return StoredFiles(
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
        tensor_count=len(tensors),
        size_bytes=sum(shard.stat().st_size for shard in shards),
        shard_count=len(shards),
    )
