"""The user guide's five commands lead from a checkpoint of full size, with random weights, to a device that answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Ernie4_5ForCausalLM

from cloud_service.compression.checkpoints.reading import Checkpoint, read_checkpoint
from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.networks.build import classifier_of
from shared.bundle import read_bundle
from tests.e2e.test_documentation import GUIDE, blocks
from tests.support.agent_process import AgentProcess
from tests.support.full_size_ernie import write_full_size_ernie

SECTION = "From the hub's ERNIE-4.5-0.3B to a device"
CHECKPOINT = "ERNIE-4.5-0.3B-PT"
SUBJECTS = {"card": "my card", "transfer": "a transfer", "rate": "the exchange rate"}
PARITY = 1e-4

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a user works in, with the checkpoint."""
    folder = tmp_path_factory.mktemp("hub")
    write_full_size_ernie(folder / CHECKPOINT)
    return folder


def test_an_import_of_full_size_gives_the_logits_of_transformers(stored: Path) -> None:
    model = Ernie4_5ForCausalLM.from_pretrained(stored / CHECKPOINT, dtype=torch.float32)
    ids = [int(token) for token in np.random.default_rng(0).integers(3, model.config.vocab_size, 24)]
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0, -1].numpy()
    assert np.abs(next_token_logits(read_checkpoint(stored / CHECKPOINT, 64), ids) - expected).max() < PARITY


def next_token_logits(checkpoint: Checkpoint, ids: list[int]) -> np.ndarray:
    """What the tied output matrix makes of the last state: the network with all pieces as its labels."""
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
    tied = weights["body.embed_tokens.weight"]
    head = {"head.weight": tied, "head.bias": torch.zeros(len(tied))}
    with torch.inference_mode():
        logits: np.ndarray = classifier_of(checkpoint.shape, weights | head)(pad_batch([ids]))[0].numpy()
    return logits


def test_five_commands_lead_to_a_device_that_answers(stored: Path) -> None:
    *commands, last = blocks(GUIDE, "sh", SECTION)[0].splitlines()
    tickets, agent = blocks(GUIDE, "toml", SECTION)
    (stored / "device").mkdir()
    (stored / "tickets.toml").write_text(tickets, encoding="utf-8")
    (stored / "device" / "agent.toml").write_text(agent, encoding="utf-8")
    rows = [f"number {i}: what about {words}?,{label}" for i in range(40) for label, words in SUBJECTS.items()]
    (stored / "tickets.csv").write_text("\n".join(["text,category", *rows]), encoding="utf-8")
    for command in commands:
        run(command, stored)
    full, edge = (read_bundle(stored / "bundles" / f"tickets-{tier}") for tier in ("full", "edge"))
    assert edge.manifest.labels == full.manifest.labels == tuple(sorted(SUBJECTS))
    assert last == "edge-agent run --config device/agent.toml"
    with AgentProcess(stored / "device" / "agent.toml") as device:
        status, answer = device.post({"text": "what about the exchange rate?", "route": "edge"})
    assert status == 200 and isinstance(answer, dict) and answer["label"] in SUBJECTS


def run(command: str, folder: Path) -> None:
    """One line of the guide, in a shell that finds this environment's commands first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
