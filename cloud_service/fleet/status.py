"""How the fleet service itself is doing, for the page to judge how fresh its figures are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FleetStatus:
    """Written with every commit. Times: server's clock, seconds since 1970-01-01 UTC. `broker`: host:port."""

    started_s: int
    written_s: int
    broker: str
    is_broker_connected: bool
    broker_error: str = ""
