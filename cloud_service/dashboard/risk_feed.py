"""What the page of risks looks at."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.dashboard.place_feed import PlaceFeed
from cloud_service.dashboard.risk_view import RiskView


@dataclass(frozen=True)
class RiskPlace:
    """What is looked at: a gate by its digest ("" for the one that most devices run), and a ring."""

    digest: str = ""
    ring: str = ""


RiskFeed = PlaceFeed[RiskPlace, RiskView]
