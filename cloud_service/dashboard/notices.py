"""What an operator must know before believing the figures. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_service.dashboard.wording import duration
from cloud_service.fleet.reading import FleetReading
from cloud_service.fleet.status import FleetStatus

STALE_AFTER_S = 5


@dataclass(frozen=True)
class Notice:
    """`key` names the kind; `since_s` (seconds since 1970-01-01 UTC) is the moment to show beside, if any."""

    key: str
    title: str
    text: str
    since_s: int | None = None


_NOT_READY = Notice(
    "not_ready",
    "The telemetry store is not set up yet",
    "The fleet service sets it up when it starts: run cloud-service serve, or cloud-service serve fleet alone.",
)


def notices_of(reading: FleetReading | None, now_s: int, *, stale_after_s: int = STALE_AFTER_S) -> tuple[Notice, ...]:
    """The notices for a reading taken at `now_s`; None of a store that is not set up."""
    if reading is None or reading.status is None:
        return (_NOT_READY,)
    status = reading.status
    age_s = now_s - status.written_s
    if age_s > stale_after_s:
        return (_stale(status, age_s),)
    if not status.is_broker_connected:
        return (_no_broker(status),)
    return ()


def unreadable(problem: str) -> Notice:
    """The store is there and cannot be read."""
    return Notice("unreadable", "The telemetry store cannot be read", f"{problem}. This page tries again by itself.")


def _stale(status: FleetStatus, age_s: int) -> Notice:
    return Notice(
        "stale",
        f"The fleet service has written nothing for {duration(age_s)}",
        "All figures are as old as that. Devices go on counting, and nothing is lost once it is back: "
        "run cloud-service serve fleet, or look into its log.",
        status.written_s,
    )


def _no_broker(status: FleetStatus) -> Notice:
    because = f" ({status.broker_error})" if status.broker_error else ""
    return Notice(
        "no_broker",
        f"The broker {status.broker} is not reachable",
        f"No telemetry comes in{because}. Devices go on answering and counting, and nothing is lost once it is back.",
    )
