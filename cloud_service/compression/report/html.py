"""The report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloud_service.compression.report import drawings, wording
from cloud_service.compression.report.document import Report

_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS = (
    wording.count,
    wording.percent,
    wording.interval,
    wording.counted,
    wording.points,
    wording.difference,
    wording.probability,
    wording.megabytes,
    wording.milliseconds,
    wording.millions,
    wording.seconds,
    wording.small,
)


def render(report: Report) -> str:
    """`report` as an HTML page, UTF-8 when written. Every text of the report is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update({each.__name__: each for each in _FILTERS})
    environment.globals["share_left"] = wording.share_left
    environment.globals["drawings"] = drawings
    return environment.get_template("report.html.j2").render(report=report)
