"""Axes with round numbers, and pictures whose shapes lie inside them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_service.compression.report import drawings
from cloud_service.compression.report.axes import axis_over, nice_ticks
from cloud_service.compression.report.document import Report

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values_and_its_ticks(values: list[float], from_zero: bool) -> None:
    axis = axis_over("", values, str, from_zero=from_zero)
    assert all(-1e-6 <= axis.percent(value) <= 100 + 1e-6 for value in [*values, *axis.ticks])
    assert 1 <= len(axis.ticks) <= 12


def test_ticks_are_round() -> None:
    assert nice_ticks(0.83, 0.95, 4) == (0.84, 0.86, 0.88, 0.9, 0.92, 0.94) or nice_ticks(0.83, 0.95, 4) == (
        0.85,
        0.9,
        0.95,
    )
    assert nice_ticks(0, 77, 4) == (0, 20, 40, 60)


def test_pictures_are_well_formed_and_inside_their_field(full_report: Report) -> None:
    assert full_report.sensitivity and full_report.pruning and full_report.distillation
    for drawn in (
        drawings.accuracy_against_size(full_report),
        drawings.accuracy_against_latency(full_report),
        drawings.sensitivity_bars(full_report.sensitivity),
        drawings.kept_bars(full_report.pruning),
        drawings.loss_curves(full_report.distillation),
        drawings.accuracy_curve(full_report.distillation),
    ):
        assert drawn is not None
        ElementTree.fromstring(f"<div>{drawn}</div>")
        places = [float(place) for place in re.findall(r'"(-?[\d.]+)%"', drawn)]
        assert places and min(places) >= 0 and max(places) <= 100


def test_the_chosen_variant_is_pointed_out_once(full_report: Report) -> None:
    drawn = drawings.accuracy_against_size(full_report)
    assert drawn is not None
    assert drawn.count('class="chosen"') == 1
    assert drawn.count('class="menu"') == 5
    assert drawn.count('class="trial"') == 11


def test_nothing_to_draw_is_no_picture(bare_report: Report) -> None:
    assert drawings.accuracy_against_size(bare_report) is None


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_single_value_still_has_an_axis(value: float) -> None:
    assert 0 <= axis_over("", [value], str).percent(value) <= 100
