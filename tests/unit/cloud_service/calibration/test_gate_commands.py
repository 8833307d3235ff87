"""The `gate` commands as a user runs them."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_service.cli import main
from shared.bundle import Tier, read_bundle
from shared.gate import Risk, Score, score_values
from tests.support.tiny_bundle import write_tiny_bundle

LABELS = 6


def outputs(count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, LABELS)) * 3.0
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > random.uniform(size=(count, 1))).argmax(axis=1)
    return {"logits": logits, "labels": labels}


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "scores.npz"
    np.savez(path, **arrays)
    return str(path)


def calibrated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["gate", "calibrate", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("label_dtype", [np.int8, np.uint16, np.int64, np.float32])
def test_json_holds_a_threshold_that_keeps_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: type, label_dtype: type
) -> None:
    arrays = outputs(3000)
    logits: NDArray[Any] = arrays["logits"].astype(dtype)
    labels: NDArray[Any] = arrays["labels"].astype(label_dtype)
    found = calibrated(capsys, "--scores", saved(tmp_path, logits=logits, labels=labels), "--alpha", "0.05")
    assert found["threshold"] is not None and found["reason"] == ""
    assert found["risk_bound"] <= 0.05
    assert (found["n"], found["n_tuning"] + found["n_certifying"]) == (3000, 3000)
    kept = score_values(logits, Score(found["score"]), found["temperature"]) >= found["threshold"]
    assert 1 - kept.mean() == pytest.approx(found["expected_offload"], abs=0.02)
    assert (logits.argmax(axis=1) != arrays["labels"])[kept].mean() <= 0.05


def test_whole_numbers_serve_as_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = outputs(2000)
    path = saved(tmp_path, logits=(10 * arrays["logits"]).astype(np.int16), labels=arrays["labels"])
    assert calibrated(capsys, "--scores", path, "--alpha", "0.1")["threshold"] is not None


def test_the_same_seed_finds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, **outputs(1500))
    arguments = ("--scores", path, "--alpha", "0.05", "--delta", "0.1", "--seed")
    assert calibrated(capsys, *arguments, "3") == calibrated(capsys, *arguments, "3")
    assert calibrated(capsys, *arguments, "3") != calibrated(capsys, *arguments, "4")


def test_disagreement_needs_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = outputs(2000)
    path = saved(tmp_path, logits=arrays["logits"], full_model_labels=arrays["labels"])
    found = calibrated(capsys, "--scores", path, "--alpha", "0.05", "--risk", "kept-disagreement")
    assert found["risk"] == "kept-disagreement" and found["threshold"] is not None


def test_a_grid_is_certified_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, **outputs(3000))
    found = calibrated(capsys, "--scores", path, "--alpha", "0.05,0.1", "--alpha", "0.2")
    assert [step["alpha"] for step in found["steps"]] == [0.05, 0.1, 0.2]
    assert found["threshold"] == found["steps"][0]["threshold"]
    alone = calibrated(capsys, "--scores", path, "--alpha", "0.05")
    assert alone["threshold"] <= found["threshold"], "one alpha has all of delta"


def test_words_name_what_json_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, **outputs(3000))
    found = calibrated(capsys, "--scores", path, "--alpha", "0.05")
    assert main(["gate", "calibrate", "--scores", path, "--alpha", "0.05"]) == 0
    words = capsys.readouterr().out
    for part in (repr(found["threshold"]), found["score"], repr(found["temperature"]), "expected offload", "at most"):
        assert part in words


def test_words_say_why_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, **outputs(40))
    found = calibrated(capsys, "--scores", path, "--alpha", "0.001")
    assert found["threshold"] is None and found["shortfall"]["more_samples"] > 2000
    assert main(["gate", "calibrate", "--scores", path, "--alpha", "0.001"]) == 0
    assert found["reason"] in capsys.readouterr().out


NOTHING = np.zeros((0, 3))
LOGITS = np.zeros((4, 3))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"labels": np.zeros(4)}, "needs the array logits"),
        ({"logits": LOGITS}, "needs the array labels"),
        ({"logits": np.zeros(4), "labels": np.zeros(4)}, r"it must be \[n, k\]"),
        ({"logits": NOTHING, "labels": np.zeros(0)}, "at least one row"),
        ({"logits": np.zeros((4, 1)), "labels": np.zeros(4)}, "two columns"),
        ({"logits": np.full((4, 3), np.nan), "labels": np.zeros(4)}, "not a number"),
        ({"logits": np.full((4, 3), np.inf), "labels": np.zeros(4)}, "far too large"),
        ({"logits": LOGITS, "labels": np.zeros(3)}, r"must be \[4\]"),
        ({"logits": LOGITS, "labels": np.full(4, 3)}, "may be 0 to 2"),
        ({"logits": LOGITS, "labels": np.full(4, -2)}, "-1 for none"),
        ({"logits": LOGITS, "labels": np.full(4, 0.5)}, "not a whole number"),
        ({"logits": LOGITS, "labels": np.full(4, np.nan)}, "not a whole number"),
        ({"logits": LOGITS, "labels": np.array(["a"] * 4)}, "whole numbers"),
        ({"logits": np.array([["a"]]), "labels": np.zeros(1)}, "floats or integers"),
        ({"logits": np.array([[None]]), "labels": np.zeros(1)}, "not a NumPy archive of plain arrays"),
    ],
)
def test_arrays_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray], said: str
) -> None:
    assert main(["gate", "calibrate", "--scores", saved(tmp_path, **arrays), "--alpha", "0.05"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--alpha", "1.5"], "alpha 1.5"),
        (["--alpha", "0.05", "--delta", "0"], "delta 0"),
        (["--alpha", "0.05,0.05"], "named twice"),
        (["--alpha", "0.05,0.05000000000001"], "named twice"),
        ([], "--alpha"),
        (["--alpha", "0.05", "--seed", "-1"], "--seed"),
        (["--alpha", "0.05", "--guarantee", "expectation"], "joint"),
        (["--alpha", "0.05", "--data", "x.csv"], "go with --bundle"),
    ],
)
def test_wishes_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["gate", "calibrate", "--scores", saved(tmp_path, **outputs(50)), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "one.npy", LOGITS)
    for name, said in (("text.npz", "not a NumPy archive"), ("one.npy", "numpy.savez"), ("none.npz", "no such file")):
        assert main(["gate", "calibrate", "--scores", str(tmp_path / name), "--alpha", "0.05"]) == 2
        assert said in capsys.readouterr().err


def questions(path: Path, count: int) -> str:
    """Texts of which the tiny bundle is sure and right, torn, or sure and wrong."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "category"))
        for number in range(count):
            label = ("card", "cash", "loan")[number % 3]
            writer.writerow(
                (f"{label} card cash" if number % 10 == 0 else label, "weather" if number % 50 == 7 else label)
            )
    return str(path)


