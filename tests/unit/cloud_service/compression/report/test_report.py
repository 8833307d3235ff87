"""The report as a document and as a page."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cloud_service.compression.report import drawings
from cloud_service.compression.report.choosing import Choice, Menu, Variant
from cloud_service.compression.report.document import Report
from cloud_service.compression.report.files import write_report
from cloud_service.compression.report.html import render
from cloud_service.compression.report.wording import milliseconds, percent, points, probability, seconds
from shared.documents import canonical_json, read_document

HOSTILE = '<script>alert("x")</script> & "quoted"'


def test_a_report_is_read_back_as_it_was_written(full_report: Report, bare_report: Report, tmp_path: Path) -> None:
    for report in (full_report, bare_report):
        assert read_document(Report, canonical_json(report)) == report
    files = write_report(full_report, tmp_path / "new" / "folder")
    read = read_document(Report, files.document.read_bytes())
    assert any(each.is_on_front for each in read.variants())
    assert "What was chosen and why" in files.page.read_text(encoding="utf-8")


def test_a_page_without_sections_says_so_of_each(bare_report: Report) -> None:
    page = render(bare_report)
    for words in ("Nothing was chosen", "No precision was tried", "Nothing was pruned", "Nothing was distilled",
                  "The models were not evaluated", "No gate was calibrated", "No step has ended"):  # fmt: skip
        assert words in page
    assert "<svg" not in page


def test_numbers_come_with_their_part_and_interval(full_report: Report) -> None:
    page = render(full_report)
    assert re.search(r"842 of 1\u202f000 validation texts", page)
    assert re.search(r"of 3\u202f080 test texts", page)
    assert "not metered" in page
    assert "NOT_IMPLEMENTED" in page
    assert "Label “card_swallowed” has one sample." in page


def test_the_page_tells_the_times_that_decided(full_report: Report) -> None:
    assert "by timing them in turns: plan 1 2.7\u202fms, plan 3 2.4\u202fms." in render(full_report)


def test_the_page_tells_the_time_against_the_same_network_in_fp32(full_report: Report) -> None:
    said = "edge model, its median time by that of the same network in FP32 (range of rounds): 0.53 (0.51 to 0.58)"
    assert said in render(full_report)


def test_a_trial_tells_its_note_beside_what_came_of_it(full_report: Report) -> None:
    assert full_report.tuning is not None
    trial = full_report.tuning.trials[0]
    noted = dataclasses.replace(trial, variant=dataclasses.replace(trial.variant, note="least offload: 12.5%"))
    for outcome, written in (("", "least offload: 12.5%"), ("measured", "measured · least offload: 12.5%")):
        tuning = dataclasses.replace(full_report.tuning, trials=(dataclasses.replace(noted, outcome=outcome),))
        assert f'<td class="words">{written}</td>' in render(dataclasses.replace(full_report, tuning=tuning))


def test_latencies_forecast_for_a_device_are_not_drawn_among_those_taken_here(full_report: Report) -> None:
    assert full_report.tuning is not None
    assert "5 variants" in str(drawings.accuracy_against_size(dataclasses.replace(full_report, tuning=None)))
    assert drawings.accuracy_against_forecast(full_report) is None
    assert "17 variants" in str(drawings.accuracy_against_latency(full_report))
    tuning = dataclasses.replace(full_report.tuning, forecast_for="Cortex-A72")
    report = dataclasses.replace(full_report, tuning=tuning)
    assert "5 variants" in str(drawings.accuracy_against_latency(report))
    assert "12 variants" in str(drawings.accuracy_against_forecast(report))
    page = render(report)
    assert "Plans: forecast for Cortex-A72" in page and "Latencies are forecasts for Cortex-A72" in page


def test_the_page_says_how_latencies_were_taken(full_report: Report) -> None:
    page = render(full_report)
    assert "in turns with the FP32 network" in page and "ran that graph alone" not in page


def test_layers_that_the_search_did_not_reach_are_told(full_report: Report) -> None:
    assert full_report.sensitivity is not None
    assert "layers were tried alone" not in render(full_report)
    for all_layers, is_told in ((6, False), (50, True)):
        sensitivity = dataclasses.replace(full_report.sensitivity, all_layers=all_layers)
        page = render(dataclasses.replace(full_report, sensitivity=sensitivity))
        assert ("6 of 50 layers were tried alone" in page) is is_told


def test_text_of_others_is_escaped_everywhere(full_report: Report) -> None:
    assert full_report.menu and full_report.sensitivity and full_report.pruning and full_report.data
    first = full_report.menu.rows[0]
    layers = full_report.sensitivity.layers
    hostile = dataclasses.replace(
        full_report,
        name=HOSTILE,
        menu=Menu((dataclasses.replace(first, name=HOSTILE, note=HOSTILE), Variant(HOSTILE, failure=HOSTILE))),
        choice=Choice(HOSTILE, {HOSTILE: HOSTILE}, HOSTILE, 0.01, False, HOSTILE),
        sensitivity=dataclasses.replace(
            full_report.sensitivity,
            layers=(dataclasses.replace(layers[0], layer=HOSTILE, precision=HOSTILE),),
        ),
        pruning=dataclasses.replace(
            full_report.pruning, layers=(dataclasses.replace(full_report.pruning.layers[0], layer=HOSTILE),)
        ),
        data=dataclasses.replace(full_report.data, name=HOSTILE, warnings=(HOSTILE,), rows={HOSTILE: 1}),
        notes=(HOSTILE,),
        warnings=(HOSTILE,),
    )
    page = render(hostile)
    assert "<script" not in page
    assert '"quoted"' not in page
    assert page.count("&lt;script&gt;") > 12


def test_the_page_asks_for_nothing_and_runs_nothing(full_report: Report) -> None:
    page = render(full_report)
    assert not re.search(r"<script|https?://|@import|url\(|<img|onclick", page)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (percent(0.9123), "91.2\u202f%"),
        (percent(None), "–"),
        (points(-0.0123), "−1.2"),
        (points(0.004), "+0.4"),
        (probability(1e-9), "below 0.001"),
        (milliseconds(3.4212), "3.42\u202fms"),
        (milliseconds(812.4), "812\u202fms"),
        (seconds(59.94), "59.9\u202fs"),
        (seconds(200), "3\u202fmin 20\u202fs"),
        (seconds(7500), "2\u202fh 5\u202fmin"),
    ],
)
def test_numbers_are_said_plainly(written: str, wanted: str) -> None:
    assert written == wanted
