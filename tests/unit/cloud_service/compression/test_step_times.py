"""A step's time is that of the run that did it."""

from __future__ import annotations

from pathlib import Path

from cloud_service.compression.step_times import NAME, StepTimes


def test_reading_work_back_does_not_change_how_long_it_took(tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert StepTimes(work).first_seconds("full model", "full-1", 120.0) == 120.0
    assert StepTimes(work).first_seconds("full model", "full-1", 0.1) == 120.0


def test_another_result_or_step_has_a_time_of_its_own(tmp_path: Path) -> None:
    times = StepTimes(tmp_path)
    times.first_seconds("full model", "full-1", 120.0)
    assert times.first_seconds("full model", "full-2", 60.0) == 60.0
    assert times.first_seconds("vocabulary", "full-1", 1.0) == 1.0
    assert StepTimes(tmp_path).first_seconds("full model", "full-1", 0.1) == 120.0


def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"{")
    assert StepTimes(tmp_path).first_seconds("full model", "full-1", 3.0) == 3.0
    assert StepTimes(tmp_path).first_seconds("full model", "full-1", 0.1) == 3.0
