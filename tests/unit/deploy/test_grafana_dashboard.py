"""The dashboard's JSON: complete, in order, and asking only for what the rules record or the services export."""

from __future__ import annotations

import json
import re

from tests.support.metric_names import DASHBOARD, dashboard_expressions, rule_expressions

DOCUMENT = json.loads(DASHBOARD.read_text(encoding="utf-8"))
ROWS = ["Offload", "Outcomes", "Latency", "Gate and audits", "Cloud", "Fleet service"]


def test_its_rows_are_in_the_order_in_which_an_operator_looks() -> None:
    assert [panel["title"] for panel in DOCUMENT["panels"] if panel["type"] == "row"] == ROWS
    assert DOCUMENT["schemaVersion"] >= 39


def test_every_panel_reads_from_the_chosen_datasource_and_says_what_it_shows() -> None:
    panels = [panel for panel in DOCUMENT["panels"] if panel["type"] != "row"]
    assert len(panels) > 20
    for panel in panels:
        assert panel["description"]
        assert {panel["datasource"]["uid"], *(each["datasource"]["uid"] for each in panel["targets"])} == {
            "${datasource}"
        }


def test_no_two_panels_share_an_id_or_a_place() -> None:
    ids = [panel["id"] for panel in DOCUMENT["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENT["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_what_the_dashboard_takes_from_the_rules_is_recorded_there() -> None:
    recorded = set(re.findall(r"- record: (\S+)", rule_expressions()))
    asked = {name for text in dashboard_expressions() for name in re.findall(r"tandem:[a-z_]+:?[a-z0-9_]*", text)}
    assert asked
    assert asked <= recorded
