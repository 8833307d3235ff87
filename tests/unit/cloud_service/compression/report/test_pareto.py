"""The front: what nothing beats."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from cloud_service.compression.report.document import Report
from cloud_service.compression.report.pareto import Point, pareto_front, with_front_marked

FEW = st.integers(0, 6).map(float)
POINTS = st.lists(st.builds(Point, FEW, st.tuples(FEW, FEW)), max_size=15)


@given(POINTS)
def test_every_point_off_the_front_is_beaten_by_one_on_it(points: list[Point]) -> None:
    flags = pareto_front(points)
    front = [point for point, is_on_front in zip(points, flags, strict=True) if is_on_front]
    for point, is_on_front in zip(points, flags, strict=True):
        assert any(other.beats(point) for other in front) is not is_on_front


@given(POINTS)
def test_the_best_in_quality_at_least_cost_is_on_the_front(points: list[Point]) -> None:
    if points:
        best = min(points, key=lambda point: (-point.quality, point.costs))
        assert pareto_front(points)[points.index(best)]


def test_points_alike_are_both_on_the_front() -> None:
    assert pareto_front([Point(1, (2,)), Point(1, (2,)), Point(1, (3,))]) == (True, True, False)


def test_a_report_marks_menu_and_trials_together_and_never_a_failure(full_report: Report) -> None:
    marked = with_front_marked(full_report)
    on_front = {each.name for each in marked.variants() if each.is_on_front}
    assert "int8 static" in on_front and "float32" not in on_front
    assert not on_front & {"ternary", "plan 13"}
    assert marked.menu is not None and full_report.menu is not None
    assert [row.name for row in marked.menu.rows] == [row.name for row in full_report.menu.rows]


def test_forecasts_for_a_device_and_times_of_this_machine_have_a_front_each(full_report: Report) -> None:
    assert full_report.tuning is not None and full_report.menu is not None
    slow = tuple(
        dataclasses.replace(trial, variant=dataclasses.replace(trial.variant, latency_ms=1e4, file_bytes=10**9))
        for trial in full_report.tuning.trials[:1]
    )
    timed_here = dataclasses.replace(full_report, tuning=dataclasses.replace(full_report.tuning, trials=slow))
    assert not with_front_marked(timed_here).variants()[-1].is_on_front
    tuning = dataclasses.replace(full_report.tuning, trials=slow, forecast_for="Cortex-A72")
    marked = with_front_marked(dataclasses.replace(full_report, tuning=tuning))
    assert marked.variants()[-1].is_on_front
    assert [row.name for row in marked.variants()[:-1] if row.is_on_front] == [
        row.name
        for row in with_front_marked(dataclasses.replace(full_report, tuning=None)).variants()
        if row.is_on_front
    ]


def test_a_report_without_variants_stays_as_it_is(bare_report: Report) -> None:
    assert with_front_marked(bare_report) == bare_report
