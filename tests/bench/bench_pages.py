"""How long each page takes on a store of ten thousand devices with the fleet's full retention.

The fleet's own rows go back all the way: an hour of ten seconds, two days of minutes, thirty days of hours, two years
of days. Rows of single devices go back as far as any page looks at all of them (--device-days, -hours, -minutes: more).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from cloud_service.fleet.buckets import DAY_S, HOUR_S, MINUTE_S
from tests.bench.report import Figure, finish
from tests.support.fleet_process import CloudRole, write_cloud_toml
from tests.support.full_store import Extent, device_name, fill_store

ROUNDS = 20
PAGES = {
    "overview, 15 minutes": "?range=15m",
    "overview, 24 hours": "?range=24h",
    "offload by ring, 24 hours": "offload",
    "offload by device, 1 hour": "offload?by=device&range=1h",
    "offload by device, 24 hours": "offload?by=device",
    "offload by device, 7 days": "offload?by=device&range=7d",
    "offload by device, a year": "offload?by=device&range=1y",
    "offload by model version, 30 days": "offload?by=version&range=30d",
    "offload by reason, 7 days": "offload?by=reason&range=7d",
    "offload by label, 24 hours": "offload?by=label",
    "offload by label, a year": "offload?by=label&range=1y",
    "offload against the day before": "offload?against=before",
    "offload as CSV": "offload.csv?by=label&range=7d",
    "devices by name": "devices",
    "devices by p99, page 100": "devices?sort=-p99&page=100",
    "devices found by a part of the name": "devices?q=0012&sort=-offload",
    "one device, 24 hours": f"devices/{device_name(1234)}",
    "one device, 30 days": f"devices/{device_name(1234)}?range=30d",
}


def page_ms(web: CloudRole, path: str) -> list[float]:
    """Wall time of the page, asked for again and again; the overview no more often than it is read anew."""
    took = []
    for _ in range(ROUNDS):
        time.sleep(0.21 if path.startswith("?") else 0.0)
        began_s = time.perf_counter()
        with urllib.request.urlopen(web.url + path, timeout=60.0) as answer:
            answer.read()
        took.append((time.perf_counter() - began_s) * 1e3)
    return took


def extent_of(arguments: list[str]) -> tuple[Extent, list[str]]:
    """How far back single devices' rows go, and what is left of the command line."""
    parser = argparse.ArgumentParser(add_help=False)
    usual = Extent()
    parser.add_argument("--devices", type=int, default=usual.devices)
    parser.add_argument("--device-days", type=int, default=usual.days_s // DAY_S)
    parser.add_argument("--device-hours", type=int, default=usual.hours_s // HOUR_S)
    parser.add_argument("--device-minutes", type=int, default=usual.minutes_s // MINUTE_S)
    found, rest = parser.parse_known_args(arguments)
    spans = (found.device_minutes * MINUTE_S, found.device_hours * HOUR_S, found.device_days * DAY_S)
    return Extent(found.devices, *spans), rest


def main() -> None:
    """Fill, measure and print."""
    extent, sys.argv[1:] = extent_of(sys.argv[1:])
    figures = []
    with tempfile.TemporaryDirectory() as name:
        config = write_cloud_toml(Path(name), 1)
        file = Path(name) / "data" / "fleet.sqlite"
        began_s = time.perf_counter()
        rows = fill_store(file, int(time.time()), extent)
        megabytes = file.stat().st_size / 1e6
        print(
            f"{extent.devices:,} devices, {rows:,} rows, {megabytes:,.0f} MB, {time.perf_counter() - began_s:.0f} s\n"
        )
        with CloudRole(config, "web") as web:
            for words, path in PAGES.items():
                took = page_ms(web, path)
                p95 = statistics.quantiles(took, n=20)[-1]
                figures.append(Figure(f"{words}: p95 of {ROUNDS}", p95, min(took), max(took), "ms", "≤ 300"))
    finish(figures, __doc__ or "")


if __name__ == "__main__":
    main()
