"""A target in the configuration decides how small the pruned network is, and the report says whether it was met."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tiny_compression import CONFIG, run_model_command, write_tiny_compression


@dataclass(frozen=True)
class Pruning:
    """What a run up to pruning says of it."""

    before: int
    after: int
    note: str
    warnings: list[str]


def pruned(folder: Path, target: str) -> Pruning:
    config = write_tiny_compression(folder, CONFIG.replace("keep_ratio = 0.5", f"[prune.target]\n{target}"))
    assert run_model_command(config, "prune") == 0
    report: dict[str, Any] = json.loads((folder / "work" / "report.json").read_text(encoding="utf-8"))
    (note,) = [note for note in report["notes"] if note.startswith("pruned sizes: ")]
    cost = {when: report["cost"][when]["multiply_accumulates"] for when in ("before", "after")}
    return Pruning(cost["before"], cost["after"], note, report["warnings"])


def test_a_network_is_pruned_to_a_share_of_its_arithmetic(tmp_path: Path) -> None:
    found = pruned(tmp_path, "multiply_accumulates_ratio = 0.8")
    assert 0.6 * found.before < found.after <= 0.8 * found.before
    assert "multiply-accumulates, the target" in found.note and found.warnings == []


def test_a_latency_that_no_network_reaches_gives_the_smallest_and_a_warning(tmp_path: Path) -> None:
    found = pruned(tmp_path, "latency_ms = 1e-9")
    assert found.after < 0.7 * found.before
    assert len(found.warnings) == 1 and "the pruning target could not be met: the smallest" in found.warnings[0]
    assert " ms, the target 1e-09" in found.note


def test_a_latency_that_the_whole_network_has_removes_nothing(tmp_path: Path) -> None:
    found = pruned(tmp_path, "latency_ms = 1e6")
    assert found.after == found.before and found.warnings == []
    assert " ms, the target 1e+06" in found.note


def test_other_threads_measure_the_latency_anew(tmp_path: Path) -> None:
    for threads in (1, 2):
        wanted = CONFIG.replace("keep_ratio = 0.5", "[prune.target]\nlatency_ms = 1e6")
        config = write_tiny_compression(tmp_path, wanted.replace("[tuning]", f"[tuning]\nthreads = {threads}"))
        assert run_model_command(config, "prune") == 0
    assert len(list(tmp_path.glob("work/full-*"))) == 1 and len(list(tmp_path.glob("work/pruned-*"))) == 2
