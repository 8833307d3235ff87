"""A killed training run ends as an unbroken one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cloud_service.compression.config import TrainingConfig
from cloud_service.compression.errors import CheckpointError
from cloud_service.compression.progress import progress_report
from cloud_service.compression.tensors import load_state, load_weights
from cloud_service.compression.training import History, TrainingTask, train

PLAN = TrainingConfig(epochs=4, learning_rate=0.05, head_learning_rate=0.1)
STEPS = 5


class Killed(Exception):
    """Stands for kill -9: nothing after it runs."""


@dataclass(frozen=True)
class Trained:
    """A model after training, and its accuracy now."""

    model: nn.Module
    history: History
    accuracy: float


class TinyModel(nn.Module):
    """Two layers with dropout, so that a wrong random state would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(6, 8)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(torch.tanh(self.body(x)))
        logits: Tensor = self.head(hidden)
        return logits


def run(
    folder: Path,
    plan: TrainingConfig = PLAN,
    killed_in_epoch: int | None = None,
    begin: Mapping[str, Tensor] | None = None,
) -> Trained:
    model = TinyModel()
    if begin is not None:
        model.load_state_dict(begin)
    inputs = torch.randn(STEPS * 4, 6, generator=torch.Generator().manual_seed(1))
    targets = (inputs.sum(dim=1) > 0).long()

    def epoch_losses(epoch: int) -> Iterator[Tensor]:
        for step in range(STEPS):
            if epoch == killed_in_epoch and step == 3:
                raise Killed
            rows = slice(step * 4, step * 4 + 4)
            yield nn.functional.cross_entropy(model(inputs[rows]), targets[rows])

    def accuracy() -> float:
        return float((model(inputs).argmax(dim=1) == targets).float().mean())

    with progress_report(quiet=True) as report:
        history = train(TrainingTask("tiny", model, STEPS, epoch_losses, accuracy), plan, folder, 7, report)
    return Trained(model, history, accuracy())


def assert_same_weights(first: Trained, second: Trained) -> None:
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_run_killed_within_an_epoch_resumes_to_the_same_weights(tmp_path: Path, epoch: int) -> None:
    unbroken = run(tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(tmp_path / "broken", killed_in_epoch=epoch)
    assert_same_weights(run(tmp_path / "broken"), unbroken)


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = (tmp_path / "state.pt").stat().st_mtime_ns
    assert_same_weights(run(tmp_path), first)
    assert (tmp_path / "state.pt").stat().st_mtime_ns == before


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path) -> None:
    run(tmp_path / "good")
    good = load_weights(tmp_path / "good" / "best.safetensors")
    trained = run(tmp_path / "worse", TrainingConfig(epochs=2, learning_rate=9.0, head_learning_rate=9.0), begin=good)
    assert trained.accuracy == max(trained.history.accuracies) > trained.history.accuracies[-1]
    assert all(torch.equal(tensor, good[name]) for name, tensor in trained.model.state_dict().items())


def test_patience_ends_training_once_that_many_epochs_brought_nothing_better(tmp_path: Path) -> None:
    run(tmp_path / "good")
    good = load_weights(tmp_path / "good" / "best.safetensors")
    plan = TrainingConfig(epochs=40, learning_rate=9.0, head_learning_rate=9.0, patience=3)
    trained = run(tmp_path / "patient", plan, begin=good)
    after_best = trained.history.accuracies[trained.history.accuracies.index(trained.history.best) :]
    assert len(after_best) == 1 + 3 and len(trained.history.losses) < 40


@pytest.mark.parametrize("rate", [1e12, 1e30])
def test_training_that_diverges_keeps_the_best_epoch_and_finite_figures(tmp_path: Path, rate: float) -> None:
    plan = TrainingConfig(epochs=4, learning_rate=rate, head_learning_rate=rate)
    trained = run(tmp_path, plan)
    assert trained.history.diverged_in is not None
    assert len(trained.history.losses) == trained.history.diverged_in - 1
    assert all(map(isfinite, trained.history.losses + trained.history.accuracies))
    assert trained.accuracy == trained.history.best
    state = load_state(tmp_path / "state.pt")
    assert state is not None and all(torch.isfinite(tensor).all() for tensor in state.model.values())


def test_training_that_diverged_is_not_repeated(tmp_path: Path) -> None:
    plan = TrainingConfig(epochs=4, learning_rate=1e30, head_learning_rate=1e30)
    first = run(tmp_path, plan)
    before = (tmp_path / "state.pt").stat().st_mtime_ns
    again = run(tmp_path, plan)
    assert_same_weights(again, first)
    assert again.history == first.history
    assert (tmp_path / "state.pt").stat().st_mtime_ns == before


def test_a_damaged_checkpoint_says_so(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="delete it to start again"):
        run(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": Path("/")}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "state.pt")
