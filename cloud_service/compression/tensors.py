"""Checkpoints that survive a kill at any point. Never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cloud_service.compression.durable import replace_durably, writing
from cloud_service.compression.errors import CheckpointError


@dataclass
class TrainingState:
    """Where a training run stands after a whole epoch.

    `optimizer` is torch's own state dictionary, kept as it is.
    """

    epoch: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    history: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    diverged_in: int | None = None
    model: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)


def save_state(path: Path, state: TrainingState) -> None:
    """Write the checkpoint; the old one stays until the new one is whole on disk.

    Raises:
        WriteError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    with writing(partial):
        torch.save(vars(state), partial)
        replace_durably(partial, path)


def load_state(path: Path) -> TrainingState | None:
    """The checkpoint at `path`, or None when there is none.

    Raises:
        CheckpointError: the file is damaged or holds something else than tensors and numbers.
    """
    if not path.is_file():
        return None
    try:
        return TrainingState(**torch.load(path, weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{path}: not a readable checkpoint ({error}); delete it to start again") from error


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, durably.

    Raises:
        WriteError: they cannot be written.
    """
    partial = path.with_suffix(".partial")
    with writing(partial):
        save_file({name: tensor.detach().contiguous() for name, tensor in sorted(weights.items())}, partial)
        replace_durably(partial, path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors written by `save_weights`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error and the system's share no nearer base
        raise CheckpointError(f"{path}: not readable weights ({error})") from error


def load_into(model: nn.Module, path: Path) -> None:
    """Load a whole model's weights; names and shapes must match.

    Raises:
        CheckpointError: the file is unreadable, or belongs to another shape of model.
    """
    weights = load_weights(path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights of another model: {error}") from error
