"""Whatever is wrong with what a user gives, one line says what to do, or the report says what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shared.bundle import read_bundle
from tests.support.tiny_compression import CONFIG, run_model_command, tiny_rows, write_csv, write_tiny_compression

LONG_TEXT = "where is my card " * 50


def said_on_failure(config: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the failed command writes."""
    assert run_model_command(config) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "Traceback" not in said.err
    return said.err


def test_an_empty_text_names_its_row_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_tiny_compression(tmp_path)
    write_csv(tmp_path / "train.csv", [*tiny_rows(), (" ", "card")])
    said = said_on_failure(config, capsys)
    assert "train.csv: row 181 has an empty text; fill it or remove the row" in said


def test_weights_that_are_no_numbers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_tiny_compression(tmp_path)
    file = tmp_path / "checkpoint" / "model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    save_file({**weights, name: np.full_like(weights[name], np.nan)}, file, metadata={"format": "pt"})
    said = said_on_failure(config, capsys)
    assert f"NaN or infinity: {name}" in said and "take another checkpoint" in said


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("max_length = 16", "max_lenght = 16", "data.max_lenght: unknown key, did you mean max_length?"),
        ("[prune]", "[purne]", "purne: unknown key, did you mean prune?"),
        ('"int8-dynamic"]', '"int8-dinamic"]', "tuning.choices: no precision int8-dinamic; there are fp32, int8-dyn"),
        ("[tuning]", '[tuning]\nlatency_table = "tabel.json"', "tabel.json: no latency table can be read"),
        ('checkpoint = "checkpoint"', 'checkpoint = "chekpoint"', "chekpoint: is not a folder"),
    ],
)
def test_a_typo_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, complaint: str
) -> None:
    assert old in CONFIG
    config = write_tiny_compression(tmp_path, CONFIG.replace(old, new, 1))
    assert complaint in said_on_failure(config, capsys)
    assert not list(tmp_path.glob("work/*/*.pt"))


@dataclass(frozen=True)
class Run:
    """What a finished command left."""

    folder: Path
    report: dict[str, Any]
    page: str


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on data with a lonely label and long texts, with a target and a limit that nothing can meet."""
    folder = tmp_path_factory.mktemp("demanding")
    wanted = CONFIG.replace("keep_ratio = 0.5", "[prune.target]\nbytes = 1")
    config = write_tiny_compression(folder, wanted.replace("[tuning]", "[tuning]\ntolerance = 0.0\nmax_bytes = 1"))
    rows = [*tiny_rows(), ("please help with this", "lonely"), *[(LONG_TEXT, "card")] * 5]
    write_csv(folder / "train.csv", rows)
    assert run_model_command(config) == 0
    report = json.loads((folder / "work" / "report.json").read_text(encoding="utf-8"))
    return Run(folder, report, (folder / "work" / "report.html").read_text(encoding="utf-8"))


def test_a_label_with_one_sample_is_noted(demanding: Run) -> None:
    note = "labels with a single sample, which can be learnt or tested but not both: lonely"
    assert note in demanding.report["data"]["warnings"] and note in demanding.page


def test_texts_beyond_the_limit_are_counted(demanding: Run) -> None:
    notes = [note for note in demanding.report["notes"] if "exceed the limit of 16 tokens" in note]
    assert len(notes) == 1 and 1 <= int(notes[0].split()[0]) <= 5 and notes[0] in demanding.page


@pytest.mark.parametrize("what", ["the pruning target could not be met", "tuning: no plan"])
def test_a_target_that_nothing_meets_is_a_warning(demanding: Run, what: str) -> None:
    said = [warning for warning in demanding.report["warnings"] if what in warning]
    assert len(said) == 1 and said[0] in demanding.page


def test_the_best_that_was_found_is_packaged_and_called_what_it_is(demanding: Run) -> None:
    assert demanding.report["choice"]["is_tolerance_met"] is False
    for tier in ("full", "edge"):
        assert "lonely" in read_bundle(demanding.folder / "bundles" / f"tiny-{tier}").manifest.labels
