"""How long counts are kept, as the settings have it: the fleet service prunes by it, and pages look no further back."""

from __future__ import annotations

from cloud_service.config import FleetSettings
from cloud_service.fleet.buckets import DAY_S, MINUTE_S, Retention


def retention_of(settings: FleetSettings) -> Retention:
    """How long counts are kept."""
    return Retention(
        fine_s=settings.fine_kept_minutes * MINUTE_S,
        minutes_s=settings.retention_minutes * MINUTE_S,
        hours_s=settings.hours_kept_days * DAY_S,
        days_s=settings.days_kept_days * DAY_S,
    )
