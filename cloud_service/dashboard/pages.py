"""From the view to HTML. Pure apart from reading the templates once."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from cloud_service.dashboard import wording
from cloud_service.dashboard.chart import Chart
from cloud_service.dashboard.ranges import RANGES
from cloud_service.dashboard.view import Overview

Regions = dict[str, str]
"""By the id of an element of the page: its content, HTML."""

_REGIONS = ("status", "notices", "headline", "charts", "devices", "details")
_TEMPLATES = Path(__file__).parent / "templates"


class Pages:
    """The templates, compiled."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for each in (wording.count, wording.signed_count, wording.percent, wording.milliseconds, wording.moment,
                     wording.hour_and_minute, wording.iso, wording.bucket_words):  # fmt: skip
            self._environment.filters[each.__name__] = each
        self._environment.globals["points"] = _points_json

    def regions(self, view: Overview) -> Regions:
        """The parts of the page that change."""
        return {name: self._environment.get_template(f"{name}.html").render(view=view) for name in _REGIONS}

    def page(self, view: Overview, regions: Regions) -> str:
        """The whole page with `regions` in their places."""
        whole = {name: Markup(html) for name, html in regions.items()}  # noqa: S704 - our own, escaped when rendered
        return self._environment.get_template("page.html").render(view=view, regions=whole, ranges=RANGES.values())


def _points_json(chart: Chart) -> str:
    """[[begins_s, ends_s, text], …] for the page's script."""
    points = [[each.begins_s, each.ends_s, each.text] for each in chart.points]
    return json.dumps(points, ensure_ascii=False, separators=(",", ":"))
