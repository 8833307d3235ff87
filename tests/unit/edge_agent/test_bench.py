"""A device times bundles and probes, and says in one line what it cannot time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_agent.bench import measure_bundle, peak_memory_bytes
from edge_agent.cli import main
from edge_agent.probing import device_class, record_probes
from shared.clock import SystemClock
from shared.errors import MeasurementError
from shared.latency_table import read_latency_table
from shared.probes import INDEX_NAME
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_probes import SOUND, write_tiny_probes

QUICK = ["--rounds", "3"]


def test_a_bundle_is_timed_at_several_lengths(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_folder), "--tokens", "4,8", *QUICK]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("tiny 1.0.0, onnxruntime")
    assert "peak memory" in said[1]
    assert [line.split()[0] for line in said[3:]] == ["4", "8"]


def test_a_bundles_figures_can_be_had_as_json(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tiny_folder), "--json", *QUICK]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["model"] == "tiny" and figures["rounds"] == 3
    assert figures["peak_bytes"] >= figures["before_bytes"] > 1_000_000
    assert 0 < figures["lengths"][0]["median_ms"] <= figures["lengths"][0]["p90_ms"]


def test_a_text_longer_than_the_bundle_takes_is_shortened(tiny_folder: Path) -> None:
    figures = measure_bundle(tiny_folder, 1, 1, (8, 32, 64), SystemClock())
    assert [one.tokens for one in figures.lengths] == [8, 16]


def test_probes_are_timed_into_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_probes(tmp_path / "kit")
    table_path = tmp_path / "table.json"
    assert main(["bench", str(tmp_path / "kit"), "--record", str(table_path), "--tokens", "4,16", *QUICK]) == 0
    table = read_latency_table(table_path)
    assert [(timing.product, timing.tokens) for timing in table.timings] == [(SOUND, 1), (SOUND, 4), (SOUND, 16)]
    assert all(timing.median_ms > 0 for timing in table.timings) and table.overhead_ms > 0
    assert table.device.threads == 1 and table.device.cpu and table.network == "tiny" and table.rounds == 3
    assert not table.unsupported and "3 timings of tiny" in capsys.readouterr().out
    assert list(tmp_path.glob(".table*")) == []


def test_a_probe_that_onnx_runtime_refuses_does_not_stop_the_others(tmp_path: Path) -> None:
    write_tiny_probes(tmp_path, garbage=b"no graph", endless=float("inf"))
    table = record_probes(tmp_path, 1, 2, (4,), SystemClock())
    assert {timing.product for timing in table.timings} == {SOUND}
    reasons = {entry.product.choice: entry.reason for entry in table.unsupported}
    assert "cannot load" in reasons["garbage"] and "not finite" in reasons["endless"]


def test_a_kit_of_which_nothing_runs_writes_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_probes(tmp_path / "kit")
    (tmp_path / "kit" / "fp32" / "model.onnx").write_bytes(b"no graph")
    assert main(["bench", str(tmp_path / "kit"), "--record", str(tmp_path / "table.json")]) == 2
    assert "no probe runs on this device" in capsys.readouterr().err
    assert not (tmp_path / "table.json").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda kit: (kit / INDEX_NAME).unlink(), "there is no probe kit here"),
        (lambda kit: (kit / INDEX_NAME).write_text('{"network": "tiny", "pro'), "not the index of a probe kit"),
        (lambda kit: (kit / INDEX_NAME).write_text("{}"), "not the index of a probe kit"),
        (lambda kit: (kit / "fp32" / "model.onnx").unlink(), "and it is not there"),
        (lambda kit: replace_in(kit / INDEX_NAME, "fp32/model.onnx", "../model.onnx"), "outside the kit"),
        (lambda kit: replace_in(kit / INDEX_NAME, '"format": 1', '"format": 2'), "format 2"),
        (lambda kit: replace_in(kit / INDEX_NAME, '"outputs": 4', '"outputs": 0'), "is no matrix"),
        (lambda kit: (kit / "overhead" / "model.onnx").write_bytes(b"?"), "overhead graph does not load"),
    ],
)
def test_a_damaged_kit_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: object, said: str
) -> None:
    write_tiny_probes(tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    assert main(["bench", str(tmp_path), "--record", str(tmp_path / "table.json"), *QUICK]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def replace_in(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_table_that_cannot_be_written_is_told_before_anything_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for table, said in ((tmp_path, "is a folder"), (tmp_path / "no" / "table.json", "there is no folder")):
        assert main(["bench", str(tmp_path / "nothing"), "--record", str(table)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_to_write_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    assert main(["bench", str(tmp_path), "--record", str(tmp_path / "table.json")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_probes_without_record_and_a_missing_bundle_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_probes(tmp_path)
    assert main(["bench", str(tmp_path)]) == 2
    assert "say --record" in capsys.readouterr().err
    assert main(["bench", str(tmp_path / "away")]) == 2
    assert "there is no bundle here" in capsys.readouterr().err


def test_a_damaged_bundle_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.onnx").write_bytes(b"no graph")
    assert main(["bench", str(tmp_path / "tiny")]) == 2
    assert "model.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--tokens", "16,,32"], ["--tokens", "0"], ["--rounds", "-1"], ["--threads", "a"]])
def test_counts_that_are_none_are_usage_errors(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["bench", "bundle", *wrong])
    assert exit_info.value.code == 2 and "is not a whole number above 0" in capsys.readouterr().err


def test_a_device_names_its_cpu_also_on_arm(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Cortex-A76\n")
    assert device_class(2, cpuinfo).cpu == "Cortex-A76" and device_class(2, cpuinfo).threads == 2
    cpuinfo.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n")
    assert device_class(1, cpuinfo).cpu.endswith("implementer 0x41 part 0xd0b")
    assert device_class(0, tmp_path / "none").threads >= 1


def test_peak_memory_counts_what_was_held() -> None:
    before = peak_memory_bytes()
    held = bytearray(before + 30_000_000)
    assert peak_memory_bytes() > before + 20_000_000
    del held


def test_a_missing_folder_is_a_measurement_error(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="no probe kit"):
        record_probes(tmp_path / "away", 1, 1, (4,), SystemClock())
