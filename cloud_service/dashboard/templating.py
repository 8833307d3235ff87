"""The templates, compiled, with the filters that all of them may use."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from cloud_service.dashboard import wording
from cloud_service.dashboard.chart import points_json

_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS = (
    wording.count,
    wording.signed_count,
    wording.percent,
    wording.milliseconds,
    wording.moment,
    wording.hour_and_minute,
    wording.iso,
    wording.bucket_words,
    wording.day_of,
    wording.utc_field,
)


def make_templates() -> Environment:
    """Text is escaped, and a name that is missing is an error."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for each in _FILTERS:
        environment.filters[each.__name__] = each
    environment.globals["points"] = points_json
    return environment