def test_a_bundles_gate_is_replaced_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edge, full = tmp_path / "edge", tmp_path / "full"
    write_tiny_bundle(edge)
    write_tiny_bundle(full, tier=Tier.FULL)
    before = {path.name: path.read_bytes() for path in edge.iterdir()}
    arguments = ["gate", "calibrate", "--bundle", str(edge), "--full", str(full), "--alpha", "0.05,0.1"]
    data = ["--data", questions(tmp_path / "certify.csv", 900), "--tuning-data", questions(tmp_path / "tune.csv", 200)]
    assert main([*arguments, *data, "--critical", "loan=0.02", "--critical", "cash=escalate"]) == 0
    words = capsys.readouterr().out
    assert "certify.csv: 900 texts" in words and "'cash': its answers are always escalated" in words
    gate = read_bundle(edge).gate
    assert gate is not None and gate.in_force == {Risk.KEPT_ERROR: 0.05, Risk.KEPT_DISAGREEMENT: 0.05}
    assert gate.threshold() is not None and gate.score_histogram is not None
    assert sum(gate.score_histogram.counts) == 900
    changed = {path.name for path in edge.iterdir() if path.read_bytes() != before[path.name]}
    assert changed == {"gate.json", "bundle.json"}


def test_the_same_texts_do_not_tune_and_certify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edge, full = tmp_path / "edge", tmp_path / "full"
    write_tiny_bundle(edge)
    write_tiny_bundle(full, tier=Tier.FULL)
    data = questions(tmp_path / "data.csv", 100)
    command = ["gate", "calibrate", "--bundle", str(edge), "--full", str(full), "--data", data, "--tuning-data", data]
    assert main(command) == 2
    assert "what tunes may not certify" in capsys.readouterr().err


def test_bundles_that_do_not_belong_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edge, full = tmp_path / "edge", tmp_path / "full"
    write_tiny_bundle(edge)
    write_tiny_bundle(full, tier=Tier.FULL, labels=("card", "cash"))
    data = questions(tmp_path / "data.csv", 100)
    for one, other, said in ((edge, full, "different labels"), (full, edge, "must be an edge bundle")):
        command = ["gate", "calibrate", "--bundle", str(one), "--full", str(other), "--data", data]
        assert main(command) == 2
        assert said in capsys.readouterr().err


def test_explain_says_what_is_promised_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edge, full, page = tmp_path / "edge", tmp_path / "full", tmp_path / "gate.html"
    write_tiny_bundle(edge)
    write_tiny_bundle(full, tier=Tier.FULL)
    data = questions(tmp_path / "data.csv", 900)
    assert main(["gate", "calibrate", "--bundle", str(edge), "--full", str(full), "--data", data]) == 0
    capsys.readouterr()
    assert main(["gate", "explain", str(edge), "--html", str(page)]) == 0
    words = capsys.readouterr().out
    for part in ("with probability 0.9", "* in force", "kept-disagreement", "# in force", "SHA-256"):
        assert part in words
    text = page.read_text()
    assert text.count("<svg") == 2 and "http" not in text and "prefers-color-scheme: dark" in text


def test_explain_reads_gates_without_curves_and_refuses_bundles_without_gates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_bundle(tmp_path / "edge", threshold=None)
    write_tiny_bundle(tmp_path / "full", tier=Tier.FULL)
    assert main(["gate", "explain", str(tmp_path / "edge")]) == 0
    assert "no threshold" in capsys.readouterr().out
    assert main(["gate", "explain", str(tmp_path / "full")]) == 2
    assert "has no gate" in capsys.readouterr().err
