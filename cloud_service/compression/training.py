"""The training loop: seeded by epoch, checkpointed after each, so that a killed run ends as an unbroken one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cloud_service.compression.config import TrainingConfig
from cloud_service.compression.progress import ProgressReport
from cloud_service.compression.tensors import (
    TrainingState,
    load_into,
    load_state,
    save_state,
    save_weights,
)

HEAD_PREFIX = "head."
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class TrainingTask:
    """What to train and how to judge it.

    `epoch_losses(epoch)` yields one scalar loss for each of `steps_per_epoch` batches, computed when
    asked for; `accuracy()` is measured on the validation part, in evaluation mode.
    """

    name: str
    model: nn.Module
    steps_per_epoch: int
    epoch_losses: Callable[[int], Iterable[Tensor]]
    accuracy: Callable[[], float]


@dataclass(frozen=True)
class History:
    """How training went: accuracy on the validation part after epoch 0, 1, ...; mean loss of epoch 1, 2, ...

    `diverged_in` is the epoch in which the loss was no longer finite, where training ended; it is not among them.
    """

    accuracies: tuple[float, ...]
    losses: tuple[float, ...] = ()
    diverged_in: int | None = None

    @property
    def best(self) -> float:
        """The accuracy of the epoch that was kept."""
        return max(self.accuracies)


def train(task: TrainingTask, config: TrainingConfig, folder: Path, seed: int, report: ProgressReport) -> History:
    """Train, resuming from `folder` where a checkpoint is there; leave the model at its best epoch.

    The untrained model counts as epoch 0, so training never ends below where it began. It stops early
    when `config.patience` epochs bring nothing better, or where it diverges. Writes `state.pt` after each
    epoch and `best.safetensors` at each new best.

    Returns:
        How it went; the model is the best epoch's.

    Raises:
        CheckpointError: the checkpoint in `folder` is damaged or of another model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = _optimizer(task.model, config)
    state = _resume(folder / "state.pt", task.model, optimizer)
    if not state.history:
        _judge(task, state, folder)
    total = config.epochs * task.steps_per_epoch
    bar = report.start(f"training {task.name}", total, state.epoch * task.steps_per_epoch)
    while state.epoch < config.epochs:
        reason = _reason_to_stop(state, config)
        if reason is not None:
            report.say(f"{task.name}: {reason}")
            break
        torch.manual_seed(seed * 10_007 + state.epoch)
        loss = _learn(task, config, optimizer, state.epoch, lambda: report.step(bar))
        if loss is None:
            _close_diverged(task, state, folder, optimizer)
            continue
        _close_epoch(task, state, folder, optimizer, loss)
        report.say(f"{task.name}: epoch {state.epoch}/{config.epochs}, validation accuracy {state.history[-1]:.4f}")
    report.finish(bar)
    load_into(task.model, folder / "best.safetensors")
    task.model.eval()
    return History(tuple(state.history), tuple(state.losses), state.diverged_in)


def _reason_to_stop(state: TrainingState, config: TrainingConfig) -> str | None:
    if state.diverged_in is not None:
        return f"diverged in epoch {state.diverged_in}; the model of epoch {state.best_epoch} is kept"
    if config.patience is not None and state.epoch - state.best_epoch >= config.patience:
        return f"stops early, nothing better since epoch {state.best_epoch}"
    return None


def _learn(
    task: TrainingTask, config: TrainingConfig, optimizer: torch.optim.AdamW, epoch: int, step: Callable[[], None]
) -> float | None:
    """The mean loss of one epoch; None, and no step more, once a loss, a gradient or a weight is not finite."""
    task.model.train()
    losses: list[float] = []
    for index, loss in enumerate(task.epoch_losses(epoch)):
        done = epoch * task.steps_per_epoch + index
        factor = _schedule(done, config.epochs * task.steps_per_epoch, config.warmup_ratio)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]) or not _step(task.model, optimizer, loss, factor):
            return None
        step()
    is_finite = all(bool(torch.isfinite(parameter).all()) for parameter in task.model.parameters())
    return sum(losses) / max(1, len(losses)) if is_finite else None


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    head = [p for name, p in model.named_parameters() if name.startswith(HEAD_PREFIX)]
    body = [p for name, p in model.named_parameters() if not name.startswith(HEAD_PREFIX)]
    groups = [
        {"params": [p for p in body if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in body if p.dim() <= 1], "weight_decay": 0.0},
        {"params": head, "weight_decay": config.weight_decay, "lr": config.head_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.AdamW) -> TrainingState:
    state = load_state(path)
    if state is None:
        return TrainingState()
    model.load_state_dict(state.model)
    optimizer.load_state_dict(state.optimizer)
    return state


def _schedule(step: int, total: int, warmup_ratio: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warmup = max(1, round(total * warmup_ratio))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _step(model: nn.Module, optimizer: torch.optim.AdamW, loss: Tensor, factor: float) -> bool:
    """Whether the gradient was finite, and so a step was taken."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
    if not math.isfinite(norm.item()):
        return False
    optimizer.step()
    return True


def _close_epoch(
    task: TrainingTask, state: TrainingState, folder: Path, optimizer: torch.optim.AdamW, loss: float
) -> None:
    state.epoch += 1
    state.losses.append(loss)
    _judge(task, state, folder)
    state.model, state.optimizer = task.model.state_dict(), optimizer.state_dict()
    save_state(folder / "state.pt", state)


def _close_diverged(task: TrainingTask, state: TrainingState, folder: Path, optimizer: torch.optim.AdamW) -> None:
    """Keep the best epoch's weights, and that this is where it ends: another run would diverge the same way."""
    state.diverged_in = state.epoch + 1
    load_into(task.model, folder / "best.safetensors")
    state.model, state.optimizer = task.model.state_dict(), optimizer.state_dict()
    save_state(folder / "state.pt", state)


def _judge(task: TrainingTask, state: TrainingState, folder: Path) -> None:
    task.model.eval()
    accuracy = task.accuracy()
    state.history.append(accuracy)
    if accuracy >= state.best_accuracy:
        state.best_accuracy, state.best_epoch = accuracy, state.epoch
        save_weights(folder / "best.safetensors", task.model.state_dict())
