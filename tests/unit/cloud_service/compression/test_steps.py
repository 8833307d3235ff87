"""Each step is a command of its own, which goes on from the one before and says how far it came."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_service.compression.report.document import Report
from shared.documents import read_document
from tests.support.tiny_compression import run_model_command, write_tiny_compression

SECTIONS = {
    "train": "source",
    "prune": "pruning",
    "distil": "distillation",
    "quantize": "menu",
    "tune": "choice",
    "evaluate": "evaluation",
    "compress": "gate",
}
"""The commands in their order, and what each adds to the report; the last calibrates the gate and packages."""


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit code, what it printed, the report and the bundles after it."""

    code: int
    printed: str
    report: Report
    bundles: tuple[str, ...]
    work: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    folder = tmp_path_factory.mktemp("steps")
    config = write_tiny_compression(folder)
    return {action: run(config, action) for action in SECTIONS}


def run(config: Path, action: str) -> Ran:
    work, printed = config.parent / "work", io.StringIO()
    with redirect_stdout(printed):
        code = run_model_command(config, action)
    report = read_document(Report, (work / "report.json").read_bytes())
    bundles = tuple(sorted(path.name for path in config.parent.glob("bundles/*")))
    return Ran(code, printed.getvalue(), report, bundles, work)


@pytest.mark.parametrize("action", SECTIONS)
def test_a_step_says_where_its_report_is(runs: dict[str, Ran], action: str) -> None:
    ran = runs[action]
    assert ran.code == 0
    assert ran.printed.startswith(f"report: {ran.work / 'report.html'}\n")
    assert (ran.work / "report.html").is_file()


@pytest.mark.parametrize("action", SECTIONS)
def test_a_report_says_how_far_the_steps_came(runs: dict[str, Ran], action: str) -> None:
    report, count = runs[action].report, list(SECTIONS).index(action) + 1
    found = [section for section in SECTIONS.values() if getattr(report, section) is not None]
    assert found == list(SECTIONS.values())[:count]


def test_only_the_last_step_writes_bundles_and_says_where(runs: dict[str, Ran]) -> None:
    *before, last = runs.values()
    assert not any(ran.bundles or "bundle" in ran.printed for ran in before)
    assert last.bundles == ("tiny-edge", "tiny-full")
    assert last.printed.count("bundle: ") == 2


def test_a_step_does_not_do_again_what_an_earlier_one_did(runs: dict[str, Ran]) -> None:
    assert runs["compress"].report.evaluation == runs["evaluate"].report.evaluation
    assert measured(runs["evaluate"]) == measured(runs["tune"])
    assert measured(runs["tune"]).items() > measured(runs["quantize"]).items()


def measured(ran: Ran) -> dict[str, float | None]:
    """The latency of each variant; no two measurements agree in all of them."""
    return {variant.name: variant.latency_ms for variant in ran.report.variants()}
