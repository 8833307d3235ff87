from __future__ import annotations

from cloud_service.config import FleetSettings
from cloud_service.fleet.buckets import DAY_S, FINE_S, HOUR_S, MINUTE_S, Retention
from cloud_service.fleet.retention import retention_of


def test_counts_are_kept_as_long_as_the_settings_say() -> None:
    settings = FleetSettings(fine_kept_minutes=5, retention_minutes=90, hours_kept_days=3, days_kept_days=40)
    kept_since_s = retention_of(settings).kept_since(100 * DAY_S)
    assert kept_since_s[FINE_S] == 100 * DAY_S - 5 * MINUTE_S
    assert kept_since_s[MINUTE_S] == 100 * DAY_S - 90 * MINUTE_S
    assert kept_since_s[HOUR_S] == 97 * DAY_S and kept_since_s[DAY_S] == 60 * DAY_S


def test_the_usual_retention_is_that_of_the_settings_that_say_nothing() -> None:
    assert retention_of(FleetSettings()) == Retention()
