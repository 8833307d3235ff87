"""What a run tells of itself: warnings that must not be missed, and times that mean something."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_service.compression.diary import Diary
from cloud_service.compression.report.document import Report
from cloud_service.compression.report.files import JSON_NAME
from cloud_service.compression.shrinking import Cut
from shared.documents import read_document
from tests.support.tiny_compression import (
    CONFIG,
    open_tiny_workshop,
    run_model_command,
    tiny_learner,
    write_tiny_compression,
)

TARGET = CONFIG.replace("keep_ratio = 0.5", "[prune.target]\nbytes = 45000").replace(', "int8-dynamic"]', "]")


def read_report(folder: Path) -> Report:
    return read_document(Report, (folder / "work" / JSON_NAME).read_bytes())


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report]:
    """The reports of a run and of its rerun; FP32 ships although the target is of INT8."""
    folder = tmp_path_factory.mktemp("twice")
    config, reports = write_tiny_compression(folder, TARGET), []
    for _ in range(2):
        assert run_model_command(config, "evaluate") == 0
        reports.append(read_report(folder))
    return reports[0], reports[1]


def test_a_target_that_pruning_met_and_the_shipped_model_exceeds_is_a_warning(twice: tuple[Report, Report]) -> None:
    assert not [line for line in twice[0].warnings if "the pruning target" in line]
    assert [line for line in twice[0].warnings if "prune.target.bytes allows 45000" in line]


def test_a_rerun_tells_the_times_of_the_run_that_did_the_steps(twice: tuple[Report, Report]) -> None:
    first, again = ({step.name: step.seconds for step in report.steps} for report in twice)
    assert again == first and len(first) == 7


@pytest.mark.parametrize("is_faithful", [True, False])
def test_a_cut_vocabulary_that_reads_texts_otherwise_is_a_warning(tmp_path: Path, is_faithful: bool) -> None:
    workshop = open_tiny_workshop(tmp_path)
    diary = Diary(workshop)
    diary.cut(Cut(tiny_learner(workshop), "vocabulary: 50 of 90 pieces stay", is_faithful))
    report = diary.report()
    told = report.notes if is_faithful else report.warnings
    assert told == ("vocabulary: 50 of 90 pieces stay",)
    assert len(report.notes) + len(report.warnings) == 1
