"""From the view to HTML. Pure apart from reading the templates once."""

from __future__ import annotations

from markupsafe import Markup

from cloud_service.dashboard.navigation import Frame
from cloud_service.dashboard.ranges import RANGES
from cloud_service.dashboard.templating import make_templates
from cloud_service.dashboard.view import Overview

Regions = dict[str, str]
"""By the id of an element of the page: its content, HTML."""

_REGIONS = ("status", "notices", "headline", "risk_now", "charts", "devices", "details")


class Pages:
    """The templates, compiled."""

    def __init__(self) -> None:
        self._environment = make_templates()

    def regions(self, view: Overview) -> Regions:
        """The parts of the page that change."""
        return {name: self._environment.get_template(f"{name}.html").render(view=view) for name in _REGIONS}

    def page(self, view: Overview, regions: Regions, frame: Frame) -> str:
        """The whole page with `regions` in their places, in its frame."""
        whole = {name: Markup(html) for name, html in regions.items()}  # noqa: S704 - our own, escaped when rendered
        template = self._environment.get_template("page.html")
        return template.render(view=view, regions=whole, ranges=RANGES.values(), frame=frame)
