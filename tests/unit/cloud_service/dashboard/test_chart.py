from __future__ import annotations

import re

import pytest

from cloud_service.dashboard.chart import offload_chart, outcome_chart
from cloud_service.dashboard.ranges import RANGES, axis_of
from cloud_service.fleet.tally import Tally
from shared.types import RequestCounters

SINCE_S = 1_800_000_000 - 1_800_000_000 % 3600
AXIS = axis_of(RANGES["1h"], SINCE_S)


def tally(*, edge: int = 0, cloud: int = 0, degraded: int = 0) -> Tally:
    accepted = edge + cloud + degraded
    return Tally(
        RequestCounters(
            received=accepted,
            accepted=accepted,
            edge=edge,
            cloud=cloud,
            degraded=degraded,
            wanted=cloud + degraded,
        )
    )


def test_an_empty_chart_says_so_and_still_has_its_time_axis() -> None:
    for chart in (offload_chart(AXIS, {}), outcome_chart(AXIS, {})):
        assert chart.is_empty and len(chart.points) == 60
        assert [tick.unix_s - SINCE_S for tick in chart.x_ticks] == [0, 900, 1800, 2700]


def test_the_line_breaks_where_nothing_was_accepted() -> None:
    busy = tally(edge=9, cloud=1)
    chart = offload_chart(AXIS, {SINCE_S: busy, SINCE_S + 60: busy, SINCE_S + 600: busy})
    line = next(shape.path for shape in chart.shapes if shape.name == "line")
    assert line.count("M") == 2
    assert not chart.is_empty


@pytest.mark.parametrize(("wanted", "top"), [(1, "5.0%"), (9, "10.0%"), (30, "50.0%"), (100, "100.0%")])
def test_the_ratio_axis_fits_the_values(wanted: int, top: str) -> None:
    chart = offload_chart(AXIS, {SINCE_S: tally(edge=100 - wanted, cloud=wanted)})
    assert chart.y_ticks[0].text == top


@pytest.mark.parametrize(("highest", "top"), [(1, "2"), (3, "4"), (7, "8"), (10, "10"), (11, "20"), (1999, "2,000")])
def test_the_count_axis_ends_at_a_round_number_that_halves(highest: int, top: str) -> None:
    chart = outcome_chart(AXIS, {SINCE_S: tally(edge=highest)})
    assert chart.y_ticks[0].text == top
    assert int(top.replace(",", "")) % 2 == 0


def test_bars_stand_on_one_another_and_fill_their_share() -> None:
    chart = outcome_chart(AXIS, {SINCE_S: tally(edge=10, cloud=6, degraded=4)})
    bars = {
        shape.name: [float(number) for number in re.findall(r"-?[\d.]+", shape.path)[:4]]
        for shape in chart.shapes
        if shape.path
    }
    assert set(bars) == {"edge", "cloud", "degraded"}
    top = 0.0
    for name, share in (("degraded", 20), ("cloud", 30), ("edge", 50)):
        _, y, _, height = bars[name]
        assert [y, height] == pytest.approx([top, share])
        top += height


def test_each_bucket_is_told_in_words() -> None:
    tallies = {SINCE_S: tally(edge=3, cloud=1)}
    assert offload_chart(AXIS, tallies).points[0].text == "25.0%, wanted 1 of 4 accepted"
    assert outcome_chart(AXIS, tallies).points[0].text == "3 edge, 1 cloud"
    assert offload_chart(AXIS, tallies).points[1].text == "nothing accepted"
    assert outcome_chart(AXIS, tallies).points[1].text == "no requests"
