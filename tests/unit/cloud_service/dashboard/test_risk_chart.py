from __future__ import annotations

import dataclasses

import pytest

from cloud_service.dashboard.risk_chart import Measured, certified_steps, place_at, places_of, risk_chart
from shared.gate import Risk
from tests.support.watched_gates import certified_gate

GATE = certified_gate()
ERROR = GATE.certificate(Risk.KEPT_ERROR)


def test_places_run_from_strict_to_loose_and_hold_every_certified_threshold() -> None:
    places = places_of(ERROR)
    thresholds = [place.threshold for place in places]
    assert thresholds == sorted(thresholds, reverse=True)
    for step in certified_steps(ERROR):
        place = place_at(ERROR, step.threshold or 0.0)
        assert place is not None and (place.kept, place.errors) == (step.kept, step.errors)


def test_between_two_places_the_stricter_one_speaks() -> None:
    strict, loose = places_of(ERROR)[3:5]
    found = place_at(ERROR, (strict.threshold + loose.threshold) / 2)
    assert found == strict
    assert place_at(ERROR, 2.0) is None


def test_all_marks_and_lines_lie_in_the_field() -> None:
    chart = risk_chart(GATE, [Measured("canary", "", 0.2, 0.03, 0.01, 0.9)])
    for mark in (*chart.steps, *chart.today):
        assert 0 <= mark.left <= 100
        assert 0 <= mark.upper <= mark.top <= mark.lower <= 100
    assert chart.today[0].is_cut
    assert all(shape.path.startswith("M") and "nan" not in shape.path for shape in chart.shapes)


def test_a_gate_without_any_certified_threshold_is_drawn_without_a_region() -> None:
    steps = tuple(dataclasses.replace(step, threshold=None) for step in ERROR.steps)
    bare = dataclasses.replace(GATE, certificates=(dataclasses.replace(ERROR, steps=steps, curve=()),))
    chart = risk_chart(bare, [])
    assert [shape.path for shape in chart.shapes] == ["", ""]
    assert chart.scale.left(0.5) == pytest.approx(50.0)
